import type { Batch } from "../data/dataset.ts";
import { requiredInputs } from "../data/synthetic.ts";
import { fail } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { Context } from "./technique.ts";

/**
 * Samples of the data, shuffled by the seed, in batches: of the model's own size where that is fixed (others are left
 * out), else of `usual` samples or as many as there are. Can be run through again, with the same samples each time.
 *
 * @param who the technique, for the error
 * @throws PareError where there is no data
 */
export function calibrationBatches(
  graph: Graph,
  context: Context,
  samples: number,
  usual: number,
  who: string,
): AsyncIterable<Batch> {
  const data = context.data ?? fail(who, "needs samples of what the model will see", "Give data");
  const first = requiredInputs(graph).find(
    ({ type }) => type?.kind === "tensor" && (type.shape?.length ?? 0) > 0,
  )?.type;
  const dim = first?.kind === "tensor" ? first.shape?.[0] : undefined;
  const fixed = typeof dim === "number" && dim > 0 ? dim : undefined;
  const batch = fixed ?? Math.max(1, Math.min(usual, samples, data.size() ?? usual));
  const limit = Math.ceil(samples / batch) * batch;
  const seed = context.random.fork("calibration").int(2 ** 31);
  return {
    async *[Symbol.asyncIterator]() {
      for await (const part of data.batches({ batch, limit: fixed ? limit : samples, seed })) {
        context.signal.throwIfAborted();
        if (fixed === undefined || part.size === fixed) yield part;
      }
    },
  };
}
