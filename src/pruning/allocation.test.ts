import { describe, expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, type Tensor } from "../tensor/tensor.ts";
import { type AllocationOptions, allocate } from "./allocation.ts";
import { type Couplings, couplings, type Group } from "./couplings.ts";

const ort = await runtime({ threads: 1 });

/** Layers of the given widths, input and output included. */
function layers(widths: readonly number[]): Graph {
  const weights = new Map<string, Tensor>();
  const nodes = widths.slice(1).map((to, i) => {
    const from = widths[i]!;
    const source = random(i);
    weights.set(
      `w${i}`,
      float32(
        [from, to],
        Float32Array.from({ length: from * to }, () => source.normal()),
      ),
    );
    return makeNode("MatMul", [`v${i}`, `w${i}`], [`v${i + 1}`]);
  });
  const border = (i: number) => ({
    name: `v${i}`,
    type: { kind: "tensor", dtype: "float32", shape: ["n", widths[i]!] } as const,
  });
  return makeGraph({ nodes, weights, inputs: [border(0)], outputs: [border(widths.length - 1)] });
}

async function foundIn(widths: readonly number[]): Promise<{ found: Couplings; groups: readonly Group[] }> {
  const graph = layers(widths);
  const found = couplings(
    graph,
    await observeTypes(graph, ort, { v0: float32([1, widths[0]!], new Float32Array(widths[0]!)) }),
  );
  return { found, groups: found.groups.filter(({ frozen }) => frozen === undefined) };
}

const defaults: AllocationOptions = {
  allocation: "uniform",
  ratio: 0.5,
  of: "macs",
  keep: 0.1,
  roundTo: 1,
  own: new Map(),
};
const rising = (groups: readonly Group[], scale = (_: number) => 1) =>
  new Map(groups.map((group, g) => [group, Float64Array.from({ length: group.units }, (_, i) => scale(g) * (i + 1))]));
const widths = (groups: readonly Group[], cuts: ReadonlyMap<Group, readonly number[]>): number[] =>
  groups.map((group) => cuts.get(group)?.length ?? group.units);

