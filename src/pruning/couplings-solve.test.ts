import { describe, expect, test } from "vitest";
import type { Freeze, PartRelation, ProductRelation } from "./couplings-relations.ts";
import { type Solution, solve } from "./couplings-solve.ts";

const product = (left: number[], right: number[]): ProductRelation => ({ left, right, by: "reshape" });
const part = (some: number, whole: number, index: number[]): PartRelation => ({
  part: some,
  whole,
  index: Int32Array.from(index),
  by: "slice",
});

/** Sizes of an axis's factors, outermost first. */
const factorsOf = (solution: Solution, axis: number): number[] => solution.factors[axis]!.map(({ size }) => size);

/** The unit of every index of an axis's outermost factor. */
function unitsOf(solution: Solution, axis: number, factor = 0): number[] {
  const { atom, size } = solution.factors[axis]![factor]!;
  return Array.from({ length: size }, (_, i) => solution.unitOf(atom + i));
}

function solved(
  sizes: number[],
  products: ProductRelation[],
  parts: PartRelation[] = [],
  freezes: Freeze[] = [],
): Solution {
  return solve({ sizes, products, parts, freezes });
}

describe("axes as products", () => {
  test("are split where any reshape in the graph splits them", () => {
    // 0: 24 = 1: 6 x 2: 4, and equal to 3, which is 4: 2 x 5: 12
    const solution = solved([24, 6, 4, 24, 2, 12], [product([0], [1, 2]), product([0], [3]), product([3], [4, 5])]);
    expect([0, 1, 2, 3, 4, 5].map((axis) => factorsOf(solution, axis))).toEqual([
      [2, 3, 4],
      [2, 3],
      [4],
      [2, 3, 4],
      [2],
      [3, 4],
    ]);
    expect(unitsOf(solution, 5, 1)).toEqual(unitsOf(solution, 2));
  });

  test("whose splits do not nest are frozen", () => {
    const solution = solved([6, 2, 3, 3, 2], [product([0], [1, 2]), product([0], [3, 4])]);
    const reasons = unitsOf(solution, 0).map((unit) => solution.frozen.get(unit)?.reason);
    expect(reasons.every((reason) => reason?.includes("does not fit"))).toBe(true);
  });
});

describe("parts of axes", () => {
  test("share units with the whole, wherever they lie", () => {
    const solution = solved([5, 2, 3], [], [part(1, 0, [3, 1]), part(2, 0, [0, 2, 4])]);
    const whole = unitsOf(solution, 0);
    expect(unitsOf(solution, 1)).toEqual([whole[3], whole[1]]);
    expect(unitsOf(solution, 2)).toEqual([whole[0], whole[2], whole[4]]);
    expect(new Set(whole).size).toBe(5);
  });

  test("hand their factors to the whole if all of them have these", () => {
    const alike = solved(
      [12, 6, 6, 3, 2, 3, 2],
      [product([1], [3, 4]), product([2], [5, 6])],
      [part(1, 0, [0, 1, 2, 3, 4, 5]), part(2, 0, [6, 7, 8, 9, 10, 11])],
    );
    expect(factorsOf(alike, 0)).toEqual([6, 2]);
    expect(unitsOf(alike, 4)).toEqual(unitsOf(alike, 6));
  });

  test("with factors of their own are cut by whole blocks, and leave other parts alone", () => {
    const solution = solved(
      [8, 6, 2, 3, 2],
      [product([1], [3, 4])],
      [part(1, 0, [0, 1, 2, 3, 4, 5]), part(2, 0, [6, 7])],
    );
    const whole = unitsOf(solution, 0);
    expect(whole[0]).toBe(whole[1]);
    expect(new Set(whole).size).toBe(5);
    expect(solution.frozen.get(unitsOf(solution, 1, 1)[0]!)?.reason).toContain("blocks that stay whole");
    expect(solution.frozen.has(whole[0]!)).toBe(false);
  });
});

test("one frozen index freezes its unit only, and a reason that is not about positions goes first", () => {
  const position = { axis: 0, index: 1, reason: "positions", position: true };
  const output = { axis: 1, reason: "output", position: false };
  const solution = solved([3, 2], [], [part(1, 0, [0, 1])], [position, output]);
  const whole = unitsOf(solution, 0);
  expect(whole.map((unit) => solution.frozen.get(unit)?.reason)).toEqual(["output", "output", undefined]);
});
