import { type Costs, costs } from "../analysis/cost.ts";
import type { Couplings, Group } from "./couplings.ts";
import { type Cuts, cutUnits } from "./cut.ts";
import type { UnitScores } from "./importance.ts";
import type { LayerTimes } from "./layer-times.ts";
import { spend } from "./spend.ts";
import { cutTypes, highest, type Widths } from "./widths.ts";

/** How groups share a cut. */
export const allocations = ["uniform", "global", "efficient", "latency"] as const;

/** What a ratio is a share of. */
export const targets = ["macs", "parameters", "latency", "units"] as const;

/** How many units each group gives. */
export interface AllocationOptions {
  /**
   * The same share of every group; the lowest scores of all groups; the lowest scores by what they save of the target; or
   * by the milliseconds they save.
   */
  readonly allocation: (typeof allocations)[number];
  /** Share to remove. */
  readonly ratio: number;
  /** What it is a share of: units of each group, or what the whole model costs. */
  readonly of: (typeof targets)[number];
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
  /** Measured milliseconds of the layers, where times were given. */
  readonly times?: { readonly before: number; readonly after: number };
  /** Whether as much goes as was asked for. */
  readonly reached: boolean;
}

/** Steps between nothing and everything that a search distinguishes. */
const finest = 1024;

/** Share of the whole beyond the target at which too much is gone. */
const tolerance = 0.03;

/** What choosing widths is about. */
interface Task {
  readonly found: Couplings;
  readonly scores: UnitScores;
  readonly options: AllocationOptions;
  readonly times: LayerTimes | undefined;
  /** Groups without a share of their own. */
  readonly free: readonly Group[];
  /** What a model of some widths costs. */
  amount(widths: Widths, of: AllocationOptions["of"]): number;
}

/**
 * Chooses the units that stay: the highest scores of each group. Shares of costs are found by bisection over how much
 * every group gives, costs measured on the cut graph. Of the last step only the groups behind give that are needed: early
 * layers are the more sensitive ones. What rounded widths take beyond the target, one group gets back.
 *
 * @param times needed where the target or the allocation is latency
 */
export function allocate(
  found: Couplings,
  scores: UnitScores,
  options: AllocationOptions,
  times?: LayerTimes,
): Allocation {
  const before = costs(found.graph, found.structure.types);
  const cutsOf = (widths: Widths): Cuts =>
    new Map(
      [...scores].flatMap(([group, own]): [Group, readonly number[]][] => {
        const width = widths.get(group) ?? group.units;
        return width < group.units ? [[group, highest(own, width)]] : [];
      }),
    );
  const costsOf = (cuts: Cuts): Costs =>
    cuts.size === 0 ? before : costs(cutUnits(found, cuts), cutTypes(found, cuts));
  const free = [...scores.keys()].filter((group) => !options.own.has(group));
  const amount: Task["amount"] = (widths, of) => {
    if (of === "latency") return times!.total(widths);
    if (of === "units") return free.reduce((sum, group) => sum + (widths.get(group) ?? group.units), 0);
    return costsOf(cutsOf(widths))[of];
  };
  const task: Task = { found, scores, options, times, free, amount };
  const whole: Widths = new Map();
  const all = amount(whole, options.of);
  const goal = all * (1 - options.ratio);
  const widths = widthsFor(task, goal, all);
  const cuts = cutsOf(widths);
  return {
    cuts,
    before,
    after: costsOf(cuts),
    ...(times && { times: { before: times.total(whole), after: times.total(widths) } }),
    // shares of units are of each group's own
    reached: options.ratio === 0 || options.of === "units" || amount(widths, options.of) <= goal,
  };
}

function widthsFor(task: Task, goal: number, all: number): Widths {
  const { free, options, scores, times, amount } = task;
  const { of, ratio, allocation } = options;
  const own = new Map(
    [...options.own].map(([group, share]) => [group, rounded(group, group.units * (1 - share), options)]),
  );
  if (ratio === 0) return own;
  const reaches = (widths: Widths): boolean => amount(widths, of) <= goal;
  if (allocation === "latency") return spend(free, scores, times!, own, (group) => fewest(group, options), reaches);
  const share = sharing(task);
  const widthsAt = (strength: number): Widths =>
    new Map([...own, ...[...share(strength)].map(([g, wanted]): [Group, number] => [g, rounded(g, wanted, options)])]);
  if (of === "units") return widthsAt(ratio);
  const high = least(1, finest, (step) => reaches(widthsAt(step / finest)));
  const [less, more] = [widthsAt((high - 1) / finest), widthsAt(high / finest)];
  // with rounded widths one step may cut many groups: the last of them, as many as it takes
  const mixed = (count: number): Widths =>
    new Map([...less, ...free.slice(free.length - count).map((group): [Group, number] => [group, more.get(group)!])]);
  return refilled(task, mixed(least(0, free.length, (count) => reaches(mixed(count)))), goal, all);
}

/** Groups get units back, up to a rounding step each and the first ones first, until the target is met closely. */
function refilled({ free, options, amount }: Task, widths: Widths, goal: number, all: number): Widths {
  const filled = new Map(widths);
  const left = (some: Widths): number => goal - amount(some, options.of);
  for (const group of free) {
    const now = filled.get(group)!;
    const top = Math.min(group.units, now + (isRounded(group, options) ? options.roundTo : 1));
    if (top === now || left(filled) <= tolerance * all) continue;
    const less = least(0, top - now, (fewer) => left(new Map(filled).set(group, top - fewer)) >= 0);
    filled.set(group, top - less);
  }
  return filled;
}

const isRounded = ({ units }: Group, { roundTo }: AllocationOptions): boolean => units >= 4 * roundTo;

const fewest = ({ units }: Group, { keep }: AllocationOptions): number => Math.max(1, Math.ceil(keep * units));

/** A width that a group can have: not too few units, and a multiple where the group is wide. */
function rounded(group: Group, wanted: number, options: AllocationOptions): number {
  const { roundTo } = options;
  const near = isRounded(group, options)
    ? Math.max(roundTo, Math.round(wanted / roundTo) * roundTo)
    : Math.round(wanted);
  return Math.min(group.units, Math.max(fewest(group, options), near));
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
function sharing({ free, options, scores, amount }: Task): (strength: number) => Widths {
  if (options.allocation === "uniform") {
    return (strength) => new Map(free.map((group) => [group, group.units * (1 - strength)]));
  }
  const of = options.of === "units" ? "macs" : options.of;
  const whole = amount(new Map(), of);
  const saving = (group: Group): number => {
    const half = Math.ceil(group.units / 2);
    if (half === group.units) return 1;
    return Math.max(Number.MIN_VALUE, (whole - amount(new Map([[group, half]]), of)) / (group.units - half));
  };
  const ranked = free
    .flatMap((group) => {
      const each = options.allocation === "efficient" ? saving(group) : 1;
      return Array.from(scores.get(group)!, (score) => ({ group, value: score / each }));
    })
    .sort((a, b) => a.value - b.value);
  return (strength) => {
    const wanted = new Map(free.map((group) => [group, group.units]));
    for (const { group } of ranked.slice(0, Math.round(strength * ranked.length))) {
      wanted.set(group, wanted.get(group)! - 1);
    }
    return wanted;
  };
}
