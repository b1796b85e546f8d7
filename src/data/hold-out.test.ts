import { expect, test } from "vitest";
import { float32, toNumbers } from "../tensor/tensor.ts";
import type { Dataset } from "./dataset.ts";
import { withValidation } from "./hold-out.ts";
import { datasetOf } from "./samples.ts";

const numbers = (count: number): Dataset =>
  datasetOf(
    "numbers",
    new Map(
      ["train", "test"].map((split) => [
        split,
        {
          count,
          read: async (indices: readonly number[]) => ({
            inputs: { x: float32([indices.length], [...indices]) },
            size: indices.length,
          }),
        },
      ]),
    ),
  );

async function all(data: Dataset, split: string, seed?: number): Promise<number[]> {
  const found: number[] = [];
  for await (const { inputs } of data.batches({ batch: 64, split, ...(seed !== undefined && { seed }) }))
    found.push(...toNumbers(inputs.x!));
  return found;
}

test("a share of a split becomes the validation split, the rest stays to learn from", async () => {
  const data = withValidation(numbers(1000), "train", { share: 0.2, seed: 3 });
  expect(data.splits).toEqual(["train", "val", "test"]);
  expect([data.size("train"), data.size("val"), data.size("test")]).toEqual([800, 200, 1000]);
  const [train, val] = [await all(data, "train"), await all(data, "val")];
  expect([...train, ...val].toSorted((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  expect(train).toEqual(train.toSorted((a, b) => a - b));
  // drawn over the whole split, and shuffled within
  expect(Math.max(...val) - Math.min(...val)).toBeGreaterThan(900);
  const shuffled = await all(data, "train", 5);
  expect(shuffled).not.toEqual(train);
  expect(shuffled.toSorted((a, b) => a - b)).toEqual(train);
});

test("the seed decides what is set apart", async () => {
  const held = (seed: number): Promise<number[]> =>
    all(withValidation(numbers(500), "train", { share: 0.2, seed }), "val");
  expect(await held(1)).toEqual(await held(1));
  expect(await held(1)).not.toEqual(await held(2));
});

test("few samples, and data with a validation split, stay as they are", () => {
  const few = numbers(100);
  expect(withValidation(few, "train", { share: 0.2, seed: 1 })).toBe(few);
  const cut = withValidation(numbers(1000), "train", { share: 0.2, seed: 1 });
  expect(withValidation(cut, "train", { share: 0.2, seed: 1 })).toBe(cut);
});
