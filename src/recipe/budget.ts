import type { Metric } from "../metrics/index.ts";
import type { Score } from "./ledger.ts";

/** A metric's loss against the baseline, in the budget's unit: positive is worse. */
export interface Drop {
  readonly drop: number;
  /** 95 % interval, worse bound last. */
  readonly interval?: readonly [low: number, high: number];
}

/** What a perfect copy of the original scores in a metric of likeness to it: 1 for shares and cosines, endless decibels. */
export function idealScore({ name, better, unit }: Metric, samples: number): Score {
  const value = unit === "dB" ? Number.POSITIVE_INFINITY : 1;
  return { metric: name, value, better, samples, ...(unit !== undefined && { unit }) };
}

/**
 * How much worse a score is than the baseline, in the unit of budgets:
 * - shares ("%": accuracies, agreement, mean IoU) in absolute points, 0.01 being one point;
 * - decibels by the amplitude of the noise, 10^(-dB / 20): 40 dB is 0.01;
 * - everything else (losses, perplexity, errors) relative to the baseline's magnitude.
 *
 * @param interval 95 % interval of after - before, from a paired comparison
 */
export function dropOf(before: Score, after: Score, interval?: readonly [low: number, high: number]): Drop {
  if (Number.isNaN(after.value)) return { drop: Number.POSITIVE_INFINITY };
  if (before.unit === "dB") return noiseDrop(before, after, interval);
  const scale = before.unit === "%" ? 1 : Math.max(Math.abs(before.value), Number.MIN_VALUE);
  const sign = before.better === "higher" ? -1 : 1;
  const inBudget = (difference: number): number => (sign * difference) / scale;
  const drop = inBudget(after.value - before.value);
  const paired = interval ?? after.interval?.map((bound) => bound - before.value);
  if (!paired) return { drop };
  return { drop, interval: paired.map(inBudget).sort((a, b) => a - b) as [number, number] };
}

function noiseDrop(before: Score, after: Score, paired: Drop["interval"]): Drop {
  const noise = (decibels: number): number => 10 ** (-decibels / 20) - 10 ** (-before.value / 20);
  const reached = paired?.map((difference) => before.value + difference) ?? after.interval;
  const bounds = reached?.map(noise).sort((a, b) => a - b) as [number, number] | undefined;
  return { drop: noise(after.value), ...(bounds && { interval: bounds }) };
}

/** The worst value that a budget allows: the one whose {@link dropOf} is the budget. */
export function worstAllowed({ value, better, unit }: Score, budget: number): number {
  if (unit === "dB") return -20 * Math.log10(budget + 10 ** (-value / 20));
  return value + (better === "higher" ? -budget : budget) * (unit === "%" ? 1 : Math.abs(value));
}

/**
 * Samples needed for a 95 % interval of a paired drop to stay inside the budget, from the interval that the samples at
 * hand gave: its half-width shrinks with the square root of their number. Undefined where the drop itself is outside.
 */
export function samplesToProve({ drop, interval }: Drop, samples: number, budget: number): number | undefined {
  if (!interval || drop >= budget) return undefined;
  return Math.ceil(samples * ((interval[1] - drop) / (budget - drop)) ** 2);
}
