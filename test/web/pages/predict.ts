import { readOnnx } from "../../../src/formats/onnx/index.ts";
import { memorySource } from "../../../src/formats/source.ts";
import { tensor, toFloat32 } from "../../../src/tensor/tensor.ts";
import type { PageFunction } from "../page.ts";

/** A model's file, and images as float32 bytes. */
export interface Prediction {
  readonly model: Uint8Array;
  readonly images: Uint8Array;
  readonly count: number;
}

/** Loads a model and gives its logits, a list of 10 an image. */
const predict: PageFunction<Prediction, number[]> = async (runtime, { model, images, count }) => {
  const session = await runtime.open(readOnnx(memorySource(model)));
  const { logits } = await session.run({ image: tensor("float32", [count, 1, 16, 16], images) });
  await session.release();
  return [...toFloat32(logits!)];
};

export default predict;
