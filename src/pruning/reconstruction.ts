import type { Runtime, Tensors } from "../platform/runtime.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { solvePositive } from "./cholesky.ts";
import type { Couplings, Group, Place } from "./couplings.ts";
import { axisCovariances, type Covariance } from "./grams.ts";
import type { UnitScores } from "./importance.ts";
import { layoutOf, outputsOf } from "./layer-layout.ts";
import { isDepthwise, type Product, productsOf } from "./products.ts";

/** Share of the mean variance that is added to each. */
const ridge = 0.01;

/** Axes with more channels than this are left: eliminating them takes their third power. */
const mostChannels = 1024;

/** A layer that reads units, as its channels are eliminated one after the other. */
interface Reader {
  /** Of every unit its indices among the channels. */
  readonly indices: Place["indices"];
  readonly channels: number;
  /** Inverse covariance [channels, channels] of what is left. */
  readonly precision: Float64Array;
  /** Products of the weights of channels [channels, channels], summed over outputs and taps. */
  readonly products: Float64Array;
  /** Variance of the outputs, all summed up. */
  readonly energy: number;
}

/**
 * Scores units by what the layers that read them lose of their outputs when they go and the units that are left make up
 * for them by regression: the share of the outputs' variance. Units go one by one, the cheapest first, and each is scored
 * by what it costs at its turn, at least by what one before it did; so units that others can stand in for go first, but
 * not all of them (channels as a whole by the saliency of Optimal Brain Surgeon, Hassibi and Stork 1992; greedy choice by
 * the error of the next layer as in ThiNet, Luo et al. 2017). What going costs with x_j the unit's channel, W_j its weights:
 *
 *     |W_j|^2 var(x_j | the others) = (W'W)_jj / (cov(x)^-1)_jj
 *
 * Taps of a kernel count as if they read independent positions.
 *
 * @param otherwise scores of groups that no layer reads by channels; scaled to the mean of the others
 */
export async function reconstructionScores(
  found: Couplings,
  groups: readonly Group[],
  world: { readonly runtime: Runtime; readonly feeds: AsyncIterable<Tensors>; readonly signal: AbortSignal },
  otherwise: (group: Group) => Float64Array,
): Promise<UnitScores> {
  const { structure } = found;
  const products = productsOf(found).filter(
    (product) =>
      !isDepthwise(product, found) && structure.types.get(product.x)!.shape[product.channels]! <= mostChannels,
  );
  const reading = new Map(groups.map((group) => [group, readersOf(found, group, products)]));
  const axes = [...reading.values()].flat().map(({ product }) => axisOf(product));
  const { runtime, feeds, signal } = world;
  const covarianceOf = await axisCovariances(found.graph, runtime, axes, structure.types, feeds, signal);
  const scores = new Map<Group, Float64Array>();
  for (const [group, parts] of reading) {
    signal.throwIfAborted();
    const states = parts.flatMap(({ product, place }) => {
      const covariance = covarianceOf(axisOf(product));
      return covariance ? (stateOf(found, product, place, covariance) ?? []) : [];
    });
    if (states.length > 0) scores.set(group, eliminate(group.units, states));
  }
  const known = [...scores.values()].flatMap((some) => [...some]);
  const mean = known.length > 0 ? sum(known) / known.length : 1;
  return new Map(
    groups.map((group) => {
      const own = scores.get(group);
      if (own) return [group, own];
      const others = otherwise(group);
      const scale = (mean * others.length) / (sum(others) || 1);
      return [group, others.map((v) => v * scale)];
    }),
  );
}

const axisOf = ({ x, channels }: Product) => ({ name: x, axis: channels });
const sum = (values: Iterable<number>): number => {
  let total = 0;
  for (const v of values) total += v;
  return total;
};

function readersOf(
  found: Couplings,
  group: Group,
  products: readonly Product[],
): readonly { readonly product: Product; readonly place: Place }[] {
  const places = new Map(found.activations(group).map((place) => [`${place.axis} ${place.name}`, place]));
  return products.flatMap((product) => {
    const place = places.get(`${product.channels} ${product.x}`);
    return place ? [{ product, place }] : [];
  });
}

function stateOf(
  { structure }: Couplings,
  product: Product,
  { indices }: Place,
  { covariance }: Covariance,
): Reader | undefined {
  const weight = structure.constantOf(product.weight)!;
  const layout = layoutOf(product, weight);
  const n = Math.sqrt(covariance.length);
  const group = (channel: number): number => Math.floor(channel / layout.perGroup);
  const among = covariance.map((v, at) => (group(Math.floor(at / n)) === group(at % n) ? v : 0));
  const products = new Float64Array(n * n);
  const values = toFloat32(weight);
  for (let first = 0; first < n; first += layout.perGroup) {
    const [from, to] = outputsOf(layout, first);
    for (let o = from; o < to; o++) {
      for (let t = 0; t < layout.taps; t++) {
        for (let i = first; i < first + layout.perGroup; i++) {
          const w = values[layout.at(o, i) + t]!;
          if (w === 0) continue;
          for (let j = first; j < first + layout.perGroup; j++)
            products[i * n + j]! += w * values[layout.at(o, j) + t]!;
        }
      }
    }
  }
  let [trace, energy] = [0, 0];
  for (let i = 0; i < n; i++) trace += among[i * n + i]!;
  for (let i = 0; i < n * n; i++) energy += products[i]! * among[i]!;
  if (!(trace > 0) || !(energy > 0)) return undefined;
  for (let i = 0; i < n; i++) among[i * n + i]! += (ridge * trace) / n;
  const precision = new Float64Array(n * n);
  for (let i = 0; i < n; i++) precision[i * n + i] = 1;
  return solvePositive(among, precision, n) ? { indices, channels: n, precision, products, energy } : undefined;
}

/** What each unit costs when its turn comes. */
function eliminate(units: number, readers: readonly Reader[]): Float64Array {
  const scores = new Float64Array(units);
  const left = new Set(scores.keys());
  let most = 0;
  while (left.size > 0) {
    let [cheapest, cost] = [-1, Number.POSITIVE_INFINITY];
    for (const unit of left) {
      let own = 0;
      for (const { indices, channels, precision, products, energy } of readers) {
        for (const i of indices[unit]!) own += products[i * channels + i]! / precision[i * channels + i]! / energy;
      }
      if (cheapest < 0 || own < cost) [cheapest, cost] = [unit, own];
    }
    most = Math.max(most, cost);
    scores[cheapest] = most;
    left.delete(cheapest);
    if (left.size > 0) for (const reader of readers) for (const i of reader.indices[cheapest]!) remove(reader, i);
  }
  return scores;
}

/** Takes a channel out: the others take over what regression on them tells of it. */
function remove({ channels: n, precision, products }: Reader, gone: number): void {
  const own = precision[gone * n + gone]!;
  const factors = Float64Array.from({ length: n }, (_, k) => (k === gone ? 0 : -precision[k * n + gone]! / own));
  const weights = products[gone * n + gone]!;
  const crossed = products.slice(gone * n, gone * n + n);
  const row = precision.slice(gone * n, gone * n + n);
  for (let k = 0; k < n; k++) {
    const factor = factors[k]!;
    if (k === gone) continue;
    for (let l = 0; l < n; l++) {
      precision[k * n + l]! += factor * row[l]!;
      products[k * n + l]! += factor * (crossed[l]! + factors[l]! * weights) + crossed[k]! * factors[l]!;
    }
  }
  // as if it had never been there
  for (let k = 0; k < n; k++) {
    for (const at of [k * n + gone, gone * n + k]) {
      precision[at] = 0;
      products[at] = 0;
    }
  }
}
