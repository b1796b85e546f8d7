import { readOnnx } from "../../../src/formats/onnx/index.ts";
import { memorySource } from "../../../src/formats/source.ts";
import { toFloat32 } from "../../../src/tensor/tensor.ts";
import type { PageFunction } from "../chromium.ts";
import { feedsOf, type WireSamples } from "../samples.ts";

/** A model's file and what to feed it. */
export interface Prediction {
  readonly model: Uint8Array;
  readonly samples: WireSamples;
}

/** Loads a model and gives its first output for all samples. */
const predict: PageFunction<Prediction, number[]> = async (runtime, { model, samples }) => {
  const session = await runtime.open(readOnnx(memorySource(model)));
  const outputs = await session.run(feedsOf(samples));
  await session.release();
  return [...toFloat32(Object.values(outputs)[0]!)];
};

export default predict;
