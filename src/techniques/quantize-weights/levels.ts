import type { Graph } from "../../graph/graph.ts";
import { reads } from "../../graph/walk.ts";
import type { WeightMatrix } from "../weight-matrices/matrix.ts";

/** Bytes of Gram matrices held at one time. */
const gramBudget = 2 ** 28;

/**
 * Layers in parts, each of which is calibrated in one pass over the data: by how many layers lie before them on the longest
 * path, in at most `passes` parts where memory allows, of like numbers of such steps. Lookups have no inputs that count.
 */
export function inPasses<Layer extends WeightMatrix>(
  graph: Graph,
  layers: readonly Layer[],
  passes: number,
): readonly (readonly Layer[])[] {
  const depth = depthsOf(graph, layers);
  const steps = [...new Set(depth.values())].sort((a, b) => a - b);
  const partOf = new Map(
    steps.map((step, i) => [step, Math.floor((i * Math.min(passes, steps.length)) / steps.length)]),
  );
  const parts: Layer[][] = [];
  const sorted = [...layers].sort((a, b) => depth.get(a)! - depth.get(b)!);
  let held = 0;
  let last = -1;
  for (const layer of sorted) {
    // those of the samples held out are of the same size
    const bytes = layer.use.kind === "gather" ? 0 : 16 * layer.groups * layer.columns ** 2;
    const part = partOf.get(depth.get(layer)!)!;
    if (part !== last || held + bytes > gramBudget) {
      parts.push([]);
      held = 0;
    }
    parts.at(-1)!.push(layer);
    held += bytes;
    last = part;
  }
  return parts;
}

/** How many of the layers lie before each of them, on the longest path. */
function depthsOf<Layer extends WeightMatrix>(graph: Graph, layers: readonly Layer[]): ReadonlyMap<Layer, number> {
  const users = new Map(layers.flatMap((layer) => layer.target.uses.map(({ node }) => [node, layer])));
  const products = new Map(
    layers.flatMap(({ target }) => target.uses.map(({ node, kind }) => [node, kind !== "gather"])),
  );
  const found = new Map<Layer, number>();
  const known = new Map<string, number>();
  for (const node of graph.nodes) {
    let depth = 0;
    for (const name of reads(node)) depth = Math.max(depth, known.get(name) ?? 0);
    const layer = users.get(node);
    if (layer && products.get(node)) found.set(layer, Math.max(found.get(layer) ?? 0, depth));
    for (const name of node.outputs) known.set(name, depth + (layer && products.get(node) ? 1 : 0));
  }
  for (const layer of layers) if (!found.has(layer)) found.set(layer, 0);
  return found;
}
