import { expect, test } from "vitest";
import type { Dataset } from "../data/dataset.ts";
import { datasetOf } from "../data/samples.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import { slice, splitData } from "./split.ts";

/** A dataset whose samples are their own numbers, counted on over the splits. */
function numbers(splits: Readonly<Record<string, number>>): Dataset {
  let start = 0;
  const samples = Object.entries(splits).map(([split, count]) => {
    const first = start;
    start += count;
    const read = async (indices: readonly number[]) => ({
      inputs: {
        x: float32(
          [indices.length],
          indices.map((i) => first + i),
        ),
      },
      size: indices.length,
    });
    return [split, { count, read }] as const;
  });
  return datasetOf("numbers", new Map(samples));
}

async function contents(data: Dataset, seed?: number): Promise<number[]> {
  const all: number[] = [];
  for await (const { inputs } of data.batches({ batch: 7, ...(seed !== undefined && { seed }) }))
    all.push(...toFloat32(inputs.x!));
  return all;
}

test("one split is cut in three that share nothing and leave nothing out", async () => {
  const parts = await splitData(numbers({ all: 100 }), { seed: 3 });
  expect(parts.samples).toEqual({ calibration: 20, selection: 40, confirmation: 40 });
  const seen = [...(await contents(parts.calibration)), ...(await contents(parts.selection))];
  seen.push(...(await contents(parts.confirmation)));
  expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
});

test("a test split is halved, and the default split calibrates", async () => {
  const parts = await splitData(numbers({ train: 50, test: 30 }), { seed: 3, calibration: 10 });
  expect(parts.samples).toEqual({ calibration: 10, selection: 15, confirmation: 15 });
  expect(Math.max(...(await contents(parts.calibration)))).toBeLessThan(50);
  const scored = [...(await contents(parts.selection)), ...(await contents(parts.confirmation))];
  expect(new Set(scored).size).toBe(30);
  expect(Math.min(...scored)).toBe(50);
});

test("a limit bounds what is scored, and the same seed cuts the same", async () => {
  const first = await splitData(numbers({ all: 1000 }), { seed: 1, limit: 50 });
  expect(first.samples.selection + first.samples.confirmation).toBe(50);
  const again = await splitData(numbers({ all: 1000 }), { seed: 1, limit: 50 });
  expect(await contents(again.confirmation)).toEqual(await contents(first.confirmation));
  const other = await splitData(numbers({ all: 1000 }), { seed: 2, limit: 50 });
  expect(await contents(other.confirmation)).not.toEqual(await contents(first.confirmation));
});

test("what may be learned from is neither chosen nor confirmed by, and shuffles", async () => {
  const pool = numbers({ all: 100 });
  const { holdOut: _, ...fixed } = pool;
  for (const data of [pool, fixed]) {
    const parts = await splitData(data, { seed: 3, learn: true, calibration: 10 });
    expect(parts.samples).toEqual({ calibration: 10, selection: 20, confirmation: 20 });
    const learned = await contents(parts.training);
    expect(learned).toHaveLength(60);
    const scored = [...(await contents(parts.selection)), ...(await contents(parts.confirmation))];
    expect(new Set([...learned, ...scored]).size).toBe(100);
    expect(new Set([...learned, ...(await contents(parts.calibration))]).size).toBe(60);
    // the same samples, for every seed in another order where they can be held out
    const [one, two] = [await contents(parts.training, 1), await contents(parts.training, 2)];
    if (data === pool) expect(one).not.toEqual(two);
    expect(new Set([...learned, ...one, ...two]).size).toBe(60);
  }
  const apart = await splitData(numbers({ train: 50, val: 8, test: 30 }), { seed: 3, learn: true });
  expect(apart.training.splits).toEqual(["train", "val"]);
  expect(await contents(apart.training)).toHaveLength(50);
});

test("too few samples are refused", async () => {
  await expect(splitData(numbers({ all: 2 }), { seed: 0 })).rejects.toThrow("2 samples are too few");
});

test("a slice of a slice stays inside", async () => {
  const inner = slice(slice(numbers({ all: 10 }), { skip: 2, limit: 5 }), { skip: 3, limit: 9 });
  expect(await contents(inner)).toEqual([5, 6]);
});
