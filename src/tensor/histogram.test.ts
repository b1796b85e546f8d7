import { expect, test } from "vitest";
import { random } from "../random.ts";
import { addToHistogram, type Histogram, makeHistogram, mergeHistogram, quantile } from "./histogram.ts";

const generator = random(7);
const values = Float32Array.from({ length: 5000 }, (_, i) => (i % 9 === 0 ? 0 : generator.normal() * 2 ** (i % 13)));

function histogramOf(...parts: Float32Array[]): Histogram {
  const h = makeHistogram(256);
  for (const part of parts) addToHistogram(h, part);
  return h;
}

test("neither order nor batching changes a histogram", () => {
  const whole = histogramOf(values);
  const shuffled = random(3).shuffle(Float32Array.from(values));
  expect(histogramOf(values.subarray(0, 17), values.subarray(17))).toEqual(whole);
  expect(histogramOf(shuffled.subarray(0, 4000), shuffled.subarray(4000))).toEqual(whole);
  const sorted = Float32Array.from(values).sort();
  expect(histogramOf(sorted.subarray(0, 2500), sorted.subarray(2500))).toEqual(whole);
  const merged = histogramOf(values.subarray(0, 100));
  mergeHistogram(merged, histogramOf(values.subarray(100)));
  expect(merged).toEqual(whole);
});

test("every number is in the bin that spans it, zeros apart", () => {
  const h = histogramOf(values);
  const width = 2 ** h.exponent;
  const expected = new Float64Array(h.bins);
  for (const x of values) if (x !== 0) expected[Math.floor(x / width) - h.first]!++;
  expect(h.counts).toEqual(expected);
  expect(h.zeros).toBe(values.filter((x) => x === 0).length);
  expect(h.count).toBe(values.length);
  expect([h.min, h.max]).toEqual([Math.min(...values), Math.max(...values)]);
});

test("bins are as narrow as the numbers allow: at least half of them are spanned", () => {
  const h = histogramOf(values);
  expect((h.max - h.min) / 2 ** h.exponent).toBeGreaterThan(h.bins / 2 - 2);
});

test("quantiles are right to a bin", () => {
  const h = histogramOf(values);
  const sorted = Float32Array.from(values).sort();
  for (const share of [0.001, 0.1, 0.5, 0.9, 0.999, 1]) {
    const exact = sorted[Math.ceil(share * sorted.length) - 1]!;
    expect(Math.abs(quantile(h, share) - exact)).toBeLessThanOrEqual(2 ** h.exponent);
  }
});

test("tiny, huge and constant numbers", () => {
  expect(quantile(histogramOf(Float32Array.of(1e-40, 2e-38)), 1)).toBeCloseTo(2e-38, 44);
  expect(histogramOf(Float32Array.of(3e38, -3e38)).max).toBe(Math.fround(3e38));
  expect(quantile(histogramOf(new Float32Array(5)), 0.5)).toBe(0);
  expect(() => addToHistogram(makeHistogram(), Float32Array.of(1, Number.NaN), "x")).toThrow("x: element 1 is NaN");
});
