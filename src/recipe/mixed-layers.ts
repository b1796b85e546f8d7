import { type Graph, type Node, nodeLabel } from "../graph/graph.ts";
import { ambiguity } from "../graph/select.ts";
import { links } from "../graph/walk.ts";

/** Nodes that have to be in the same format, since they share a weight; mostly one. */
export interface Layer {
  /** Names of its nodes (labels of those without one), in the order of execution; as patterns none fits anything else. */
  readonly nodes: readonly string[];
  /** Numbers in its weights. */
  readonly elements: number;
}

/** What {@link layersOf} found. */
export interface Layers {
  readonly layers: readonly Layer[];
  /** Nodes with weights that can't be chosen, and why. */
  readonly left: readonly { readonly node: string; readonly reason: string }[];
}

/**
 * The layers of a graph that may have a format of their own: nodes that read float matrices or kernels of some size, those
 * that share one together. A node whose name fits something else too, as the pattern that it is in a recipe, can't be chosen.
 *
 * @param minElements numbers that a weight must have
 */
export function layersOf(graph: Graph, minElements: number): Layers {
  const { consumers } = links(graph);
  const groups = new Map<Node, Set<Node>>();
  const sizes = new Map<Node, number>();
  for (const [name, { dtype, shape, size }] of graph.weights) {
    if ((dtype !== "float32" && dtype !== "float16") || shape.length < 2 || size < minElements) continue;
    const readers = consumers.get(name) ?? [];
    const together = new Set(readers.flatMap((node) => [...(groups.get(node) ?? [node])]));
    for (const node of together) groups.set(node, together);
    if (readers[0]) sizes.set(readers[0], (sizes.get(readers[0]) ?? 0) + size);
  }
  const layers: Layer[] = [];
  const left: { node: string; reason: string }[] = [];
  const order = new Map(graph.nodes.map((node, i) => [node, i]));
  for (const group of new Set(groups.values())) {
    const nodes = [...group].sort((a, b) => order.get(a)! - order.get(b)!);
    const reasons = nodes.flatMap((node) => {
      const reason = ambiguity(graph, node, group);
      return reason ? [{ node: nodeLabel(node), reason }] : [];
    });
    left.push(...reasons);
    if (reasons.length === 0) {
      const elements = nodes.reduce((sum, node) => sum + (sizes.get(node) ?? 0), 0);
      layers.push({ nodes: nodes.map(nodeLabel), elements });
    }
  }
  const places = new Map(graph.nodes.map((node, i) => [nodeLabel(node), i]));
  return { layers: layers.sort((a, b) => places.get(a.nodes[0]!)! - places.get(b.nodes[0]!)!), left };
}
