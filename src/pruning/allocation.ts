import { type Costs, costs } from "../analysis/cost.ts";
import type { KnownTypes } from "../ops/lookup.ts";
import type { Couplings, Group } from "./couplings.ts";
import { type Cuts, cutUnits, type KeptIndices, keptIndices } from "./cut.ts";
import type { UnitScores } from "./importance.ts";

/** How many units each group gives. */
export interface AllocationOptions {
  /** The same share of every group; the lowest scores of all groups; or the lowest scores by what they save. */
  readonly allocation: "uniform" | "global" | "efficient";
  /** Share to remove. */
  readonly ratio: number;
  /** What it is a share of: units, or what the whole model costs. */
  readonly of: "units" | "macs" | "parameters";
  /** Share of the units that every group keeps. */
  readonly keep: number;
  /** Widths are multiples of this where a group has at least four times as many units. */
  readonly roundTo: number;
  /** Shares of units of groups that have their own. */
  readonly own: ReadonlyMap<Group, number>;
}

/** What to cut, and what the model costs without it. */
export interface Allocation {
  readonly cuts: Cuts;
  readonly before: Costs;
  readonly after: Costs;
  /** Whether as much goes as was asked for. */
  readonly reached: boolean;
}

/** Steps between nothing and everything that a search distinguishes. */
const finest = 1024;

/**
 * Chooses the units that stay: the highest scores of each group. Shares of costs are found by bisection over how much
 * every group gives, costs measured on the cut graph. Of the last step only the groups behind give that are needed: early
 * layers are the more sensitive ones.
 */
export function allocate(found: Couplings, scores: UnitScores, options: AllocationOptions): Allocation {
  const before = costs(found.graph, found.structure.types);
  const floor = (group: Group): number => Math.max(1, Math.ceil(options.keep * group.units));
  const widthOf = (group: Group, wanted: number): number => {
    const least = floor(group);
    if (wanted >= group.units) return group.units;
    const { roundTo } = options;
    const rounded = group.units >= 4 * roundTo ? Math.floor(wanted / roundTo) * roundTo : wanted;
    return Math.max(least, rounded > 0 ? rounded : Math.min(roundTo, wanted));
  };
  const free = [...scores.keys()].filter((group) => !options.own.has(group));
  const share = sharing(found, scores, free, options, before);
  const cutsAt = (strength: number): Cuts => {
    const cuts = new Map<Group, readonly number[]>();
    for (const [group, ratio] of options.own) {
      cuts.set(group, highest(scores.get(group)!, widthOf(group, Math.round(group.units * (1 - ratio)))));
    }
    const wanted = share(strength);
    for (const group of free) cuts.set(group, highest(scores.get(group)!, widthOf(group, wanted.get(group)!)));
    return new Map([...cuts].filter(([group, kept]) => kept.length < group.units));
  };
  const costsOf = (cuts: Cuts): Costs =>
    cuts.size === 0 ? before : costs(cutUnits(found, cuts), cutTypes(found, cuts));
  if (options.of === "units" || options.ratio === 0) {
    const cuts = cutsAt(options.ratio);
    return { cuts, before, after: costsOf(cuts), reached: true };
  }
  const { of } = options;
  const goal = before[of] * (1 - options.ratio);
  const reaches = (cuts: Cuts): boolean => costsOf(cuts)[of] <= goal;
  const high = least(1, finest, (step) => reaches(cutsAt(step / finest)));
  const [less, more] = [cutsAt((high - 1) / finest), cutsAt(high / finest)];
  // with rounded widths one step may cut many groups: the last of them, as many as it takes
  const mixed = (count: number): Cuts => {
    const taken = new Set(free.slice(free.length - count));
    return new Map(
      [...scores.keys()].flatMap((group): [Group, readonly number[]][] => {
        const kept = (taken.has(group) ? more : less).get(group);
        return kept ? [[group, kept]] : [];
      }),
    );
  };
  const cuts = mixed(least(0, free.length, (count) => reaches(mixed(count))));
  const after = costsOf(cuts);
  return { cuts, before, after, reached: after[of] <= goal };
}

/** The smallest number from `low` to `high` of which something holds that holds of all above it; `high` if of none. */
function least(low: number, high: number, holds: (at: number) => boolean): number {
  let [from, to] = [low, high];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}

/** The units wanted of each group, by how much is to go: 0 nothing, 1 everything. */
function sharing(
  found: Couplings,
  scores: UnitScores,
  groups: readonly Group[],
  { allocation, of }: AllocationOptions,
  before: Costs,
): (strength: number) => ReadonlyMap<Group, number> {
  if (allocation === "uniform") {
    return (strength) => new Map(groups.map((group) => [group, Math.round(group.units * (1 - strength))]));
  }
  const measure = of === "parameters" ? "parameters" : "macs";
  const saving = (group: Group): number => {
    const kept = Array.from({ length: Math.ceil(group.units / 2) }, (_, i) => i);
    if (kept.length === group.units) return 1;
    const cuts = new Map([[group, kept]]);
    const after = costs(cutUnits(found, cuts), cutTypes(found, cuts));
    return Math.max(1, (before[measure] - after[measure]) / (group.units - kept.length));
  };
  const ranked = groups
    .flatMap((group) => {
      const each = allocation === "efficient" ? saving(group) : 1;
      return Array.from(scores.get(group)!, (score) => ({ group, value: score / each }));
    })
    .sort((a, b) => a.value - b.value);
  return (strength) => {
    const wanted = new Map(groups.map((group) => [group, group.units]));
    for (const { group } of ranked.slice(0, Math.round(strength * ranked.length))) {
      wanted.set(group, wanted.get(group)! - 1);
    }
    return wanted;
  };
}

/** The units of the highest scores, ascending; of equal ones the first. */
function highest(scores: Float64Array, count: number): readonly number[] {
  return Array.from(scores, (_, i) => i)
    .sort((a, b) => scores[b]! - scores[a]! || a - b)
    .slice(0, count)
    .sort((a, b) => a - b);
}

/** The types of all values after a cut: names stay, and sizes follow from what is kept. */
export function cutTypes(found: Couplings, cuts: Cuts): KnownTypes {
  const kept: KeptIndices = keptIndices(found, cuts);
  return new Map(
    [...found.structure.types].map(([name, type]) => {
      const some = kept.all(name);
      return [name, some ? { ...type, shape: type.shape.map((size, axis) => some[axis]?.length ?? size) } : type];
    }),
  );
}
