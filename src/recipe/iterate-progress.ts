import type { ProgressExhibit } from "../techniques/exhibit.ts";
import { worstAllowed } from "./budget.ts";
import type { IterateRound } from "./iterate.ts";
import { leftOf, type ModelSize, type SizeQuantity } from "./iterate-size.ts";
import type { Score } from "./ledger.ts";

const names: Readonly<Record<SizeQuantity, string>> = {
  sparsity: "sparsity",
  macs: "MACs removed",
  parameters: "parameters removed",
  bytes: "bytes removed",
  ms: "time saved",
};

/**
 * Quality against the amount of what was cut, a point a round, the original first. Rounds that could not be scored are
 * left out.
 *
 * @param chosen the round that is handed out
 * @param quantity what the amount is of
 */
export function progressOf(
  rounds: readonly IterateRound[],
  chosen: number,
  quantity: SizeQuantity,
  original: ModelSize,
  baseline: Score,
  maxDrop: number | undefined,
): ProgressExhibit {
  const amount = (size: ModelSize): number =>
    quantity === "sparsity" ? size.sparsity : 1 - leftOf(size, quantity) / leftOf(original, quantity);
  const point = (name: string, size: ModelSize, quality: number) => ({ name, amount: amount(size), quality });
  const points = rounds.flatMap(({ round, size, verdict }) =>
    size && verdict && Number.isFinite(verdict.after.value)
      ? [{ ...point(String(round), size, verdict.after.value), ...(round === chosen && { kept: true as const }) }]
      : [],
  );
  const { metric, unit, better, value } = baseline;
  const start = Number.isFinite(value) ? [point("original", original, value)] : [];
  const limit = maxDrop === undefined ? Number.NaN : worstAllowed(baseline, maxDrop);
  return {
    kind: "progress",
    amount: { name: names[quantity], unit: "%" },
    quality: { name: metric, better, ...(unit !== undefined && { unit }) },
    rounds: [...start, ...points],
    ...(Number.isFinite(limit) && { limit }),
  };
}
