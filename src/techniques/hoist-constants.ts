import { edit } from "../graph/edit.ts";
import { type Graph, isNode, type Node } from "../graph/graph.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * Turns `Constant` nodes of the main graph that hold float tensors of at least `minElements` elements into weights of
 * the same name, so that techniques meet constants in one place. The same graph where there are none.
 */
export function hoistConstants(graph: Graph, minElements: number): Graph {
  const found = graph.nodes.flatMap((node): [Node, Tensor][] => {
    const value = isNode(node, "Constant") ? node.attributes.value : undefined;
    if (value?.type !== "tensor" || dtypes[value.value.dtype].kind !== "float") return [];
    return value.value.size >= minElements && !graph.outputs.some(({ name }) => name === node.outputs[0])
      ? [[node, value.value]]
      : [];
  });
  if (found.length === 0) return graph;
  return edit(graph, (draft) => {
    for (const [node, value] of found) {
      draft.replace(node);
      draft.weights.set(node.outputs[0]!, value);
    }
  });
}
