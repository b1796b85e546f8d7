import { feedsOf } from "../../data/feeds.ts";
import type { Graph } from "../../graph/graph.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import { inputMoments } from "../weight-matrices/input-moments.ts";
import { elementOrder, matrixLabel, matrixValues } from "../weight-matrices/matrix.ts";
import { gradientSums } from "./gradients.ts";
import type { Layer } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";

/** The scores of a layer's matrix, none negative: what scores least goes first, and what is zero before all else. */
export type Scorer = (layer: Layer) => Float32Array;

/** Where scores compare only within an output, as Wanda's do. */
export function comparesRows({ score, density }: PruneWeightsOptions): boolean {
  return score === "wanda" && (density === "uniform" || density === "erdos-renyi");
}

/** Whether a score is computed from data, and whether that must have labels. */
export function scoreNeeds(score: PruneWeightsOptions["score"]): "nothing" | "data" | "labels" {
  if (score === "snip" || score === "movement") return "labels";
  return score === "magnitude" || score === "random" ? "nothing" : "data";
}

/**
 * Makes ready what the scores need: statistics of the inputs, or gradients, of all layers. SparseGPT's own scores change as
 * it goes: here they are magnitudes, by which zeros are shared out among layers.
 *
 * Magnitude: Han et al. 2015. Wanda: Sun et al. 2023. Taylor: w² E[g²], LeCun et al. 1990, Molchanov et al. 2019, see
 * gradients.ts. SNIP: |w E[g]|, Lee et al. 2019. Movement: -w E[g], Sanh et al. 2020, here of one step from where the
 * weights are; gradual-pruning.ts sums it up over training.
 */
export async function scorerFor(
  graph: Graph,
  layers: readonly Layer[],
  options: PruneWeightsOptions,
  context: Context,
): Promise<Scorer> {
  const { score, samples } = options;
  switch (score) {
    case "random":
      return (layer) => {
        const chance = context.random.fork(layer.target.name);
        return matrixValues(layer, elementOrder(layer)).map((w) => (w === 0 ? 0 : chance.next()));
      };
    case "wanda": {
      const stream = feedsOf(calibrationBatches(graph, context, samples, 1, "prune-weights"));
      const moments = await inputMoments(graph, layers, "squares", stream, context);
      reportMissing(layers, moments, context);
      return (layer) => {
        const scores = magnitudes(layer);
        const norms = Float32Array.from(moments.get(layer)?.sums ?? [], Math.sqrt);
        if (norms.length > 0) scaleColumns(scores, layer, norms);
        return scores;
      };
    }
    case "taylor":
    case "snip":
    case "movement":
      return gradientScorer(graph, layers, score, options, context);
    case "magnitude":
    case "sparsegpt":
      return magnitudes;
  }
}

async function gradientScorer(
  graph: Graph,
  layers: readonly Layer[],
  score: "taylor" | "snip" | "movement",
  options: PruneWeightsOptions,
  context: Context,
): Promise<Scorer> {
  const slopes = await gradientSums(graph, layers, score === "taylor" ? "squares" : "loss", options, context);
  reportMissing(layers, slopes, context);
  if (score === "taylor") for (const squares of slopes.values()) dampedRoots(squares, options.damping);
  const products = (layer: Layer): Float32Array => {
    const [order, slope] = [elementOrder(layer), slopes.get(layer)];
    const values = matrixValues(layer, order);
    return values.map((w, i) => (slope ? w * slope[order ? order[i]! : i]! : -Math.abs(w)));
  };
  if (score !== "movement") return (layer) => products(layer).map(Math.abs);
  const low = Math.min(...layers.map((layer) => lowest(products(layer).map((v) => -v))));
  return (layer) => {
    const values = matrixValues(layer, elementOrder(layer));
    return products(layer).map((v, i) => aboveZeros(-v, values[i]!, low));
  };
}

/** Adds a share of their mean to squares and takes the roots, in place. */
function dampedRoots(squares: Float32Array, damping: number): void {
  let sum = 0;
  for (const square of squares) sum += square;
  const added = (damping * sum) / squares.length;
  for (let i = 0; i < squares.length; i++) squares[i] = Math.sqrt(squares[i]! + added);
}

/** The smallest of numbers. */
export function lowest(values: Float32Array): number {
  let least = Number.POSITIVE_INFINITY;
  for (const value of values) if (value < least) least = value;
  return least;
}

/** A score that may be negative, made one that is not: above the lowest of all, and 0 for a weight that is zero. */
export function aboveZeros(score: number, weight: number, low: number): number {
  return weight === 0 ? 0 : score - low;
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
  const names = missing.slice(0, 5).map((layer) => `'${matrixLabel(layer)}'`);
  const more = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
  context.log(`by magnitude alone, since their inputs or gradients can't be had: ${names.join(", ")}${more}`);
}