describe("shares of groups", () => {
  test("uniform: the smallest share of every group that reaches the target, of MACs or of parameters", async () => {
    const { found, groups } = await foundIn([10, 100, 100, 10]);
    for (const of of ["macs", "parameters"] as const) {
      const { cuts, before, after, reached } = allocate(found, rising(groups), { ...defaults, of });
      expect([before[of], reached]).toEqual([12000, true]);
      // w^2 + 20 w <= 6000
      expect(widths(groups, cuts)).toEqual([68, 68]);
      expect(after[of]).toBe(68 * 68 + 20 * 68);
      expect(cuts.get(groups[0]!)).toEqual(Array.from({ length: 68 }, (_, i) => 32 + i));
    }
  });

  test("units: the share of each group itself", async () => {
    const { found, groups } = await foundIn([3, 20, 40, 5]);
    const { cuts } = allocate(found, rising(groups), { ...defaults, of: "units", ratio: 0.3 });
    expect(widths(groups, cuts)).toEqual([14, 28]);
  });

  test("global: the lowest scores of all groups go, but every group keeps its share", async () => {
    const { found, groups } = await foundIn([8, 40, 40, 8]);
    const scores = rising(groups, (g) => (g === 0 ? 1 : 100));
    const units = { ...defaults, allocation: "global", of: "units" } as const;
    expect(widths(groups, allocate(found, scores, { ...units, ratio: 0.25 }).cuts)).toEqual([20, 40]);
    expect(widths(groups, allocate(found, scores, { ...units, ratio: 0.5 }).cuts)).toEqual([4, 40]);
  });

  test("efficient: of equal scores those go that cost most", async () => {
    const { found, groups } = await foundIn([2, 20, 20, 200]);
    const { cuts } = allocate(found, rising(groups), { ...defaults, allocation: "efficient", ratio: 0.3 });
    const [first, second] = widths(groups, cuts);
    expect(first).toBe(20);
    expect(second).toBe(13);
  });

  test("wide groups are cut to multiples, and go as far as they must", async () => {
    const { found, groups } = await foundIn([4, 64, 12, 4]);
    const { cuts } = allocate(found, rising(groups), { ...defaults, of: "units", ratio: 0.3, roundTo: 8 });
    expect(widths(groups, cuts)).toEqual([48, 8]);
  });

  test("of groups that round to the same step only as many give as it takes, the last ones", async () => {
    const { found, groups } = await foundIn([8, 64, 64, 64, 8]);
    const { cuts, after } = allocate(found, rising(groups), { ...defaults, ratio: 0.3, roundTo: 16 });
    expect(widths(groups, cuts)).toEqual([64, 48, 48]);
    // 70 % of 9216 are 6451
    expect(after.macs).toBe(8 * 64 + 64 * 48 + 48 * 48 + 48 * 8);
  });

  test("one group is not rounded where multiples would miss the target", async () => {
    const { found, groups } = await foundIn([8, 32, 8]);
    const { cuts, after } = allocate(found, rising(groups), { ...defaults, ratio: 0.3, roundTo: 8 });
    expect([widths(groups, cuts), after.macs]).toEqual([[22], 22 * 16]);
    // 25 % for 22 % is close enough
    expect(widths(groups, allocate(found, rising(groups), { ...defaults, ratio: 0.22, roundTo: 8 }).cuts)).toEqual([
      24,
    ]);
  });

  test("latency: what buys milliseconds goes, at widths where the kernels gain", async () => {
    const { found, groups } = await foundIn([8, 32, 32, 8]);
    // blocks of 16 units, and the second group's layers are ten times as slow
    const time = (group: Group, width: number): number => Math.ceil(width / 16) * (group === groups[0] ? 1 : 10);
    const around = (group: Group, some: ReadonlyMap<Group, number>) => time(group, some.get(group) ?? group.units);
    const times = {
      around,
      multiple: () => 1,
      total: (some: ReadonlyMap<Group, number>) => around(groups[0]!, some) + around(groups[1]!, some),
    };
    const options = { ...defaults, allocation: "latency", of: "latency", ratio: 0.3 } as const;
    const found30 = allocate(found, rising(groups), options, times);
    expect([widths(groups, found30.cuts), found30.times]).toEqual([[32, 16], { before: 22, after: 12 }]);
    const more = allocate(found, rising(groups), { ...options, ratio: 0.5 }, times);
    expect([widths(groups, more.cuts), more.reached]).toEqual([[16, 16], true]);
    // nothing is gained below a block
    const all = allocate(found, rising(groups), { ...options, ratio: 0.9 }, times);
    expect([widths(groups, all.cuts), all.reached]).toEqual([[16, 16], false]);
    const macs = allocate(found, rising(groups), { ...options, of: "macs", ratio: 0.3 }, times);
    expect(widths(groups, macs.cuts)).toEqual([32, 16]);
  });

  test("latency: widths that break blocks come last, however cheap", async () => {
    const { found, groups } = await foundIn([8, 48, 32, 8]);
    // alone, layers gain with every unit, and the first group's units cost next to nothing
    const around = (group: Group, some: ReadonlyMap<Group, number>) => some.get(group) ?? group.units;
    const total = (some: ReadonlyMap<Group, number>) => groups.reduce((sum, group) => sum + around(group, some), 0);
    const times = { around, total, multiple: () => 16 };
    const options = { ...defaults, allocation: "latency", of: "latency" } as const;
    const at = (ratio: number) => widths(groups, allocate(found, rising(groups), { ...options, ratio }, times).cuts);
    expect(at(0.15)).toEqual([32, 32]);
    expect(at(0.6)).toEqual([16, 16]);
    const most = at(0.7);
    expect(most.every((width) => width <= 16)).toBe(true);
    expect(most.some((width) => width < 16)).toBe(true);
  });

  test("a share of measured time, by one share of all groups", async () => {
    const { found, groups } = await foundIn([8, 32, 8]);
    const around = (group: Group, some: ReadonlyMap<Group, number>) => some.get(group) ?? group.units;
    const total = (some: ReadonlyMap<Group, number>) => around(groups[0]!, some);
    const times = { around, total, multiple: () => 1 };
    const { cuts } = allocate(found, rising(groups), { ...defaults, of: "latency", ratio: 0.25 }, times);
    expect(widths(groups, cuts)).toEqual([24]);
  });

  test("shares of their own hold beside the target; one that can't be reached is said so", async () => {
    const { found, groups } = await foundIn([10, 100, 100, 10]);
    const own = new Map([[groups[0]!, 0]]);
    const { cuts, reached } = allocate(found, rising(groups), { ...defaults, ratio: 0.2, own });
    expect([widths(groups, cuts), reached]).toEqual([[100, 78], true]);
    const far = allocate(found, rising(groups), { ...defaults, ratio: 0.95, own });
    expect([widths(groups, far.cuts), far.reached]).toEqual([[100, 10], false]);
  });
});
