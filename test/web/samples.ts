import type { Batch, BatchOptions, Dataset } from "../../src/data/dataset.ts";
import type { Tensors } from "../../src/platform/runtime.ts";
import { tensor } from "../../src/tensor/tensor.ts";

/** Samples for a model of one float32 input, in a form that a page can be sent. */
export interface WireSamples {
  readonly input: string;
  /** Of one sample. */
  readonly shape: readonly number[];
  /** float32, sample after sample. */
  readonly bytes: Uint8Array;
}

/** How many samples there are. */
export function countOf({ shape, bytes }: WireSamples): number {
  return bytes.length / (4 * shape.reduce((a, b) => a * b, 1));
}

/** Some of the samples as feeds; all by default. */
export function feedsOf(samples: WireSamples, from = 0, to = countOf(samples)): Tensors {
  const { input, shape, bytes } = samples;
  const each = bytes.length / countOf(samples);
  return { [input]: tensor("float32", [to - from, ...shape], bytes.subarray(from * each, to * each)) };
}

/** The samples as an unlabelled dataset. */
export function unlabelled(samples: WireSamples): Dataset {
  const count = countOf(samples);
  return {
    name: "samples",
    splits: ["all"],
    size: () => count,
    async *batches({ batch, limit = count, skip = 0 }: BatchOptions): AsyncGenerator<Batch> {
      const end = Math.min(count, skip + limit);
      for (let at = skip; at < end; at += batch) {
        const to = Math.min(end, at + batch);
        yield { inputs: feedsOf(samples, at, to), size: to - at };
      }
    },
  };
}
