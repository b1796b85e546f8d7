import { expect, test } from "vitest";
import { sqnr } from "../metrics/reference.ts";
import { dropOf, idealScore, samplesToProve, worstAllowed } from "./budget.ts";
import type { Score } from "./ledger.ts";

const score = (value: number, better: Score["better"], unit?: string): Score => ({
  metric: "m",
  value,
  better,
  samples: 100,
  ...(unit !== undefined && { unit }),
});

test("shares drop in points, whatever the baseline", () => {
  const { drop, interval } = dropOf(score(0.5, "higher", "%"), score(0.49, "higher", "%"), [-0.03, 0.01]);
  expect(drop).toBeCloseTo(0.01, 12);
  expect(interval![0]).toBeCloseTo(-0.01, 12);
  expect(interval![1]).toBeCloseTo(0.03, 12);
});

test("losses drop relative to the baseline", () => {
  expect(dropOf(score(2, "lower", "nats"), score(2.1, "lower", "nats")).drop).toBeCloseTo(0.05, 12);
  expect(dropOf(score(2, "lower"), score(1, "lower")).drop).toBeCloseTo(-0.5, 12);
});

test("decibels drop by the amplitude of the noise", () => {
  const ideal = idealScore(sqnr, 10);
  expect(dropOf(ideal, score(40, "higher", "dB")).drop).toBeCloseTo(0.01, 12);
  expect(dropOf(ideal, score(20, "higher", "dB")).drop).toBeCloseTo(0.1, 12);
});

test("decibels against labels drop by what a paired comparison says", () => {
  const wide = { ...score(30, "higher", "dB"), interval: [20, 40] as const };
  const { interval } = dropOf(score(30, "higher", "dB"), wide, [-0.1, 0.05]);
  expect(interval![0]).toBeCloseTo(10 ** (-30.05 / 20) - 10 ** (-30 / 20), 12);
  expect(interval![1]).toBeCloseTo(10 ** (-29.9 / 20) - 10 ** (-30 / 20), 12);
});

test("the worst score allowed drops by the budget", () => {
  for (const before of [score(0.9, "higher", "%"), score(2, "lower"), score(50, "higher", "dB")]) {
    const worst = worstAllowed(before, 0.01);
    expect(dropOf(before, { ...before, value: worst }).drop).toBeCloseTo(0.01, 12);
  }
});

test("a score that is no number is over every budget", () => {
  expect(dropOf(score(0.5, "higher", "%"), score(Number.NaN, "higher", "%")).drop).toBe(Number.POSITIVE_INFINITY);
});

test("four times the samples halve the interval", () => {
  expect(samplesToProve({ drop: 0, interval: [-0.02, 0.02] }, 100, 0.01)).toBe(400);
  expect(samplesToProve({ drop: 0.02, interval: [0.01, 0.03] }, 100, 0.01)).toBeUndefined();
});
