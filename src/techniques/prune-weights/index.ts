import type { Dataset } from "../../data/dataset.ts";
import { fail } from "../../errors.ts";
import { edit } from "../../graph/edit.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { withFoldedWeights } from "../quantize-weights/folded.ts";
import { nodeVerdicts } from "../quantize-weights/targets.ts";
import { type Context, technique } from "../technique.ts";
import { blocksToPrune } from "./densities.ts";
import { inputMoments, type Moments } from "./inputs.ts";
import { elementOrder, type Layer, layerLabel, matrixValues, surveyLayers } from "./layers.ts";
import { maskedTensor } from "./masked.ts";
import { type PruneWeightsOptions, pruneWeightsOptions } from "./options.ts";
import { lowestMask, type Pattern, parsePattern } from "./patterns.ts";
import { comparesRows, reportMissing, type Scorer, scorerFor } from "./scores.ts";
import { pruneWithUpdate } from "./sparsegpt.ts";

/**
 * Sets weights to zero: single ones, N of M neighbours, or blocks.
 *
 *     w -> w * mask        (sparsegpt: the weights that stay make up for those that go)
 *
 * Zeros bring bytes once the file is compressed, not milliseconds: ONNX Runtime has no kernels for sparse weights. What is
 * quantized afterwards keeps them, since all grids of this package hold zero exactly.
 * Scores: scores.ts; shares of layers: densities.ts.
 */
export const pruneWeights = technique({
  name: "prune-weights",
  summary: "Set the least important weights to zero: smaller once compressed, no faster on this runtime.",
  options: pruneWeightsOptions,
  data: "optional",
  identity: { sparsity: 0 },
  applies: nodeVerdicts(
    (graph) => {
      const { layers, skipped } = surveyLayers(graph, pruneWeightsOptions.parse({}), parsePattern("unstructured")!);
      return { targets: layers.map(({ target }) => target), skipped };
    },
    () => true,
  ),
  async apply(graph, options, context) {
    const pattern = parsePattern(options.pattern) ?? badPattern(options.pattern);
    if (pattern.kind === "blocks" && options.sparsity === 0 && Object.keys(options.layerSparsity).length === 0)
      return graph;
    checkData(options, context.data);
    const seen = hoistConstants(graph, Math.max(1, options.minElements));
    const hoisted = options.simplify ? await withFoldedWeights(seen, context) : seen;
    const { layers, skipped } = surveyLayers(hoisted, options, pattern);
    for (const { node, reason } of skipped) context.skip(nodeLabel(node), reason);
    if (layers.length === 0) return graph;
    const scorer = await scorerFor(hoisted, layers, options, context);
    const scores = async (layer: Layer): Promise<Float32Array> => {
      await breathe(context);
      return scorer(layer);
    };
    const counts = await blocksToPrune({ layers, options, pattern, scores });
    const pruned =
      options.score === "sparsegpt"
        ? await updated(hoisted, counts, pattern, options, context)
        : await masked(hoisted, counts, pattern, options, scorer, context);
    report(layers, pruned, context);
    return pruned;
  },
});

function badPattern(pattern: string): never {
  return fail(
    "prune-weights",
    `pattern '${pattern}' prunes nothing`,
    "N:M keeps N of M, with 0 < N < M; RxC are at least 1",
  );
}

function checkData({ score }: PruneWeightsOptions, data: Dataset | undefined): void {
  if (data || score === "magnitude" || score === "random") return;
  const labelled = score === "taylor" || score === "snip" ? " with labels" : "";
  fail("prune-weights", `score ${score} needs data${labelled}`, "Give --data, or use --score magnitude");
}

/** Lets the event loop turn, so that Ctrl-C is seen between weights. */
async function breathe({ signal }: Context): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal.throwIfAborted();
}

function withWeights(graph: Graph, weights: ReadonlyMap<string, Tensor>): Graph {
  return edit(graph, (draft) => {
    for (const [name, weight] of weights) draft.weights.set(name, weight);
  });
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
  context: Context & { readonly data?: Dataset },
): Promise<Graph> {
  let current = graph;
  let done = 0;
  for (const part of partsOf([...counts.keys()])) {
    const weights = new Map<string, Tensor>();
    const data = context.data!;
    const moments = await inputMoments(current, part, "products", options.samples, { ...context, data });
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

/** Says how many zeros there are, by layer and in all. */
function report(layers: readonly Layer[], pruned: Graph, context: Context): void {
  let total = 0;
  let zero = 0;
  for (const layer of layers) {
    const weight = pruned.weights.get(layer.target.name)!;
    const zeros = zerosOf(weight);
    total += weight.size;
    zero += zeros;
    context.log(`${layerLabel(layer)}: ${percent(zeros, weight.size)} of ${weight.size} weights are zero`);
  }
  const all = [...pruned.weights.values()].reduce(
    (sum, { dtype, size }) => sum + (dtypes[dtype].kind === "float" ? size : 0),
    0,
  );
  const share = `${percent(zero, total)} of the pruned layers' weights, ${percent(zero, all)} of all`;
  context.log(`zeros: ${share}; they make the compressed file smaller (gzip, brotli), not the model faster`);
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;
}

function zerosOf(weight: Tensor): number {
  const bytes = weight.bytes();
  const width = weight.byteLength / weight.size;
  let zeros = 0;
  for (let at = 0; at < bytes.length; at += width) {
    // the sign bit of a negative zero is its top one
    let any = bytes[at + width - 1]! & 0x7f;
    for (let b = 0; b < width - 1; b++) any |= bytes[at + b]!;
    if (any === 0) zeros++;
  }
  return zeros;
}
