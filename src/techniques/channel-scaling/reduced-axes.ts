import { type Graph, intAttribute, intsAttribute, isNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { ObservedType } from "../../platform/observe.ts";
import { toNumbers } from "../../tensor/tensor.ts";

/** Axes that a node (ReduceMean, ReduceSum, ...) reduces, from the end, 0 the last; undefined where they are computed. */
export function reducedAxes(
  graph: Graph,
  node: Node,
  types: ReadonlyMap<string, ObservedType>,
): readonly number[] | undefined {
  const rank = types.get(node.inputs[0]!)?.shape.length ?? 0;
  const given = node.inputs[1] ? constantNumbers(graph, node.inputs[1]) : intsAttribute(node, "axes");
  if (node.inputs[1] && !given) return undefined;
  if (!given || given.length === 0) return intAttribute(node, "noop_with_empty_axes", 0) ? [] : [...Array(rank).keys()];
  return given.map((axis) => (axis < 0 ? -axis - 1 : rank - 1 - axis));
}

/** The numbers of a weight or of what a Constant node gives; undefined for what is computed. */
export function constantNumbers(graph: Graph, name: string): readonly number[] | undefined {
  const weight = graph.weights.get(name);
  if (weight) return toNumbers(weight);
  const node = links(graph).producer.get(name);
  if (!node || !isNode(node, "Constant")) return undefined;
  const { value } = node.attributes;
  return value?.type === "tensor" ? toNumbers(value.value) : intsAttribute(node, "value_ints");
}
