import { fail } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { Session, Tensors } from "../platform/runtime.ts";
import { packedBytes } from "../tensor/dtype.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { rowsOf } from "./arrays.ts";
import type { Batch, BatchOptions, Dataset } from "./dataset.ts";

/** The size of the batch axis that a model fixes, if it does: the first axis of its first input that has two or more. */
export function fixedBatch(graph: Graph): number | undefined {
  for (const { name, type } of graph.inputs) {
    if (graph.weights.has(name) || type?.kind !== "tensor" || (type.shape?.length ?? 0) < 2) continue;
    const first = type.shape![0];
    return typeof first === "number" && first > 0 ? first : undefined;
  }
  return undefined;
}

/**
 * Feeds of batches as asked for, or of the model's own size where that is fixed: one batch at least, and no short one.
 *
 * @throws PareError where the samples do not fill a batch that is fixed
 */
export function fittingFeeds(
  graph: Graph,
  data: Dataset,
  options: BatchOptions & { readonly limit: number },
): AsyncIterable<Tensors> {
  const fixed = fixedBatch(graph);
  const limit = Math.max(fixed ?? 0, options.limit);
  return {
    async *[Symbol.asyncIterator]() {
      let isFilled = false;
      for await (const { inputs, size } of data.batches({ ...options, batch: fixed ?? options.batch, limit })) {
        if (fixed !== undefined && size < fixed) continue;
        isFilled = true;
        yield inputs;
      }
      if (!isFilled && fixed !== undefined) refuseShort(data, fixed);
    },
  };
}

/** @throws PareError that says how many samples a model takes that fixes its batch */
export function refuseShort({ name }: Dataset, batch: number): never {
  return fail(name, `does not fill a batch of ${batch}, which the model takes`, `Give ${batch} samples or more`);
}

/** Runs a batch; a short one is filled up by repeating its last sample where the model's batch axis is fixed. */
export async function runBatch(session: Session, batch: Batch, fixed: number | undefined): Promise<Tensors> {
  if (fixed === undefined || batch.size === fixed) return session.run(batch.inputs);
  const places = Array.from({ length: fixed }, (_, i) => Math.min(i, batch.size - 1));
  const filled = Object.entries(batch.inputs).map(([name, input]) => [name, rowsOf(input, places)] as const);
  const outputs = await session.run(Object.fromEntries(filled));
  return Object.fromEntries(
    Object.entries(outputs).map(([name, output]) => [
      name,
      output.shape[0] === fixed ? firstRows(output, batch.size) : output,
    ]),
  );
}

function firstRows(t: Tensor, count: number): Tensor {
  const inner = t.shape.slice(1);
  const bytes = packedBytes(
    t.dtype,
    inner.reduce((a, b) => a * b, count),
  );
  return tensor(t.dtype, [count, ...inner], t.bytes(0, bytes));
}
