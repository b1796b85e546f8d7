import { feedsOf } from "../../data/feeds.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { observeTypes } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { breathe } from "../breathe.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { type ScalableChannels, scalableChannels } from "../channel-scaling/places.ts";
import { type Scaling, scaleChannels } from "../channel-scaling/scale.ts";
import type { Context } from "../technique.ts";
import { inputMoments } from "../weight-matrices/input-moments.ts";
import { type WeightMatrix, weightMatrix } from "../weight-matrices/matrix.ts";
import { wholeGrid } from "./codes.ts";
import type { Planned } from "./gptq.ts";
import { codingError, rounded } from "./gptq-matrix.ts";
import { inPasses } from "./levels.ts";
import type { QuantizeWeightsOptions } from "./options.ts";
import { importanceOf, someRows, weightRows } from "./rows.ts";
import { viewOf } from "./view.ts";

/** Exponents tried. */
const grid = Array.from({ length: 20 }, (_, i) => i / 20);

/** One of the weights that read the same channels, as rows that stand for it. */
interface Part extends Planned {
  readonly rows: Float32Array;
}

/**
 * The graph with the channels in front of weights scaled so that coding them changes the products least, the outputs being
 * the same as before (AWQ: Lin et al. 2023):
 *
 *     W X = (W s) (X / s),  s = x^a / (w^(1-a) + 1e-4) / sqrt(max s min s)
 *
 * x is the mean magnitude of a channel, w that of its weights relative to the largest of their block, and a the exponent of
 * least error tr(E H Eᵀ), H = X Xᵀ; channels stay as they are where none errs less. What made the channels takes 1 / s up;
 * products in front of which nothing can are told of. Clipping is the part of the search for scales.
 */
export async function activationAware(
  graph: Graph,
  planned: readonly Planned[],
  options: QuantizeWeightsOptions,
  context: Context,
): Promise<Graph> {
  const stream = feedsOf(calibrationBatches(graph, context, options.samples, 1, "quantize-weights"));
  const types = await observeTypes(graph, context.runtime, await first(stream));
  const byWeight = new Map(planned.map((one) => [one.target.name, one]));
  const nodes = new Set(planned.flatMap(({ target }) => target.uses.map(({ node }) => node)));
  const { found, refused } = scalableChannels(graph, types, (node) => nodes.has(node));
  for (const { node, reason } of refused) context.skip(nodeLabel(node), `its inputs are not scaled: ${reason}`);
  const groups = found.map((at): WeightMatrix & { readonly at: ScalableChannels } => {
    return { ...weightMatrix(byWeight.get(at.readers[0]!.weight)!.target), at };
  });
  const scalings: Scaling[] = [];
  for (const part of inPasses(graph, groups, 1)) {
    const magnitudes = await inputMoments(graph, part, "magnitudes", stream, context);
    const products = await inputMoments(graph, part, "products", stream, context);
    for (const group of part) {
      context.progress(scalings.length, groups.length, "channels");
      await breathe(context);
      const [means, gram] = [magnitudes.get(group)?.sums, products.get(group)?.sums];
      if (!means || !gram) continue;
      const weights = new Set(group.at.readers.map(({ weight }) => weight));
      const scales = bestScales(
        [...weights].map((weight) => partOf(byWeight.get(weight)!)),
        means,
        gram,
      );
      if (scales) scalings.push({ at: group.at, scales });
    }
  }
  context.log(
    `scaled the inputs of ${scalings.length} of ${groups.length} layers or groups of layers that read the same`,
  );
  return scaleChannels(graph, scalings);
}

async function first(stream: AsyncIterable<Tensors>): Promise<Tensors> {
  for await (const feeds of stream) return feeds;
  return {};
}

function partOf(planned: Planned): Part {
  const view = viewOf(planned.target.layout, planned.block);
  return { ...planned, rows: someRows(weightRows(planned.target, view), view.length) };
}

/** The scales of least error; undefined where none errs less than no scales. */
function bestScales(parts: readonly Part[], means: Float64Array, gram: Float64Array): Float64Array | undefined {
  const columns = means.length;
  const x = relative(means);
  const w = weightMeans(parts, columns);
  let least = scaledError(parts, new Float64Array(columns).fill(1), gram);
  let best: Float64Array | undefined;
  for (const exponent of grid) {
    const scales = scalesOf(x, w, exponent);
    const error = scaledError(parts, scales, gram);
    if (error < least) [least, best] = [error, scales];
  }
  return best;
}

/** s of an exponent; 1 for channels that are always zero, of which nothing is known. */
function scalesOf(x: Float64Array, w: Float64Array, exponent: number): Float64Array {
  const scales = x.map((v, c) => Math.max(v ** exponent / (w[c]! ** (1 - exponent) + 1e-4), 1e-4));
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const [c, s] of scales.entries()) {
    if (x[c] === 0) continue;
    low = Math.min(low, s);
    high = Math.max(high, s);
  }
  const middle = high > 0 ? Math.sqrt(low * high) : 1;
  return scales.map((s, c) => (x[c] === 0 ? 1 : s / middle));
}

function relative(values: Float64Array): Float64Array {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return values.map((v) => (mean > 0 ? v / mean : 1));
}

/** Mean over all rows of the magnitudes of each column, relative to the largest of their block. */
function weightMeans(parts: readonly Part[], columns: number): Float64Array {
  const means = new Float64Array(columns);
  let rows = 0;
  for (const { rows: values, block: size } of parts) {
    for (let row = 0; row < values.length; row += columns, rows++) {
      for (let start = 0; start < columns; start += size) {
        const block = values.subarray(row + start, row + Math.min(columns, start + size));
        const largest = block.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        if (largest > 0) for (const [k, v] of block.entries()) means[start + k]! += Math.abs(v) / largest;
      }
    }
  }
  return means.map((sum) => sum / rows);
}

/** The error of coding W s in the products with X / s. */
function scaledError(parts: readonly Part[], scales: Float64Array, gram: Float64Array): number {
  const columns = scales.length;
  const divided = gram.map((v, at) => v / (scales[Math.floor(at / columns)]! * scales[at % columns]!));
  const importance = importanceOf(divided, columns);
  return parts.reduce((total, { rows, target, plan, block }) => {
    const scaled = rows.map((v, at) => v * scales[at % columns]!);
    const fitted = plan.whole ? wholeGrid(scaled, plan.grid, `weight '${target.name}'`) : plan.grid;
    return total + codingError(scaled, rounded(scaled, { grid: fitted, block, importance }), divided, block);
  }, 0);
}
