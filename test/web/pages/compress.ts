import type { Batch, BatchOptions, Dataset } from "../../../src/data/dataset.ts";
import { encodeOnnx, readOnnx } from "../../../src/formats/onnx/index.ts";
import { memorySource } from "../../../src/formats/source.ts";
import type { Runtime } from "../../../src/platform/runtime.ts";
import { random } from "../../../src/random.ts";
import { techniques } from "../../../src/techniques/index.ts";
import { tensor, toFloat32 } from "../../../src/tensor/tensor.ts";
import type { PageFunction } from "../page.ts";

/** A model's file, images of [1, 16, 16] as float32 bytes, and one technique. */
export interface Job {
  readonly model: Uint8Array;
  readonly images: Uint8Array;
  readonly technique: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** The compressed model's file, and its logits for the images. */
export interface Outcome {
  readonly model: Uint8Array;
  readonly logits: readonly number[];
}

const imageBytes = 16 * 16 * 4;

function imageDataset(images: Uint8Array): Dataset {
  const count = images.length / imageBytes;
  return {
    name: "images",
    splits: ["all"],
    size: () => count,
    async *batches({ batch, limit = count, skip = 0 }: BatchOptions): AsyncGenerator<Batch> {
      const end = Math.min(count, skip + limit);
      for (let at = skip; at < end; at += batch) {
        const size = Math.min(batch, end - at);
        const bytes = images.subarray(at * imageBytes, (at + size) * imageBytes);
        yield { inputs: { image: tensor("float32", [size, 1, 16, 16], bytes) }, size };
      }
    },
  };
}

/** Applies a technique, and runs the result. */
const compress: PageFunction<Job, Outcome> = async (runtime: Runtime, { model, images, technique, options }) => {
  const context = {
    runtime,
    data: imageDataset(images),
    random: random(7),
    log() {},
    progress() {},
    skip() {},
    signal: new AbortController().signal,
  };
  const graph = await techniques[technique]!(options).apply(readOnnx(memorySource(model)), context);
  const session = await runtime.open(graph);
  const { logits } = await session.run({ image: tensor("float32", [images.length / imageBytes, 1, 16, 16], images) });
  await session.release();
  return { model: encodeOnnx(graph), logits: [...toFloat32(logits!)] };
};

export default compress;
