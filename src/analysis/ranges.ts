import { fail } from "../errors.ts";
import { type Affine, affineParams } from "../tensor/affine.ts";
import type { DType } from "../tensor/dtype.ts";
import { type Histogram, quantile } from "../tensor/histogram.ts";

/** Ends of the interval that a grid of integers is laid over; numbers beyond are clipped to it. */
export type Range = readonly [min: number, max: number];

/** What calibration keeps of a tensor: enough for every method of choosing its range. */
export interface Observation {
  /** Smallest and largest element; Infinity and -Infinity before the first. */
  readonly min: number;
  readonly max: number;
  /** Absent where only extremes were asked for: they suffice for {@link isByExtremes} methods. */
  readonly histogram?: Histogram;
  /** Means of the smallest and largest element of each sample. */
  readonly meanMin: number;
  readonly meanMax: number;
}

/** Choices of {@link chooseRange}. */
export interface RangeOptions {
  readonly dtype: DType;
  /** So many bits of the type's; all if absent. */
  readonly bits?: number;
  readonly symmetric: boolean;
  /** For "percentile": the share kept, in percent, split over both ends. */
  readonly percentile: number;
}

/** Ways to choose a tensor's range from what was observed. */
export const rangeMethods = ["min-max", "percentile", "mse", "average", "entropy"] as const;

/** One of {@link rangeMethods}. */
export type RangeMethod = (typeof rangeMethods)[number];

/** Whether a method looks at the extremes of the samples alone, not at the histogram. */
export function isByExtremes(method: RangeMethod): boolean {
  return method === "min-max" || method === "average";
}

/**
 * The range a method chooses:
 * - `min-max`: all that was seen;
 * - `average`: the mean over samples of their extremes (what a moving average tends to, without its dependence on order);
 * - `percentile`: without the outermost share of the elements;
 * - `mse`: least mean squared error of rounding and clipping together;
 * - `entropy`: least Kullback-Leibler divergence of the histogram after quantization from before (Migacz 2017).
 */
export function chooseRange(observed: Observation, method: RangeMethod, options: RangeOptions): Range {
  const { min, max, meanMin, meanMax } = observed;
  const all: Range = [Math.min(0, min), Math.max(0, max)];
  if (all[0] === 0 && all[1] === 0) return [0, 0];
  if (method === "min-max") return all;
  if (method === "average") return [Math.min(0, meanMin), Math.max(0, meanMax)];
  const histogram = observed.histogram ?? fail("chooseRange", `the method '${method}' needs a histogram`);
  switch (method) {
    case "percentile": {
      const cut = (1 - options.percentile / 100) / 2;
      const oneSided = all[0] === 0 || all[1] === 0;
      const low = all[0] === 0 ? 0 : quantile(histogram, oneSided ? 2 * cut : cut);
      const high = all[1] === 0 ? 0 : quantile(histogram, oneSided ? 1 - 2 * cut : 1 - cut);
      return [Math.min(0, low), Math.max(0, high)];
    }
    case "mse":
      return descend(all, options, (grid) => gridError(histogram, grid).noise);
    case "entropy":
      return leastDivergence(histogram, all, options);
  }
}

/** Clip ratios tried for each end. */
const ratios = Array.from({ length: 80 }, (_, i) => 1 - i / 80);

/** Shrinks one end after the other as long as the cost falls. */
function descend(all: Range, options: RangeOptions, cost: (grid: Affine) => number): Range {
  let [low, high] = all;
  const costOf = (a: number, b: number): number => cost(affineParams(a, b, options.dtype, options));
  if (options.symmetric) {
    const reach = Math.max(-low, high);
    const best = least(ratios, (ratio) => costOf(-reach * ratio, reach * ratio));
    return [Math.max(low, -reach * best), Math.min(high, reach * best)];
  }
  for (let round = 0; round < 2; round++) {
    if (high > 0) high = all[1] * least(ratios, (ratio) => costOf(low, all[1] * ratio));
    if (low < 0) low = all[0] * least(ratios, (ratio) => costOf(all[0] * ratio, high));
  }
  return [low, high];
}

