import { didYouMean, fail } from "../errors.ts";
import { type Graph, type Node, nodeLabel } from "../graph/graph.ts";
import { matcher } from "../graph/select.ts";

/** A layer as patterns see it: by its weight's name, where it has one, and by the nodes that compute with it. */
export interface NamedLayer {
  readonly weight?: string;
  readonly nodes: readonly Node[];
}

/** What the last of the patterns that fit a layer gives it; undefined where none fits. */
export function layerValue<T>(values: Readonly<Record<string, T>>, layer: NamedLayer): T | undefined {
  return Object.entries(values).findLast(([pattern]) => fitsLayer(layer, pattern))?.[1];
}

/**
 * Refuses a pattern that no layer fits.
 *
 * @param flag the option, as on the command line
 * @throws PareError
 */
export function checkLayerValues(
  values: Readonly<Record<string, unknown>>,
  layers: readonly NamedLayer[],
  graph: Graph,
  who: string,
  flag: string,
): void {
  for (const pattern of Object.keys(values)) {
    if (layers.some((layer) => fitsLayer(layer, pattern))) continue;
    const known = [...graph.weights.keys(), ...graph.nodes.flatMap((node) => [nodeLabel(node), node.op])];
    const hint = didYouMean(pattern, known) || "See the names with `pare inspect`";
    fail(who, `no layer that it could change fits ${flag} '${pattern}'`, hint);
  }
}

function fitsLayer({ weight, nodes }: NamedLayer, pattern: string): boolean {
  const fits = matcher(pattern);
  return (weight !== undefined && fits({ name: weight, op: "", domain: "" })) || nodes.some(fits);
}
