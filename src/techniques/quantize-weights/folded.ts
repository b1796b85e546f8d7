import type { Graph, Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { Context } from "../technique.ts";
import { unpacks } from "../unpacking.ts";
import { transposed, weighted } from "./targets.ts";

/**
 * The graph simplified where a product, a convolution or a recurrent layer takes a weight that nodes compute from
 * constants (Reshape, Identity, Unsqueeze, ...), so that the weight itself is seen; any other graph as it is, since
 * simplification asks the runtime for types, which costs more than quantizing a small model.
 */
export async function withFoldedWeights(graph: Graph, context: Context): Promise<Graph> {
  if (!hidesWeights(graph)) return graph;
  const { simplify } = await import("../simplify/index.ts");
  return simplify().apply(graph, { ...context, skip: () => {} });
}

function hidesWeights(graph: Graph): boolean {
  const { producer } = links(graph);
  const computed = new Set<string>();
  for (const node of graph.nodes) {
    if (!isComputable(node, graph)) continue;
    const fixed = node.inputs.every((name) => name === "" || graph.weights.has(name) || computed.has(name));
    if (fixed) for (const name of node.outputs) computed.add(name);
  }
  const hidden = (name: string): boolean => {
    const source = computed.has(name) && producer.get(name);
    if (!source || source.op === "Constant") return false;
    const weight = graph.weights.get(source.inputs[0] ?? "");
    return !weight || transposed(graph, source, weight) === undefined;
  };
  return graph.nodes.some((node) => weighted(node) && node.inputs.slice(0, 2).some(hidden));
}

/** Nodes whose result from constants is a constant, but for those that unfold what is stored in fewer bits. */
function isComputable(node: Node, graph: Graph): boolean {
  if (node.domain !== "" || node.op.startsWith("Random") || unpacks(node, graph)) return false;
  return Object.values(node.attributes).every(({ type }) => type !== "graph" && type !== "graphs");
}
