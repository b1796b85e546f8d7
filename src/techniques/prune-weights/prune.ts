import { feedsOf } from "../../data/feeds.ts";
import type { Graph } from "../../graph/graph.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { withWeights } from "../../training/state.ts";
import { breathe } from "../breathe.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import { inputMoments, type Moments } from "../weight-matrices/input-moments.ts";
import { elementOrder, matrixValues } from "../weight-matrices/matrix.ts";
import { blocksToPrune, type Goal } from "./densities.ts";
import type { Layer } from "./layers.ts";
import { maskedTensor } from "./masked.ts";
import type { PruneWeightsOptions } from "./options.ts";
import { lowestMask, type Pattern } from "./patterns.ts";
import { comparesRows, reportMissing, type Scorer, scorerFor } from "./scores.ts";
import { pruneWithUpdate } from "./sparsegpt.ts";

/** Sets the lowest weights of layers to zero, as many as the goal says. */
export async function pruneOnce(
  graph: Graph,
  layers: readonly Layer[],
  goal: Goal,
  pattern: Pattern,
  options: PruneWeightsOptions,
  context: Context,
): Promise<Graph> {
  const scores = await scorerFor(graph, layers, options, context);
  const { density } = options;
  const counting = blocksToPrune({ layers, density, goal, pattern, scores });
  let counted = counting.next();
  while (!counted.done) {
    await breathe(context);
    counted = counting.next();
  }
  const counts = counted.value;
  return options.score === "sparsegpt"
    ? updated(graph, counts, pattern, options, context)
    : masked(graph, counts, pattern, options, scores, context);
}

async function masked(
  graph: Graph,
  counts: ReadonlyMap<Layer, number>,
  pattern: Pattern,
  options: PruneWeightsOptions,
  scorer: Scorer,
  context: Context,
): Promise<Graph> {
  const weights = new Map<string, Tensor>();
  for (const [layer, count] of counts) {
    context.progress(weights.size, counts.size, "weights");
    await breathe(context);
    const mask = lowestMask(scorer(layer), layer, pattern, count, comparesRows(options));
    weights.set(layer.target.name, maskedTensor(layer.target.weight, mask, elementOrder(layer)));
  }
  context.progress(counts.size, counts.size, "weights");
  return withWeights(graph, weights);
}

/** Bytes of Gram matrices held at one time. */
const gramBudget = 2 ** 28;

/** SparseGPT over as many layers at a time as memory allows; later ones see the inputs that the pruned ones make. */
async function updated(
  graph: Graph,
  counts: ReadonlyMap<Layer, number>,
  pattern: Pattern,
  options: PruneWeightsOptions,
  context: Context,
): Promise<Graph> {
  let current = graph;
  let done = 0;
  for (const part of partsOf([...counts.keys()])) {
    const weights = new Map<string, Tensor>();
    const stream = feedsOf(calibrationBatches(current, context, options.samples, 1, "prune-weights"));
    const moments = await inputMoments(current, part, "products", stream, context);
    reportMissing(part, moments, context);
    for (const layer of part) {
      context.progress(done++, counts.size, "weights");
      await breathe(context);
      weights.set(layer.target.name, updatedWeight(layer, moments.get(layer), counts.get(layer)!, pattern, options));
    }
    current = withWeights(current, weights);
  }
  context.progress(done, counts.size, "weights");
  return current;
}

function partsOf(layers: readonly Layer[]): Layer[][] {
  const parts: Layer[][] = [[]];
  let held = 0;
  for (const layer of layers) {
    const bytes = 8 * layer.groups * layer.columns ** 2;
    if (held + bytes > gramBudget && parts.at(-1)!.length > 0) {
      parts.push([]);
      held = 0;
    }
    parts.at(-1)!.push(layer);
    held += bytes;
  }
  return parts;
}

function updatedWeight(
  layer: Layer,
  moments: Moments | undefined,
  count: number,
  pattern: Pattern,
  { damping }: PruneWeightsOptions,
): Tensor {
  const { target, rows, columns } = layer;
  const order = elementOrder(layer);
  const matrix = matrixValues(layer, order);
  if (!moments) return maskedTensor(target.weight, lowestMask(matrix.map(Math.abs), layer, pattern, count), order);
  const block = pattern.kind === "blocks" ? pattern.rows * pattern.columns : pattern.of;
  const sparsity = (count * block) / matrix.length;
  const share = rows / moments.groups;
  for (let g = 0; g < moments.groups; g++) {
    const part = matrix.subarray(g * share * columns, (g + 1) * share * columns);
    const gram = moments.sums.subarray(g * columns ** 2, (g + 1) * columns ** 2);
    pruneWithUpdate(part, { rows: share, columns }, gram, { pattern, sparsity, damping });
  }
  const values = order ? new Float32Array(matrix.length) : matrix;
  if (order) for (let i = 0; i < matrix.length; i++) values[order[i]!] = matrix[i]!;
  const { dtype, shape } = target.weight;
  return tensor(dtype, shape, dtype === "float16" ? floatToHalf(values, dtype) : values);
}
