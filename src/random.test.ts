import { expect, test } from "vitest";
import { random } from "./random.ts";

test("the same seed gives the same stream, another seed another", () => {
  const draw = (seed: number): number[] => Array.from({ length: 8 }, random(seed).next);
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
  expect(draw(2 ** 32)).not.toEqual(draw(0));
});

test("a stream continues from its state", () => {
  const r = random(5);
  for (let i = 0; i < 10; i++) r.next();
  const copy = random(r.state());
  expect([copy.next(), copy.int(100)]).toEqual([r.next(), r.int(100)]);
});

test("uniform and normal have their moments", () => {
  const r = random(3);
  const count = 100_000;
  const moments = (draw: () => number): [number, number] => {
    const values = Float64Array.from({ length: count }, draw);
    const mean = values.reduce((a, b) => a + b) / count;
    return [mean, values.reduce((a, b) => a + (b - mean) ** 2, 0) / count];
  };
  const [uniformMean, uniformVariance] = moments(r.next);
  expect(uniformMean).toBeCloseTo(0.5, 2);
  expect(uniformVariance).toBeCloseTo(1 / 12, 2);
  const [normalMean, normalVariance] = moments(r.normal);
  expect(normalMean).toBeCloseTo(0, 1);
  expect(normalVariance).toBeCloseTo(1, 1);
});

test("shuffle keeps the elements, and every element reaches every place", () => {
  const r = random(9);
  const places = Array.from({ length: 4 }, () => new Set<number>());
  for (let i = 0; i < 200; i++) {
    const shuffled = r.shuffle([0, 1, 2, 3]);
    expect(shuffled.toSorted()).toEqual([0, 1, 2, 3]);
    for (const [place, value] of shuffled.entries()) places[place]!.add(value);
  }
  expect(places.every(({ size }) => size === 4)).toBe(true);
});

test("forks depend on seed and label, not on what was drawn before", () => {
  const r = random(4);
  const before = r.fork("a").next();
  r.next();
  expect(r.fork("a").next()).toBe(before);
  expect(r.fork("b").next()).not.toBe(before);
  expect(random(5).fork("a").next()).not.toBe(before);
});
