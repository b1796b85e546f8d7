import type { Tensors } from "../platform/runtime.ts";
import type { Batch } from "./dataset.ts";

/** What a model is fed of batches; can be run through as often as they can. */
export function feedsOf(batches: AsyncIterable<Batch>): AsyncIterable<Tensors> {
  return {
    async *[Symbol.asyncIterator]() {
      for await (const { inputs } of batches) yield inputs;
    },
  };
}

/** The batches without their labels; can be run through as often as they can. */
export function unlabelled(batches: AsyncIterable<Batch>): AsyncIterable<Batch> {
  return {
    async *[Symbol.asyncIterator]() {
      for await (const { labels: _, ...batch } of batches) yield batch;
    },
  };
}
