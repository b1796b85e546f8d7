import { type Graph, intAttribute, isNode, type Node } from "../graph/graph.ts";
import { dtypes, knownDtype } from "../tensor/dtype.ts";

/** Sizes, axes and the like have no more elements than this. */
const shapeElements = 64;

/**
 * Whether a node unfolds a weight that is stored in fewer bits: it dequantizes, or casts a weight to a wider type. To
 * compute it beforehand would undo the saving.
 */
export function unpacks(node: Node, graph: Graph): boolean {
  if (/Dequantize|BlockQuantized/.test(node.op)) return true;
  const source = isNode(node, "Cast") ? graph.weights.get(node.inputs[0] ?? "") : undefined;
  const target = knownDtype(intAttribute(node, "to", 0));
  if (!source || !target || dtypes[target].bits <= dtypes[source.dtype].bits) return false;
  return dtypes[source.dtype].kind === "float" || source.size > shapeElements;
}
