import { edit } from "../graph/edit.ts";
import { type Attribute, type Graph, isNode, type Node } from "../graph/graph.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32, int64, stringTensor, type Tensor } from "../tensor/tensor.ts";

/**
 * Turns `Constant` nodes of the main graph that hold floats, at least `minElements` of them, into weights of
 * the same name, so that techniques meet constants in one place. The same graph where there are none.
 */
export function hoistConstants(graph: Graph, minElements: number): Graph {
  const found = graph.nodes.flatMap((node): [Node, Tensor][] => {
    const value = isNode(node, "Constant") ? constantValue(node) : undefined;
    if (!value || dtypes[value.dtype].kind !== "float" || value.size < minElements) return [];
    return graph.outputs.some(({ name }) => name === node.outputs[0]) ? [] : [[node, value]];
  });
  if (found.length === 0) return graph;
  return edit(graph, (draft) => {
    for (const [node, value] of found) {
      draft.replace(node);
      draft.weights.set(node.outputs[0]!, value);
    }
  });
}

/** What a `Constant` node holds; undefined for a sparse tensor. */
export function constantValue({ attributes }: Node): Tensor | undefined {
  const [[name, attribute] = ["", undefined]] = Object.entries(attributes) as [string, Attribute][];
  switch (attribute?.type) {
    case "tensor":
      return attribute.value;
    case "float":
      return float32([], [attribute.value]);
    case "floats":
      return float32([attribute.value.length], attribute.value);
    case "int":
      return int64([attribute.value], []);
    case "ints":
      return int64(attribute.value);
    case "string":
      return name === "value_string" ? stringTensor([], [attribute.value]) : undefined;
    case "strings":
      return stringTensor([attribute.value.length], attribute.value);
    default:
      return undefined;
  }
}
