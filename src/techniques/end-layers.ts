import type { Graph, Node } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import { weighted } from "./quantize-weights/targets.ts";

/** The layers that no other layer comes before, or after. */
export function endNodes(graph: Graph): ReadonlyMap<Node, "first" | "last"> {
  const { consumers } = links(graph);
  const isLayer = (node: Node): boolean =>
    (weighted(node) || (node.op === "Gather" && node.domain === "")) &&
    node.inputs.some((name) => (graph.weights.get(name)?.shape.length ?? 0) >= 2);
  const ends = new Map<Node, "first" | "last">();
  const behind = new Set<string>();
  for (const node of graph.nodes) {
    const later = node.inputs.some((name) => behind.has(name));
    if (isLayer(node) && !later) ends.set(node, "first");
    if (later || isLayer(node)) for (const name of node.outputs) behind.add(name);
  }
  const before = new Set<Node>();
  for (const node of graph.nodes.toReversed()) {
    const readers = node.outputs.flatMap((name) => consumers.get(name) ?? []);
    const earlier = readers.some((reader) => before.has(reader) || isLayer(reader));
    if (earlier) before.add(node);
    else if (isLayer(node)) ends.set(node, "last");
  }
  return ends;
}
