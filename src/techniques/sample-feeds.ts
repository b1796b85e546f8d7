import { syntheticFeeds } from "../data/synthetic.ts";
import type { Graph } from "../graph/graph.ts";
import type { Tensors } from "../platform/runtime.ts";
import { calibrationBatches } from "./calibration-batches.ts";
import type { Context } from "./technique.ts";

/**
 * Two samples, or what could be some: where shapes are all that counts, with no axis of length 1 where that can be helped.
 *
 * @param who the technique, for errors
 */
export async function sampleFeeds(graph: Graph, context: Context, who: string): Promise<Tensors> {
  if (context.data) {
    for await (const { inputs } of calibrationBatches(graph, context, 2, 2, who)) return inputs;
  }
  const shapes = graph.inputs.flatMap(({ type }) => (type?.kind === "tensor" ? (type.shape ?? []) : []));
  const dims = Object.fromEntries(shapes.flatMap((dim) => (typeof dim === "string" ? [[dim, 3]] : [])));
  return syntheticFeeds(graph, context.random.fork("feeds"), { batch: 2, dims });
}
