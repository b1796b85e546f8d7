import { edit } from "../graph/edit.ts";
import type { Graph, Node } from "../graph/graph.ts";
import { consumersOf, links } from "../graph/walk.ts";
import type { ObservedType } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { solvePositive } from "./cholesky.ts";
import type { Couplings } from "./couplings.ts";
import { type Cuts, keptIndices } from "./cut.ts";
import { gathered } from "./cut-weights.ts";
import { axisCovariances, type Covariance } from "./grams.ts";
import { changeLayer, floatsOf, type LayerChange, takesShift } from "./layer-change.ts";
import { type Layout, layoutOf, outputsOf } from "./layer-layout.ts";
import { axisMoments } from "./moments.ts";
import { type Product, productsOf } from "./products.ts";
import { isFloat } from "./unit-weights.ts";

/** What repairs work with. */
export interface RepairWorld {
  readonly runtime: Runtime;
  /** Calibration feeds; can be run through again. */
  readonly feeds: AsyncIterable<Tensors>;
  readonly signal: AbortSignal;
}

/** A repaired graph, and how many layers were changed. */
export interface Repaired {
  readonly graph: Graph;
  readonly layers: number;
}

/** Share of the mean variance that is added to each: what keeps a regression on few samples from following noise. */
const ridge = 0.01;

/** Axes with more channels than this are compensated by means: solving takes their third power. */
const mostChannels = 2048;

/**
 * Lets the layers that read cut channels make up for them with what is left. A cut channel is taken for a linear function
 * of those that stay, x_r = a + A x_k + noise, fitted on calibration data by ridge regression, and put into the weights:
 *
 *     W x = W_k x_k + W_r x_r  ->  (W_k + W_r A) x_k + (b + W_r a)
 *
 * the same for all taps of a kernel (least squares for the layer behind as in He et al. 2017, by channels instead of
 * outputs). With method "mean", A is 0 and only the means go into the biases. Where a kernel reaches into padding, a is
 * too much: borders count as full. Behind the strides of a transposed convolution it is right in the mean over pixels.
 *
 * @param cut the graph that `cutUnits(found, cuts)` gave
 * @param only the layers that may change
 */
export async function compensate(
  found: Couplings,
  cuts: Cuts,
  cut: Graph,
  method: "mean" | "regression",
  world: RepairWorld,
  only: (product: Product) => boolean = () => true,
): Promise<Repaired> {
  const kept = keptIndices(found, cuts);
  const { producer } = links(cut);
  const products = productsOf(found).filter(
    (product) =>
      kept.of(product.x, product.channels) &&
      producer.has(product.node.outputs[0]!) &&
      isFloat(found.structure.constantOf(product.weight)!.dtype) &&
      only(product),
  );
  const fitOf = await fits(found, products, method, world);
  const changes = new Map<Node, LayerChange>();
  for (const product of products) {
    const node = producer.get(product.node.outputs[0]!)!;
    const covariance = fitOf(product);
    if (!covariance) continue;
    const stays = kept.of(product.x, product.channels)!;
    const weight = found.structure.constantOf(product.weight)!;
    const shared = consumersOf(found.graph, product.weight).length > 1;
    const { values, shift } = adapted(product, weight, covariance, stays, method === "regression" && !shared);
    const outputs = kept.of(node.outputs[0]!, product.outputs);
    const left = Float32Array.from(outputs ?? shift.keys(), (o) => shift[o]!);
    if (!takesShift(cut, node, left.length)) continue;
    if (left.every((v) => v === 0) && !values) continue;
    const made = values && gathered(floatsOf(weight.shape, values, weight.dtype), kept.all(product.weight)!);
    changes.set(node, { shift: left, ...(made && { weight: made }) });
  }
  const graph = edit(cut, (draft) => {
    for (const [node, change] of changes) changeLayer(draft, cut, node, change);
  });
  return { graph, layers: changes.size };
}

type Fit = Pick<Covariance, "mean"> & Partial<Covariance>;

