import { expect, test } from "vitest";
import { random } from "../random.ts";
import { bestPenalty, noSums, ridge, type Sums, together } from "./least-squares.ts";

/** Sums over positions of y = W x + b + noise, with W of two outputs and three inputs. */
function sumsOf(count: number, seed: number, noise = 0): Sums {
  const draw = random(seed);
  const sums = noSums(3, 2);
  for (let n = 0; n < count; n++) {
    const x = [draw.normal() + 1, draw.normal() - 2, draw.normal()];
    const y = [2 * x[0]! - x[1]! + 5, 3 * x[2]! - 1].map((v) => v + noise * draw.normal());
    sums.count++;
    for (let i = 0; i < 3; i++) {
      sums.x[i]! += x[i]!;
      for (let j = 0; j < 3; j++) sums.xx[i * 3 + j]! += x[i]! * x[j]!;
      for (let o = 0; o < 2; o++) sums.yx[o * 3 + i]! += y[o]! * x[i]!;
    }
    for (let o = 0; o < 2; o++) sums.y[o]! += y[o]!;
  }
  return sums;
}

const wanted = [2, -1, 0, 0, 0, 3];
const zeros = new Float32Array(6);

test("finds weights and bias; a penalty draws towards what was", () => {
  const exact = ridge(sumsOf(50, 1), zeros, 1e-9)!;
  for (const [i, w] of exact.weights.entries()) expect(w).toBeCloseTo(wanted[i]!, 5);
  expect([...exact.bias].map((v) => Math.round(v * 1e4) / 1e4)).toEqual([5, -1]);
  const before = [1, 1, 1, 1, 1, 1];
  for (const w of ridge(sumsOf(50, 1), before, 1e6)!.weights) expect(w).toBeCloseTo(1, 3);
});

test("inputs that never change tell of the bias alone", () => {
  const sums = noSums(1, 1);
  sums.count = 2;
  sums.x[0] = 6;
  sums.xx[0] = 18;
  sums.yx[0] = 30;
  sums.y[0] = 10;
  expect(ridge(sums, [1], 0.1)).toEqual({ weights: Float64Array.of(1), bias: Float64Array.of(2) });
  sums.yx[0] = Number.NaN;
  expect(ridge(sums, [1], 0.1)).toBeUndefined();
});

test("the penalty is chosen by what fits the other half: small with much data, large with little and noise", () => {
  const choose = (count: number, noise: number, before: ArrayLike<number>) =>
    bestPenalty([[sumsOf(count, 1, noise), sumsOf(count, 2, noise)]], () => before);
  expect(choose(500, 0, zeros)).toBe(1e-4);
  expect(choose(5, 20, wanted)).toBe(1);
});

test("sums add up", () => {
  const both = together(sumsOf(10, 3), sumsOf(20, 4));
  expect(both.count).toBe(30);
  expect(both.xx[4]).toBeCloseTo(sumsOf(10, 3).xx[4]! + sumsOf(20, 4).xx[4]!, 9);
});
