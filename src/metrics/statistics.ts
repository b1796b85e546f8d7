import { random } from "../random.ts";

/** A 95 % confidence interval. */
export type Interval = readonly [low: number, high: number];

/** The 97.5 % quantile of the normal distribution. */
const z = 1.959963984540054;

/**
 * Wilson's 95 % interval of a proportion (E. B. Wilson 1927): holds its level for small samples and near 0 and 1.
 */
export function wilson(hits: number, count: number): Interval {
  if (count === 0) return [0, 1];
  const p = hits / count;
  const centre = (p + (z * z) / (2 * count)) / (1 + (z * z) / count);
  const half = (z / (1 + (z * z) / count)) * Math.sqrt((p * (1 - p)) / count + (z * z) / (4 * count * count));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** The result of a paired test. */
export interface PairedTest {
  readonly test: "mcnemar" | "bootstrap";
  /** Two-sided. */
  readonly p: number;
  /** Of the difference second - first. */
  readonly interval: Interval;
}

/**
 * McNemar's exact test of two models on the same samples, and the interval of the difference of their accuracies
 * (Agresti and Min 2005: Wald with half a sample added to each of the four cells).
 *
 * @param lost samples that only the first model gets right
 * @param won samples that only the second gets right
 */
export function mcnemar(lost: number, won: number, count: number): PairedTest {
  const n = lost + won;
  const p = n === 0 ? 1 : Math.min(1, 2 * binomialTail(Math.min(lost, won), n));
  const [b, c, total] = [lost + 0.5, won + 0.5, count + 2];
  const difference = (c - b) / total;
  const half = (z * Math.sqrt(b + c - (c - b) ** 2 / total)) / total;
  return { test: "mcnemar", p, interval: [Math.max(-1, difference - half), Math.min(1, difference + half)] };
}

/** P(X <= k) for X binomial with n trials of probability 1/2; terms in logarithms, so any n works. */
function binomialTail(k: number, n: number): number {
  let term = -n * Math.LN2;
  let sum = Math.exp(term);
  for (let i = 1; i <= k; i++) {
    term += Math.log((n - i + 1) / i);
    sum += Math.exp(term);
  }
  return sum;
}

/** Resamples of a bootstrap: 1000, fewer where the samples are many, so that it takes about a second. */
function resamples(count: number): number {
  return Math.max(200, Math.min(1000, Math.floor(2e7 / Math.max(1, count))));
}

/**
 * The percentile bootstrap (B. Efron 1979): `value` of samples drawn with replacement, many times.
 *
 * @returns the sorted values, those that are not numbers left out
 */
function bootstrap(count: number, seed: number, value: (picks: Uint32Array) => number): number[] {
  const stream = random(seed);
  const picks = new Uint32Array(count);
  const values = Array.from({ length: resamples(count) }, () => {
    for (let i = 0; i < count; i++) picks[i] = stream.int(count);
    return value(picks);
  });
  return values.filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
}

/**
 * The value at a share of sorted values, between two of them by interpolation.
 */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(sorted.length - 1, low + 1);
  return sorted[low]! + (at - low) * (sorted[high]! - sorted[low]!);
}

/** The rows at some places. The same array is filled anew by every call: a bootstrap makes thousands of them. */
function picker<T>(rows: readonly T[]): (picks: Uint32Array) => readonly T[] {
  const drawn = rows.slice();
  return (picks) => {
    for (let i = 0; i < drawn.length; i++) drawn[i] = rows[picks[i]!]!;
    return drawn;
  };
}

/** The 95 % bootstrap interval of a statistic of rows; undefined for fewer than two rows. */
export function bootstrapInterval<T>(
  rows: readonly T[],
  value: (rows: readonly T[]) => number,
  seed = 0,
): Interval | undefined {
  if (rows.length < 2) return undefined;
  const pick = picker(rows);
  const values = bootstrap(rows.length, seed, (picks) => value(pick(picks)));
  return values.length === 0 ? undefined : [quantile(values, 0.025), quantile(values, 0.975)];
}

/** The paired bootstrap of the difference of a statistic between two models on the same samples. */
export function pairedBootstrap<T>(
  first: readonly T[],
  second: readonly T[],
  value: (rows: readonly T[]) => number,
  seed = 0,
): PairedTest | undefined {
  if (first.length < 2) return undefined;
  const [pickFirst, pickSecond] = [picker(first), picker(second)];
  const differences = bootstrap(first.length, seed, (picks) => value(pickSecond(picks)) - value(pickFirst(picks)));
  if (differences.length === 0) return undefined;
  const below = differences.filter((d) => d <= 0).length;
  const above = differences.filter((d) => d >= 0).length;
  // one is added so that no finite number of resamples claims p = 0
  const p = Math.min(1, (2 * (Math.min(below, above) + 1)) / (differences.length + 1));
  return { test: "bootstrap", p, interval: [quantile(differences, 0.025), quantile(differences, 0.975)] };
}