/** Means, and for regressions covariances, of what products read. */
async function fits(
  { graph, structure }: Couplings,
  products: readonly Product[],
  method: "mean" | "regression",
  { runtime, feeds, signal }: RepairWorld,
): Promise<(product: Product) => Fit | undefined> {
  const axisOf = ({ x, channels }: Product) => ({ name: x, axis: channels });
  const sizeOfAxis = ({ x, channels }: Product): number => structure.types.get(x)!.shape[channels]!;
  const regressed = products.filter((product) => method === "regression" && sizeOfAxis(product) <= mostChannels);
  const types: ReadonlyMap<string, ObservedType> = structure.types;
  const covarianceOf = await axisCovariances(graph, runtime, regressed.map(axisOf), types, feeds, signal);
  const others = products.filter((product) => !covarianceOf(axisOf(product)));
  const momentsOf = await axisMoments(graph, runtime, others.map(axisOf), feeds, signal);
  return (product) => {
    const known = covarianceOf(axisOf(product));
    if (known) return known;
    const moments = momentsOf(axisOf(product));
    return moments && { mean: moments.sum.map((sum) => sum / moments.count) };
  };
}

/** The weight and what is added to the outputs, by the channels that stay; no weight where only means are used. */
function adapted(
  product: Product,
  weight: Tensor,
  { mean, covariance }: Fit,
  stays: readonly number[],
  regress: boolean,
): { values: Float32Array | undefined; shift: Float64Array } {
  const layout = layoutOf(product, weight);
  const keeps = new Uint8Array(mean.length);
  for (const i of stays) keeps[i] = 1;
  const original = toFloat32(weight);
  let values: Float32Array | undefined;
  const offsets = mean.map((m, i) => (keeps[i] ? 0 : m));
  for (let group = 0; regress && covariance && group < layout.groups; group++) {
    const all = Array.from({ length: layout.perGroup }, (_, i) => group * layout.perGroup + i);
    const [left, gone] = [all.filter((i) => keeps[i]), all.filter((i) => !keeps[i])];
    const factors = left.length > 0 && gone.length > 0 ? regression(covariance, mean.length, left, gone) : undefined;
    if (!factors) continue;
    values ??= original.slice();
    for (const [r, from] of gone.entries()) {
      for (const [k, to] of left.entries()) {
        const factor = factors[r * left.length + k]!;
        offsets[from]! -= factor * mean[to]!;
        addChannel(values, original, layout, from, to, factor);
      }
    }
  }
  const shift = new Float64Array(layout.outputs);
  for (let channel = 0; channel < mean.length; channel++) {
    if (offsets[channel] !== 0) addOutputs(shift, original, layout, channel, layout.seen * offsets[channel]!);
  }
  return { values, shift };
}

/** Factors [gone, left] of the regression of some channels on others. */
function regression(
  covariance: Float64Array,
  channels: number,
  left: readonly number[],
  gone: readonly number[],
): Float64Array | undefined {
  const n = left.length;
  const among = new Float64Array(n * n);
  let trace = 0;
  for (const [i, a] of left.entries()) {
    for (const [j, b] of left.entries()) among[i * n + j] = covariance[a * channels + b]!;
    trace += among[i * n + i]!;
  }
  for (let i = 0; i < n; i++) among[i * n + i]! += (ridge * trace) / n;
  const factors = new Float64Array(gone.length * n);
  for (const [r, a] of gone.entries()) {
    for (const [k, b] of left.entries()) factors[r * n + k] = covariance[a * channels + b]!;
  }
  return solvePositive(among, factors, n) ? factors : undefined;
}

function addChannel(
  values: Float32Array,
  original: Float32Array,
  layout: Layout,
  from: number,
  to: number,
  factor: number,
): void {
  const [first, end] = outputsOf(layout, from);
  for (let o = first; o < end; o++) {
    const [source, target] = [layout.at(o, from), layout.at(o, to)];
    for (let t = 0; t < layout.taps; t++) values[target + t]! += factor * original[source + t]!;
  }
}

function addOutputs(shift: Float64Array, original: Float32Array, layout: Layout, channel: number, value: number): void {
  const [first, end] = outputsOf(layout, channel);
  for (let o = first; o < end; o++) {
    const source = layout.at(o, channel);
    for (let t = 0; t < layout.taps; t++) shift[o]! += value * original[source + t]!;
  }
}
