import type { Tensors } from "../platform/runtime.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { BatchPlan } from "./plan.ts";

/** Label of a token that does not count: padding, or a token that a masked language model was shown. */
export const ignoredLabel = -100;

/** Some samples, stacked along the first axis. */
export interface Batch {
  /** Model inputs by name, already preprocessed: ready to feed. */
  readonly inputs: Tensors;
  /**
   * What is known about the samples: class indices as int64 `[n]`, regression targets as float32 `[n, k]`, per-pixel
   * classes, ... Absent for unlabelled data. Tokens labelled {@link ignoredLabel} do not count.
   */
  readonly labels?: Tensor;
  /** Anything else a metric needs, one entry a sample (boxes of a detection set, say). */
  readonly truth?: readonly unknown[];
  /** Samples in the batch. */
  readonly size: number;
}

/** What to read of a dataset. */
export interface BatchOptions {
  /** Samples a batch; the last one may be smaller. */
  readonly batch: number;
  /** "train", "test", ...; the dataset's default split if absent. */
  readonly split?: string;
  /** At most this many samples. */
  readonly limit?: number;
  /** Skip this many samples first (after shuffling). */
  readonly skip?: number;
  /** Shuffle with this seed; in stored order if absent. */
  readonly seed?: number;
}

/** A stream of samples for a model. Never held in memory as a whole. */
export interface Dataset {
  /** For messages and reports: where it came from. */
  readonly name: string;
  /** Names of the splits, the default one first. */
  readonly splits: readonly string[];
  /** Samples in a split, where that is known without reading all of it. */
  size(split?: string): number | undefined;
  /** Class names in label order, where known. */
  readonly classes?: readonly string[];
  batches(options: BatchOptions): AsyncIterable<Batch>;
  /** The batches of {@link plannedBatches}, made ahead in another thread; absent where there is none. */
  planned?(plan: BatchPlan): AsyncIterable<Batch>;
  /** Ends the thread, where there is one. */
  close?(): void;
  /**
   * The dataset with a share of a split, drawn by the seed, set apart as the split "val"; absent where samples can't be
   * read in any order.
   */
  holdOut?(split: string, share: number, seed: number): Dataset;
}
