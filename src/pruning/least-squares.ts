import { solvePositive } from "./cholesky.ts";

/** Sums over positions of what a matrix product reads and should give. */
export interface Sums {
  count: number;
  /** [inputs] */
  readonly x: Float64Array;
  /** [outputs] */
  readonly y: Float64Array;
  /** [inputs, inputs] */
  readonly xx: Float64Array;
  /** [outputs, inputs] */
  readonly yx: Float64Array;
}

/** Sums of nothing. */
export function noSums(inputs: number, outputs: number): Sums {
  const zeros = (size: number): Float64Array => new Float64Array(size);
  return { count: 0, x: zeros(inputs), y: zeros(outputs), xx: zeros(inputs ** 2), yx: zeros(inputs * outputs) };
}

/** Weights [outputs, inputs] and what is left for the bias [outputs]. */
export interface Fit {
  readonly weights: Float64Array;
  readonly bias: Float64Array;
}

/** Shares of the mean variance of the inputs that are tried as the penalty. */
const penalties = [1e-4, 1e-3, 1e-2, 1e-1, 1];

/** The penalty where there is nothing to choose it by. */
export const usualPenalty = 1e-2;

/** The sum of two sums. */
export function together(a: Sums, b: Sums): Sums {
  const add = (p: Float64Array, q: Float64Array): Float64Array => p.map((v, i) => v + q[i]!);
  return { count: a.count + b.count, x: add(a.x, b.x), y: add(a.y, b.y), xx: add(a.xx, b.xx), yx: add(a.yx, b.yx) };
}

/**
 * The weights that give y best, held to weights they had before:
 *
 *     minimize  |y - W x - b|^2 / positions + penalty tr(cov x) / inputs |W - before|^2
 *
 * Of inputs that never change only the bias can be told.
 *
 * @param before [outputs, inputs]
 * @returns undefined where sums are not finite
 */
export function ridge(sums: Sums, before: ArrayLike<number>, penalty: number): Fit | undefined {
  const { covariance, crossed, mean, wanted } = centred(sums);
  const n = mean.length;
  let trace = 0;
  for (let i = 0; i < n; i++) trace += covariance[i * n + i]!;
  if (!Number.isFinite(trace) || !crossed.every(Number.isFinite)) return undefined;
  const added = (penalty * trace) / n;
  for (let i = 0; i < n; i++) covariance[i * n + i]! += added;
  let weights = Float64Array.from(before);
  if (trace > 0) {
    weights = crossed.map((v, i) => v + added * before[i]!);
    if (!solvePositive(covariance, weights, n)) return undefined;
  }
  const bias = wanted.map((y, o) => {
    let left = y;
    for (let i = 0; i < n; i++) left -= weights[o * n + i]! * mean[i]!;
    return left;
  });
  return { weights, bias };
}

/** The penalty whose fit on either half of the data errs least on the other, over all groups of a layer. */
export function bestPenalty(
  halves: readonly (readonly [Sums, Sums])[],
  before: (group: number) => ArrayLike<number>,
): number {
  const errors = penalties.map((penalty) =>
    halves.reduce((sum, [a, b], group) => {
      const [first, second] = [ridge(a, before(group), penalty), ridge(b, before(group), penalty)];
      return sum + (first ? error(first, b) : 0) + (second ? error(second, a) : 0);
    }, 0),
  );
  return penalties[errors.indexOf(Math.min(...errors))] ?? usualPenalty;
}

/** Mean squared error of a fit, but for what does not depend on it and for the means. */
function error({ weights }: Fit, sums: Sums): number {
  const { covariance, crossed, mean } = centred(sums);
  const n = mean.length;
  let total = 0;
  for (let o = 0; o < sums.y.length; o++) {
    const w = weights.subarray(o * n, o * n + n);
    for (let i = 0; i < n; i++) {
      let sum = 0;
      const row = covariance.subarray(i * n, i * n + n);
      for (let j = 0; j < n; j++) sum += row[j]! * w[j]!;
      total += w[i]! * (sum - 2 * crossed[o * n + i]!);
    }
  }
  return total;
}

function centred({ count, x, y, xx, yx }: Sums): {
  readonly mean: Float64Array;
  readonly wanted: Float64Array;
  readonly covariance: Float64Array;
  readonly crossed: Float64Array;
} {
  const [mean, wanted, n] = [x.map((v) => v / count), y.map((v) => v / count), x.length];
  const less = (products: Float64Array, left: Float64Array): Float64Array =>
    products.map((v, at) => v / count - left[Math.floor(at / n)]! * mean[at % n]!);
  return { mean, wanted, covariance: less(xx, mean), crossed: less(yx, wanted) };
}
