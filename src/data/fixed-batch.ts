import type { Graph } from "../graph/graph.ts";
import type { Session, Tensors } from "../platform/runtime.ts";
import { packedBytes } from "../tensor/dtype.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { rowsOf } from "./arrays.ts";
import type { Batch } from "./dataset.ts";

/** The size of the batch axis that a model fixes, if it does: the first axis of its first input that has two or more. */
export function fixedBatch(graph: Graph): number | undefined {
  for (const { name, type } of graph.inputs) {
    if (graph.weights.has(name) || type?.kind !== "tensor" || (type.shape?.length ?? 0) < 2) continue;
    const first = type.shape![0];
    return typeof first === "number" && first > 0 ? first : undefined;
  }
  return undefined;
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
