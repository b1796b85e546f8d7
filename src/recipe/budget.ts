import type { Score } from "./ledger.ts";

/** A metric's loss against the baseline, in the budget's unit: positive is worse. */
export interface Drop {
  readonly drop: number;
  /** 95 % interval, worse bound last. */
  readonly interval?: readonly [low: number, high: number];
}

/**
 * How much worse a score is than the baseline. Shares (unit "%": accuracies, agreement, mean IoU) in absolute points,
 * 0.01 being one point; everything else (losses, perplexity, errors) relative to the baseline's magnitude.
 *
 * @param interval 95 % interval of after - before, from a paired comparison
 */
export function dropOf(before: Score, after: Score, interval?: readonly [low: number, high: number]): Drop {
  const scale = before.unit === "%" ? 1 : Math.max(Math.abs(before.value), Number.MIN_VALUE);
  const sign = before.better === "higher" ? -1 : 1;
  const inBudget = (difference: number): number => (sign * difference) / scale;
  const drop = Number.isFinite(after.value) ? inBudget(after.value - before.value) : Number.POSITIVE_INFINITY;
  if (!interval) return { drop };
  const bounds = interval.map(inBudget).sort((a, b) => a - b) as [number, number];
  return { drop, interval: bounds };
}

/**
 * Samples needed for a 95 % interval of a paired drop to be no wider than the budget, from the width that the samples
 * at hand gave: the half-width shrinks with the square root of their number.
 */
export function samplesToProve(halfWidth: number, samples: number, budget: number): number {
  return Math.ceil(samples * (halfWidth / budget) ** 2);
}
