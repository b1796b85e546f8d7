import { describe, expect, test } from "vitest";
import { random } from "../../random.ts";
import { clearance, clearest, distanceToTies } from "./ties.ts";

/** By looking at every number. */
function nearest(start: number, stride: number, count: number): number {
  let least = 1;
  for (let k = 0; k < count; k++) {
    const v = start + k * stride;
    least = Math.min(least, Math.abs(v - Math.floor(v) - 0.5));
  }
  return least;
}

describe("ties", () => {
  test("the nearest of many numbers is found without looking at each", () => {
    const r = random(1);
    for (let i = 0; i < 300; i++) {
      const [start, stride, count] = [300 * (r.next() - 0.5), 10 ** (6 * r.next() - 5), 1 + r.int(2000)];
      expect(distanceToTies(start, stride, count)).toBeCloseTo(nearest(start, stride, count), 9);
    }
    expect(distanceToTies(0, 0, 5)).toBe(0.5);
    expect(distanceToTies(0.25, 0.25, 2)).toBe(0);
  });

  test("a step is moved off a tie, and left where it is far from all", () => {
    // 40 sums, the 21st of which lies at 10.5
    const at = (step: number) => (factor: number) => (_: number, least: number) =>
      clearance(0, step * factor, 0, 40, least);
    expect(clearest(1, at(0.51))).toEqual([1]);
    const [factor] = clearest(1, at(0.5)) as [number];
    expect(factor).toBeGreaterThan(1);
    expect(factor).toBeLessThan(1.001);
    expect(nearest(0, 0.5 * factor, 41)).toBeGreaterThan(1e-5);
  });
});
