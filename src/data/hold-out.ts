import type { Dataset } from "./dataset.ts";

/** What to set apart of a split. */
export interface HoldOut {
  readonly share: number;
  readonly seed: number;
}

/** Validation samples fewer than these decide by chance. */
const smallest = 50;

/**
 * The dataset with a share of a split set apart as "val": as it is where it has such a split, where its samples can't be
 * read in any order, or where they are too few.
 */
export function withValidation(data: Dataset, split: string, { share, seed }: HoldOut): Dataset {
  if (data.splits.includes("val") || !data.holdOut) return data;
  return (data.size(split) ?? 0) * share < smallest ? data : data.holdOut(split, share, seed);
}
