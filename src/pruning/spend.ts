import type { Group } from "./couplings.ts";
import type { UnitScores } from "./importance.ts";
import type { LayerTimes } from "./layer-times.ts";
import type { Widths } from "./widths.ts";

/** Widths of a group that are tried. */
const candidates = 8;

/**
 * Gives up importance where it buys most milliseconds: again and again the group and the width, of eighths of its units,
 * whose units lose the least score for each millisecond saved. Widths at which the kernels gain nothing are never taken,
 * and those that break blocks of channels only once the others are used up.
 *
 * @param start widths to begin with: those of groups that are not free
 * @param least the fewest units that may stay of a group
 * @param reached whether enough is gone
 * @returns the widths, which fall short of the target where nothing is left to gain
 */
export function spend(
  groups: readonly Group[],
  scores: UnitScores,
  times: LayerTimes,
  start: Widths,
  least: (group: Group) => number,
  reached: (widths: Widths) => boolean,
): Widths {
  const losses = new Map(groups.map((group) => [group, lossesOf(scores.get(group)!)]));
  const widths = new Map([...start, ...groups.map((group): [Group, number] => [group, group.units])]);
  const bestOf = (widthsOf: (group: Group) => readonly number[]): Offer | undefined => {
    let best: Offer | undefined;
    for (const group of groups) {
      const now = widths.get(group)!;
      const before = times.around(group, widths);
      for (const width of widthsOf(group)) {
        if (width >= now) continue;
        widths.set(group, width);
        const saved = before - times.around(group, widths);
        const lost = losses.get(group)![group.units - width]! - losses.get(group)![group.units - now]!;
        if (saved > 0 && (best === undefined || lost / saved < best.price))
          best = { group, width, price: lost / saved };
      }
      widths.set(group, now);
    }
    return best;
  };
  const whole = (group: Group): readonly number[] => multiples(group, least(group), times.multiple(group));
  const any = (group: Group): readonly number[] => multiples(group, least(group), 1);
  while (!reached(widths)) {
    const best = bestOf(whole) ?? bestOf(any);
    if (!best) break;
    widths.set(best.group, best.width);
  }
  return widths;
}

/** A narrower group, and the score that it costs for each millisecond. */
interface Offer {
  readonly group: Group;
  readonly width: number;
  readonly price: number;
}

/**
 * What is lost with so many of a group's units, the lowest scores first: their sum to begin with, and more and more as less
 * is left, since scores hold for units that go alone.
 */
function lossesOf(scores: Float64Array): Float64Array {
  const sorted = scores.toSorted();
  const total = sorted.reduce((a, b) => a + b, 0);
  const losses = new Float64Array(scores.length + 1);
  let left = total;
  for (const [i, score] of sorted.entries()) {
    left -= score;
    losses[i + 1] = total > 0 ? -total * Math.log(Math.max(left / total, Number.EPSILON)) : 0;
  }
  return losses;
}

/** Eighths of a group's units, as multiples of something. */
function multiples({ units }: Group, least: number, of: number): readonly number[] {
  const fewest = Math.ceil(least / of) * of;
  const eighth = (i: number): number => Math.max(fewest, Math.round((units * i) / candidates / of) * of);
  return [...new Set(Array.from({ length: candidates }, (_, i) => eighth(i)))];
}
