import { fail } from "../errors.ts";

/** Summary of some numbers; of an empty list all are 0. */
export interface Statistics {
  readonly count: number;
  readonly min: number;
  readonly max: number;
  /** Largest magnitude. */
  readonly absMax: number;
  readonly mean: number;
  /** Mean of the squared distance to the mean. */
  readonly variance: number;
  /** Exact zeros. */
  readonly zeros: number;
}

/**
 * Minimum, maximum, mean, variance and zeros in one pass, sums in double precision. The variance is taken around the
 * first element, which keeps it accurate where the mean is far from zero.
 *
 * @param name what the numbers are, for the error
 * @throws PareError where an element is NaN or infinite
 */
export function statistics(values: Float32Array, name = "tensor"): Statistics {
  const count = values.length;
  if (count === 0) return { count, min: 0, max: 0, absMax: 0, mean: 0, variance: 0, zeros: 0 };
  const shift = values[0]!;
  let min = shift;
  let max = shift;
  let sum = 0;
  let squares = 0;
  let zeros = 0;
  for (let i = 0; i < count; i++) {
    const x = values[i]!;
    if (x < min) min = x;
    if (x > max) max = x;
    if (x === 0) zeros++;
    const d = x - shift;
    sum += d;
    squares += d * d;
  }
  if (!Number.isFinite(squares)) refuseNonFinite(values, name);
  const mean = sum / count;
  const variance = Math.max(0, squares / count - mean * mean);
  return { count, min, max, absMax: Math.max(max, -min), mean: shift + mean, variance, zeros };
}

/** Smallest and largest element of each channel. */
export interface Ranges {
  readonly min: Float32Array;
  readonly max: Float32Array;
}

/**
 * Smallest and largest element per index of one axis, or of the whole (`axis` null), in one pass. Channels without
 * elements get 0.
 *
 * @param shape sizes of `values`, row-major
 * @param axis the axis whose indices are kept apart; negative counts from the end
 * @param name what the numbers are, for the error
 * @throws PareError where an element is NaN or infinite, or the axis is not one of the shape
 */
export function channelRanges(
  values: Float32Array,
  shape: readonly number[],
  axis: number | null,
  name = "tensor",
): Ranges {
  const { outer, channels, inner } = split(shape, axis, name);
  const min = new Float32Array(channels);
  const max = new Float32Array(channels);
  if (values.length > 0) {
    min.fill(Number.POSITIVE_INFINITY);
    max.fill(Number.NEGATIVE_INFINITY);
  }
  let check = 0; // 0 * x is NaN exactly for NaN and infinite x, and NaN stays in the sum
  if (inner === 1) {
    for (let o = 0, i = 0; o < outer; o++) {
      for (let c = 0; c < channels; c++, i++) {
        const x = values[i]!;
        if (x < min[c]!) min[c] = x;
        if (x > max[c]!) max[c] = x;
        check += 0 * x;
      }
    }
  } else {
    for (let o = 0, i = 0; o < outer; o++) {
      for (let c = 0; c < channels; c++) {
        let low = min[c]!;
        let high = max[c]!;
        for (const end = i + inner; i < end; i++) {
          const x = values[i]!;
          if (x < low) low = x;
          if (x > high) high = x;
          check += 0 * x;
        }
        min[c] = low;
        max[c] = high;
      }
    }
  }
  if (check !== 0) refuseNonFinite(values, name);
  return { min, max };
}

/**
 * How an axis divides a row-major shape: element (o, c, i) lies at `(o * channels + c) * inner + i`. For `axis` null
 * everything is one channel.
 *
 * @throws PareError where the axis is not one of the shape
 */
export function split(
  shape: readonly number[],
  axis: number | null,
  name = "tensor",
): { readonly outer: number; readonly channels: number; readonly inner: number } {
  const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);
  if (axis === null) return { outer: 1, channels: 1, inner: product(shape) };
  const at = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(axis) || at < 0 || at >= shape.length) {
    fail(name, `shape [${shape.join(", ")}] has no axis ${axis}`);
  }
  return { outer: product(shape.slice(0, at)), channels: shape[at]!, inner: product(shape.slice(at + 1)) };
}

/**
 * Checks that every element is a finite number.
 *
 * @param name what the numbers are
 * @throws PareError with the first offending element and its place
 */
export function requireFinite(values: Float32Array, name: string): void {
  let check = 0;
  for (let i = 0; i < values.length; i++) check += 0 * values[i]!;
  if (check !== 0) refuseNonFinite(values, name);
}

function refuseNonFinite(values: Float32Array, name: string): never {
  const at = values.findIndex((x) => !Number.isFinite(x));
  if (at < 0) fail(name, "holds numbers whose squares overflow double precision");
  return fail(name, `element ${at} is ${values[at]}`, "Numbers must be finite: check the model and what it is fed");
}
