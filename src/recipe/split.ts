import type { Batch, BatchOptions, Dataset } from "../data/dataset.ts";
import { evaluationSplit } from "../data/samples.ts";
import { fail } from "../errors.ts";

/** A dataset cut into parts that share no sample. */
export interface Parts {
  /** What techniques look at: calibration, bias correction, sensitivities. */
  readonly calibration: Dataset;
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
  /** Samples for selection and confirmation together. */
  readonly limit?: number;
}

/** Shares where one split has to serve all three purposes. */
const calibrationShare = 0.2;
const selectionShare = 0.4;

/**
 * Cuts a dataset into calibration, selection and confirmation samples. Where the dataset's default split is another than
 * the scored one, it serves for calibration and the scored split is halved; otherwise the scored split is cut 20 : 40 : 40 after shuffling.
 *
 * @throws PareError where there are fewer than three samples
 */
export async function splitData(data: Dataset, options: SplitOptions): Promise<Parts> {
  const { seed, calibration: wanted = 256 } = options;
  const split = options.split ?? evaluationSplit(data);
  const size = await sizeOf(data, split);
  if (size < 3) {
    fail(data.name, `${size} samples are too few to calibrate, choose and confirm with`, "Give at least a few hundred");
  }
  const training = data.splits[0] ?? split;
  const apart = training !== split;
  const first = apart ? 0 : Math.max(1, Math.min(wanted, Math.round(size * calibrationShare)));
  const rest = Math.min(options.limit ?? Number.POSITIVE_INFINITY, size - first);
  const chosen = Math.max(1, Math.round((rest * selectionShare) / (1 - calibrationShare)));
  const calibrationSize = apart ? Math.min(wanted, await sizeOf(data, training)) : first;
  const part = (from: string, skip: number, limit: number): Dataset => slice(data, { split: from, seed, skip, limit });
  return {
    calibration: apart ? part(training, 0, calibrationSize) : part(split, 0, first),
    selection: part(split, first, chosen),
    confirmation: part(split, first + chosen, rest - chosen),
    samples: { calibration: calibrationSize, selection: chosen, confirmation: rest - chosen },
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
