import { expect, test } from "vitest";
import { random } from "../random.ts";
import { channelRanges, requireFinite, statistics } from "./statistics.ts";

test("statistics of a few numbers", () => {
  expect(statistics(Float32Array.of(3, -1, 0, 2))).toEqual({
    count: 4,
    min: -1,
    max: 3,
    absMax: 3,
    mean: 1,
    variance: 2.5,
    zeros: 1,
  });
  expect(statistics(new Float32Array())).toMatchObject({ count: 0, min: 0, max: 0, variance: 0 });
});

test("the variance survives a large mean", () => {
  const generator = random(1);
  const values = Float32Array.from({ length: 10000 }, () => 1e6 + generator.int(3));
  expect(statistics(values).variance).toBeCloseTo(2 / 3, 1);
});

test("channelRanges keeps the indices of any axis apart", () => {
  const values = Float32Array.from([1, -2, 3, 4, 5, 6, -7, 8, 9, 10, 11, 12]);
  expect(channelRanges(values, [2, 3, 2], 1)).toEqual({
    min: Float32Array.of(-7, 3, 5),
    max: Float32Array.of(8, 10, 12),
  });
  expect(channelRanges(values, [2, 3, 2], -1)).toEqual({ min: Float32Array.of(-7, -2), max: Float32Array.of(11, 12) });
  expect(channelRanges(values, [2, 3, 2], null)).toEqual({ min: Float32Array.of(-7), max: Float32Array.of(12) });
  expect(channelRanges(new Float32Array(), [0, 2], 1).max).toEqual(Float32Array.of(0, 0));
});

test("numbers that are not finite are named", () => {
  const bad = Float32Array.of(1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
  for (const check of [
    () => statistics(bad, "x"),
    () => channelRanges(bad, [3], 0, "x"),
    () => channelRanges(bad, [3], null, "x"),
    () => requireFinite(bad, "x"),
  ]) {
    expect(check).toThrow("x: element 1 is Infinity");
  }
});