function least(candidates: readonly number[], cost: (candidate: number) => number): number {
  let best = candidates[0]!;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const c = cost(candidate);
    if (c < bestCost) {
      bestCost = c;
      best = candidate;
    }
  }
  return best;
}

/** What a grid makes of numbers. */
export interface GridError {
  /** Mean square of the numbers. */
  readonly signal: number;
  /** Mean squared error of clipping and rounding. */
  readonly noise: number;
  /** Share of the numbers beyond the grid, by more than rounding to its last integers. */
  readonly clipped: number;
}

/** What clipping to a grid and rounding on it costs, each bin taken as uniformly filled: s^2 / 12 inside. */
export function gridError(h: Histogram, { scale, zeroPoint, qmin, qmax }: Affine): GridError {
  const width = 2 ** h.exponent;
  const low = scale * (qmin - zeroPoint);
  const high = scale * (qmax - zeroPoint);
  const rounding = (scale * scale) / 12;
  let [signal, noise, clipped] = [0, 0, 0];
  for (let i = 0; i < h.bins; i++) {
    const count = h.counts[i]!;
    if (count === 0) continue;
    const x = (h.first + i + 0.5) * width;
    const beyond = x > high ? x - high : x < low ? low - x : 0;
    signal += count * x * x;
    noise += count * (beyond * beyond + rounding);
    if (beyond > scale / 2) clipped += count;
  }
  const all = Math.max(1, h.count);
  return { signal: signal / all, noise: noise / all, clipped: clipped / all };
}

/** Thresholds on the magnitude, from an eighth of the histogram to all of it, in this many steps. */
const thresholds = 64;

function leastDivergence(h: Histogram, all: Range, options: RangeOptions): Range {
  const reach = Math.max(-all[0], all[1]);
  let best: Range = all;
  let bestCost = Number.POSITIVE_INFINITY;
  for (let i = thresholds; i >= thresholds / 8; i--) {
    const t = (reach * i) / thresholds;
    const range: Range = [Math.max(all[0], -t), Math.min(all[1], t)];
    const cost = divergence(h, affineParams(range[0], range[1], options.dtype, options));
    if (cost < bestCost) {
      bestCost = cost;
      best = range;
    }
  }
  return best;
}

/**
 * KL(P || Q) over the bins inside a grid's reach. P holds the counts with what lies beyond added to the outermost bins;
 * Q spreads the counts inside that fall on the same integer evenly over the bins that are not empty.
 */
function divergence(h: Histogram, { scale, zeroPoint, qmin, qmax }: Affine): number {
  const width = 2 ** h.exponent;
  const at = (x: number): number => Math.max(0, Math.min(h.bins - 1, Math.floor(x / width) - h.first));
  const from = at(Math.max(h.min, scale * (qmin - zeroPoint)));
  const to = at(Math.min(h.max, scale * (qmax - zeroPoint)));
  let below = 0;
  let above = 0;
  for (let i = 0; i < from; i++) below += h.counts[i]!;
  for (let i = to + 1; i < h.bins; i++) above += h.counts[i]!;
  let inside = 0;
  for (let i = from; i <= to; i++) inside += h.counts[i]!;
  const total = inside + below + above;
  if (total === 0 || inside === 0) return Number.POSITIVE_INFINITY;
  let sum = 0;
  for (let i = from; i <= to; ) {
    const level = Math.round(((h.first + i + 0.5) * width) / scale);
    let end = i;
    let mass = 0;
    let filled = 0;
    for (; end <= to && Math.round(((h.first + end + 0.5) * width) / scale) === level; end++) {
      mass += h.counts[end]!;
      if (h.counts[end]! > 0) filled++;
    }
    const q = filled > 0 ? mass / filled / inside : 0;
    for (; i < end; i++) {
      const count = h.counts[i]! + (i === from ? below : 0) + (i === to ? above : 0);
      // an outlier bin that was empty inside has no counterpart: count it at the resolution of one element
      if (count > 0) sum += (count / total) * Math.log(count / total / (q || 1 / (inside + 1)));
    }
  }
  return sum;
}
