import type { Graph } from "../../graph/graph.ts";
import { observeTypes } from "../../platform/observe.ts";
import type { Runtime, Tensors } from "../../platform/runtime.ts";
import { type ResidualBlock, residualBlocks } from "../../pruning/residual-blocks.ts";
import { selector } from "../selection.ts";

/**
 * The residual blocks of a graph all of whose nodes are chosen; those that can't be dropped with the reason.
 *
 * @param feeds what the graph is run on to see its shapes
 */
export async function chosenBlocks(
  graph: Graph,
  options: Parameters<typeof selector>[0],
  runtime: Runtime,
  feeds: Tensors,
): Promise<readonly ResidualBlock[]> {
  const selected = selector(options);
  const all = residualBlocks(graph, await observeTypes(graph, runtime, feeds));
  return all.filter(({ node, branch }) => selected(node) && branch.every(selected));
}
