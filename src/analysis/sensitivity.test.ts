import { expect, test } from "vitest";
import { loudest, sensitivity } from "./sensitivity.ts";

const noises = Array.from({ length: 64 }, (_, i) => (i === 37 ? 30 : i === 5 ? 20 : 0.5));
const items = noises.map((_, i) => i);
let asked = 0;
const noiseOf = async (only: readonly number[]): Promise<number> => {
  asked++;
  return only.reduce((sum, i) => sum + noises[i]!, 0);
};

test("halving finds the loud items with few measurements", async () => {
  asked = 0;
  expect(await loudest(items, noiseOf, 0.2)).toEqual([
    { item: 37, noise: 30 },
    { item: 5, noise: 20 },
  ]);
  expect(asked).toBeLessThan(30);
  expect(await loudest([3], noiseOf, 0.2)).toEqual([{ item: 3, noise: 0.5 }]);
  expect(await loudest([], noiseOf, 0.2)).toEqual([]);
});

test("even noise has no loud items, and is given up early", async () => {
  asked = 0;
  expect(await loudest(items, async (only) => noiseOf(only).then(() => only.length), 0.2)).toEqual([]);
  expect(asked).toBeLessThan(16);
});

test("an item that leaves no finite output is found", async () => {
  const broken = async (only: readonly number[]): Promise<number> =>
    only.includes(11) ? Number.POSITIVE_INFINITY : noiseOf(only);
  expect(await loudest(items, broken, 0.2)).toEqual([{ item: 11, noise: Number.POSITIVE_INFINITY }]);
});

test("sensitivity ranks every item", async () => {
  const found = await sensitivity(items, noiseOf);
  expect(found).toHaveLength(64);
  expect(found.slice(0, 2).map(({ item }) => item)).toEqual([37, 5]);
});
