import type { Dataset } from "../../data/dataset.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Context } from "../technique.ts";
import { weightGradients } from "./gradients.ts";
import { inputMoments } from "./inputs.ts";
import { elementOrder, type Layer, layerLabel, matrixValues } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";

/** The scores of a layer's matrix, none negative: what scores least goes first. */
export type Scorer = (layer: Layer) => Float32Array;

/** Where scores compare only within an output, as Wanda's do. */
export function comparesRows({ score, density }: PruneWeightsOptions): boolean {
  return score === "wanda" && (density === "uniform" || density === "erdos-renyi");
}

/**
 * Makes ready what the scores need: statistics of the inputs, or gradients, of all layers. SparseGPT's own scores change as
 * it goes: here they are magnitudes, by which zeros are shared out among layers.
 *
 * Magnitude: Han et al. 2015. Wanda: Sun et al. 2023. Taylor: Molchanov et al. 2019. SNIP: Lee et al. 2019.
 */
export async function scorerFor(
  graph: Graph,
  layers: readonly Layer[],
  { score, samples }: PruneWeightsOptions,
  context: Context & { readonly data?: Dataset },
): Promise<Scorer> {
  const { data } = context;
  if (score === "random") {
    return (layer) => {
      const chance = context.random.fork(layer.target.name);
      return Float32Array.from({ length: layer.rows * layer.columns }, () => chance.next());
    };
  }
  if (score === "wanda" && data) {
    const moments = await inputMoments(graph, layers, "squares", samples, { ...context, data });
    reportMissing(layers, moments, context);
    return (layer) => {
      const scores = magnitudes(layer);
      const norms = Float32Array.from(moments.get(layer)?.sums ?? [], Math.sqrt);
      if (norms.length > 0) scaleColumns(scores, layer, norms);
      return scores;
    };
  }
  if ((score === "taylor" || score === "snip") && data) {
    const kind = score === "snip" ? "sum" : "squares";
    const gradients = await weightGradients(graph, layers, kind, samples, { ...context, data });
    reportMissing(layers, gradients, context);
    return (layer) => {
      const scores = magnitudes(layer);
      const gradient = gradients.get(layer);
      const order = elementOrder(layer);
      if (gradient) for (let i = 0; i < scores.length; i++) scores[i]! *= Math.abs(gradient[order ? order[i]! : i]!);
      return scores;
    };
  }
  return magnitudes;
}

function magnitudes(layer: Layer): Float32Array {
  const values = matrixValues(layer, elementOrder(layer));
  for (let i = 0; i < values.length; i++) values[i] = Math.abs(values[i]!);
  return values;
}

function scaleColumns(scores: Float32Array, { rows, columns, groups }: Layer, norms: Float32Array): void {
  for (let r = 0, at = 0; r < rows; r++) {
    const base = Math.floor((r * groups) / rows) * columns;
    for (let c = 0; c < columns; c++, at++) scores[at]! *= norms[base + c]!;
  }
}

/** Says which layers go by magnitude because nothing else is known of them. */
export function reportMissing(layers: readonly Layer[], known: ReadonlyMap<Layer, unknown>, context: Context): void {
  const missing = layers.filter((layer) => !known.has(layer));
  if (missing.length === 0) return;
  const names = missing.slice(0, 5).map((layer) => `'${layerLabel(layer)}'`);
  const more = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
  context.log(`by magnitude alone, since their inputs or gradients can't be had: ${names.join(", ")}${more}`);
}
