import { fail } from "../errors.ts";

/**
 * Counts of numbers in bins of width 2^exponent whose edges are multiples of that width. The width is the smallest that
 * lets the bins span what was seen; when more comes, neighbouring bins are merged in pairs. So the result depends on the
 * numbers alone, not on their order or how they were split over calls, and memory is bounded by the number of bins.
 * Exact zeros are counted apart: they cost no quantization error wherever the bounds are.
 */
export interface Histogram {
  readonly bins: number;
  /** Width of a bin is 2 ** exponent. */
  exponent: number;
  /** Bin i holds numbers in [(first + i) * width, (first + i + 1) * width). */
  first: number;
  readonly counts: Float64Array;
  /** Numbers that are exactly zero; not in `counts`. */
  zeros: number;
  /** All numbers, zeros included. */
  count: number;
  /** Smallest and largest number; Infinity and -Infinity before the first. */
  min: number;
  max: number;
}

/** Below this, a width would leave the normal float32 numbers: 2^-126. */
const smallestExponent = -126;

/** An empty histogram. @param bins a power of two */
export function makeHistogram(bins = 2048): Histogram {
  return {
    bins,
    exponent: smallestExponent,
    first: 0,
    counts: new Float64Array(bins),
    zeros: 0,
    count: 0,
    min: Number.POSITIVE_INFINITY,
    max: Number.NEGATIVE_INFINITY,
  };
}

/**
 * Counts numbers into a histogram.
 *
 * @param name what the numbers are, for the error
 * @param extremes smallest and largest of them, where known
 * @throws PareError where one is NaN or infinite
 */
export function addToHistogram(
  h: Histogram,
  values: Float32Array,
  name = "histogram",
  extremes = extremesOf(values, name),
): void {
  if (values.length === 0) return;
  cover(h, Math.min(h.min, extremes.min), Math.max(h.max, extremes.max));
  const { counts, first } = h;
  const perWidth = 2 ** -h.exponent;
  // No branch on zeros, which half of all activations are, in no order that a processor foresees; and two rows of
  // counters, since an increment waits for the last one of the same counter.
  const even = new Uint32Array(h.bins);
  const odd = new Uint32Array(h.bins);
  let zeros = 0;
  const pairs = values.length & ~1;
  for (let i = 0; i < pairs; i += 2) {
    const x = values[i]!;
    const y = values[i + 1]!;
    zeros += +(x === 0) + +(y === 0);
    even[(Math.floor(x * perWidth) | 0) - first]!++;
    odd[(Math.floor(y * perWidth) | 0) - first]!++;
  }
  if (pairs < values.length) {
    const x = values[pairs]!;
    zeros += +(x === 0);
    even[(Math.floor(x * perWidth) | 0) - first]!++;
  }
  for (let i = 0; i < h.bins; i++) counts[i]! += even[i]! + odd[i]!;
  counts[-first]! -= zeros;
  h.zeros += zeros;
  h.count += values.length;
}

/**
 * Smallest and largest of some numbers; Infinity and -Infinity of none.
 *
 * @param name what the numbers are, for the error
 * @throws PareError where one is NaN or infinite
 */
export function extremesOf(values: Float32Array, name: string): Extremes {
  const found = finiteExtremes(values);
  if (found) return found;
  const at = values.findIndex((x) => !Number.isFinite(x));
  return fail(name, `element ${at} is ${values[at]}`, "Check the model and what it is fed");
}

/** Smallest and largest of some numbers; Infinity and -Infinity of none. */
export interface Extremes {
  readonly min: number;
  readonly max: number;
}

/** The extremes; undefined where a number is NaN or infinite. */
export function finiteExtremes(values: Float32Array): Extremes | undefined {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  // 0 * x is NaN exactly for NaN and infinite x, and NaN stays in the sum; two sums, since an addition waits for the last
  let even = 0;
  let odd = 0;
  const pairs = values.length & ~1;
  for (let i = 0; i < pairs; i += 2) {
    const x = values[i]!;
    const y = values[i + 1]!;
    if (x < min) min = x;
    if (y < min) min = y;
    if (x > max) max = x;
    if (y > max) max = y;
    even += 0 * x;
    odd += 0 * y;
  }
  if (pairs < values.length) {
    const x = values[pairs]!;
    if (x < min) min = x;
    if (x > max) max = x;
    even += 0 * x;
  }
  return even + odd === 0 ? { min, max } : undefined;
}

/** Counts what `b` holds into `a`, as if `a` had seen all of it. */
export function mergeHistogram(a: Histogram, b: Histogram): void {
  if (b.count === 0) return;
  if (a.bins !== b.bins) fail("mergeHistogram", `histograms of ${a.bins} and ${b.bins} bins don't merge`);
  cover(a, Math.min(a.min, b.min), Math.max(a.max, b.max));
  const halvings = 2 ** (a.exponent - b.exponent);
  for (let i = 0; i < b.bins; i++) {
    const count = b.counts[i]!;
    if (count > 0) a.counts[Math.floor((b.first + i) / halvings) - a.first]! += count;
  }
  a.zeros += b.zeros;
  a.count += b.count;
}

/** Widens the bins until they span [min, max], and aligns the first one with min. */
function cover(h: Histogram, min: number, max: number): void {
  const low = Math.min(min, 0);
  const high = Math.max(max, 0);
  let exponent = h.exponent;
  while (Math.floor(high * 2 ** -exponent) - Math.floor(low * 2 ** -exponent) >= h.bins) exponent++;
  const first = Math.floor(low * 2 ** -exponent);
  h.min = min;
  h.max = max;
  if (exponent === h.exponent && first === h.first) return;
  const factor = 2 ** (exponent - h.exponent);
  const moved = new Float64Array(h.bins);
  for (let i = 0; i < h.bins; i++) {
    const count = h.counts[i]!;
    if (count > 0) moved[Math.floor((h.first + i) / factor) - first]! += count;
  }
  h.counts.set(moved);
  h.exponent = exponent;
  h.first = first;
}

/**
 * The number below which a share of all numbers lies, to the resolution of a bin (its upper edge, within min and max).
 *
 * @param share from 0 to 1
 */
export function quantile(h: Histogram, share: number): number {
  const width = 2 ** h.exponent;
  const target = share * h.count;
  let seen = 0;
  let zerosSeen = false;
  for (let i = 0; i < h.bins; i++) {
    // zeros lie at the lower edge of the bin that begins at 0
    if (!zerosSeen && h.first + i >= 0) {
      zerosSeen = true;
      seen += h.zeros;
      if (seen >= target) return Math.max(h.min, Math.min(h.max, 0));
    }
    seen += h.counts[i]!;
    if (seen >= target && h.counts[i]! > 0) return Math.max(h.min, Math.min(h.max, (h.first + i + 1) * width));
  }
  return h.max;
}
