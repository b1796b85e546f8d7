import type { Batch, BatchOptions, Dataset } from "../data/dataset.ts";
import { onlySplits } from "../data/only-splits.ts";
import { evaluationSplit } from "../data/samples.ts";
import { fail } from "../errors.ts";

/** A dataset cut into parts; the first two share samples with each other, but none with the others. */
export interface Parts {
  /** What techniques look at: calibration, bias correction, sensitivities. */
  readonly calibration: Dataset;
  /** What may be learned from. */
  readonly training: Dataset;
  /** What plans are chosen by. */
  readonly selection: Dataset;
  /** What the chosen plan is checked on; used for nothing else. */
  readonly confirmation: Dataset;
  readonly samples: { readonly calibration: number; readonly selection: number; readonly confirmation: number };
}

/** How much to use at most. */
export interface SplitOptions {
  /** The split to score on; "test" or "val" if absent, where there is one. */
  readonly split?: string;
  readonly seed: number;
  readonly calibration?: number;
  /** Something is to be trained: most of the samples are for that where one split serves all purposes. */
  readonly learn?: boolean;
  /** Samples for selection and confirmation together. */
  readonly limit?: number;
}

/** Shares for calibration and training where one split has to serve all purposes. */
const calibrationShare = 0.2;
const trainingShare = 0.6;

const usualCalibration = 256;

/**
 * Cuts a dataset into calibration, selection and confirmation samples. Where the dataset's default split is another than
 * the scored one, it serves for calibration and training, and the scored split is halved. Otherwise the scored split is
 * cut 20 : 40 : 40 after shuffling, or 60 : 20 : 20 where something is to be trained.
 *
 * @throws PareError where there are fewer than three samples
 */
export async function splitData(data: Dataset, options: SplitOptions): Promise<Parts> {
  const { seed, learn = false } = options;
  const split = options.split ?? evaluationSplit(data);
  const size = await sizeOf(data, split);
  if (size < 3) {
    fail(data.name, `${size} samples are too few to calibrate, choose and confirm with`, "Give at least a few hundred");
  }
  const first = data.splits[0] ?? split;
  if (first !== split) return apart(data, first, split, options);
  // held out, what is learned from can be shuffled anew every epoch
  if (learn && data.holdOut) return apart(data.holdOut(split, 1 - trainingShare, seed), split, "val", options);
  return together(data, split, size, options);
}

/** Parts of a dataset with a split to learn from and a split to score on. */
async function apart(data: Dataset, training: string, scored: string, options: SplitOptions): Promise<Parts> {
  const { seed, calibration: wanted = usualCalibration, limit = Number.POSITIVE_INFINITY } = options;
  const calibration = Math.min(wanted, await sizeOf(data, training));
  const others = [training, ...data.splits.filter((name) => name !== training && name !== scored)];
  return {
    training: onlySplits(data, others),
    calibration: slice(data, { split: training, seed, limit: calibration }),
    ...halves(data, { split: scored, seed, limit: Math.min(limit, await sizeOf(data, scored)) }, calibration),
  };
}

/** Parts of a dataset with one split for everything. */
function together(data: Dataset, split: string, size: number, options: SplitOptions): Parts {
  const { seed, calibration: wanted = usualCalibration, limit = Number.POSITIVE_INFINITY, learn = false } = options;
  const share = learn ? Math.round(size * trainingShare) : Math.min(wanted, Math.round(size * calibrationShare));
  const first = Math.max(1, share);
  const calibration = Math.min(wanted, first);
  return {
    training: slice(data, { split, seed, limit: first }),
    calibration: slice(data, { split, seed, limit: calibration }),
    ...halves(data, { split, seed, skip: first, limit: Math.min(limit, size - first) }, calibration),
  };
}

function halves(
  data: Dataset,
  scored: Slice,
  calibration: number,
): Pick<Parts, "selection" | "confirmation" | "samples"> {
  const { skip = 0, limit } = scored;
  const chosen = Math.max(1, Math.round(limit / 2));
  return {
    selection: slice(data, { ...scored, limit: chosen }),
    confirmation: slice(data, { ...scored, skip: skip + chosen, limit: limit - chosen }),
    samples: { calibration, selection: chosen, confirmation: limit - chosen },
  };
}

/** What {@link slice} takes of a split. */
export interface Slice {
  readonly split?: string;
  /** Shuffle with this seed first; in stored order if absent. */
  readonly seed?: number;
  readonly skip?: number;
  readonly limit: number;
}

/** Some samples of a dataset as a dataset of one split. */
export function slice(data: Dataset, { split, seed, skip = 0, limit }: Slice): Dataset {
  const name = split ?? data.splits[0] ?? "all";
  return {
    name: `${data.name}#${name}[${skip}:${skip + limit}]`,
    splits: [name],
    size: () => limit,
    ...(data.classes && { classes: data.classes }),
    batches(options: BatchOptions): AsyncIterable<Batch> {
      const from = options.skip ?? 0;
      return data.batches({
        batch: options.batch,
        ...(split !== undefined && { split }),
        ...(seed !== undefined && { seed }),
        skip: skip + from,
        limit: Math.max(0, Math.min(options.limit ?? Number.POSITIVE_INFINITY, limit - from)),
      });
    },
  };
}

/** Samples in a split, counted by reading them where the dataset does not know. */
export async function sizeOf(data: Dataset, split?: string): Promise<number> {
  const known = data.size(split);
  if (known !== undefined) return known;
  let size = 0;
  for await (const batch of data.batches({ batch: 64, ...(split !== undefined && { split }) })) size += batch.size;
  return size;
}
