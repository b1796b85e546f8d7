import { fail } from "../errors.ts";
import { type Random, random } from "../random.ts";
import type { Batch, BatchOptions, Dataset } from "./dataset.ts";

/** The samples of one split, in random access. */
export interface Samples {
  readonly count: number;
  /** The samples at these places, in this order. */
  read(indices: readonly number[]): Promise<Batch>;
  /** As many samples cut elsewhere, where samples are windows into something longer. */
  recut?(random: Random): Samples;
}

/** A dataset over splits with random access: batching, limits and shuffling are the same for every kind. */
export function datasetOf(name: string, splits: ReadonlyMap<string, Samples>, classes?: readonly string[]): Dataset {
  const names = [...splits.keys()];
  const pick = (split = names[0]!): Samples =>
    splits.get(split) ?? fail(name, `it has no split '${split}'`, `It has ${names.map((n) => `'${n}'`).join(", ")}`);
  for (const [split, { count }] of splits) if (count === 0) fail(name, `its split '${split}' has no samples`);
  return {
    name,
    splits: names,
    size: (split) => pick(split).count,
    ...(classes && { classes }),
    holdOut: (split, share, seed) => {
      const [rest, held] = cut(name, pick(split), share, seed);
      return datasetOf(name, sortSplits(new Map([...splits, [split, rest], ["val", held]])), classes);
    },
    async *batches(options) {
      const { split, seed } = options;
      const stored = pick(split);
      const samples = (seed !== undefined && stored.recut?.(random(seed).fork("cut"))) || stored;
      for (const indices of batchIndices(samples.count, options)) yield await samples.read(indices);
    },
  };
}

/** Samples in two parts drawn by a seed, the second one a share of them. */
function cut(name: string, samples: Samples, share: number, seed: number): readonly [Samples, Samples] {
  const { count } = samples;
  const held = heldCount(name, count, share);
  const order = random(seed).shuffle(Uint32Array.from({ length: count }, (_, i) => i));
  const part = (from: number, to: number): Samples => {
    // in stored order: what is read together lies together
    const places = order.slice(from, to).sort();
    return { count: places.length, read: (indices) => samples.read(indices.map((i) => places[i]!)) };
  };
  return [part(held, count), part(0, held)];
}

/**
 * How many of the samples a share is.
 *
 * @throws PareError where it is none or all of them
 */
export function heldCount(name: string, count: number, share: number): number {
  const held = Math.round(count * share);
  if (held > 0 && held < count) return held;
  return fail(name, `a share of ${share} of ${count} samples can't be set apart`, "Give more data or another share");
}

/**
 * Which samples each batch holds. Shuffled by `seed` (the same for the same seed and count), then `skip`, then `limit`.
 *
 * @throws PareError where `batch` is not a positive integer
 */
export function* batchIndices(count: number, options: BatchOptions): Generator<number[]> {
  const { batch, skip = 0, limit = count, seed } = options;
  if (!Number.isInteger(batch) || batch < 1) fail("dataset", `the batch size must be a positive integer, got ${batch}`);
  const order = seed === undefined ? undefined : random(seed).shuffle(Uint32Array.from({ length: count }, (_, i) => i));
  const end = Math.min(count, skip + limit);
  for (let from = skip; from < end; from += batch) {
    const size = Math.min(batch, end - from);
    yield Array.from({ length: size }, (_, i) => order?.[from + i] ?? from + i);
  }
}

/**
 * The split to judge a model on: "test", else "val", else the default one. Calibration and training use the default.
 */
export function evaluationSplit(dataset: Dataset): string {
  return ["test", "val"].find((split) => dataset.splits.includes(split)) ?? dataset.splits[0]!;
}

// "data" last: test_data is no training data
const splitNames: readonly (readonly [pattern: RegExp, split: string])[] = [
  [/(^|[^a-z])(train|training|trn)([^a-z]|$)/i, "train"],
  [/(^|[^a-z])(val|valid|validation|dev)([^a-z]|$)/i, "val"],
  [/(^|[^a-z])(test|testing|t10k|tst)([^a-z]|$)/i, "test"],
  [/(^|[^a-z])data([^a-z]|$)/i, "train"],
];

/** The split that a file's or folder's name tells, if it does: "train", "val" or "test". */
export function splitOfName(name: string): string | undefined {
  return splitNames.find(([pattern]) => pattern.test(name))?.[1];
}

/**
 * Files or folders by the split that their names tell; those whose names tell none are left out.
 *
 * @throws PareError where two tell the same
 */
export function bySplit<T extends { readonly name: string }>(who: string, members: readonly T[]): Map<string, T> {
  const found = new Map<string, T>();
  for (const member of members) {
    const split = splitOfName(member.name);
    if (split === undefined) continue;
    const other = found.get(split);
    if (other) {
      const names = `'${other.name}' and '${member.name}'`;
      fail(who, `${names} both name the split '${split}'`, "Rename or remove one, or give the path of one");
    }
    found.set(split, member);
  }
  return found;
}

/** Splits in the order train, val, test, then others by name: the first is the default. */
export function sortSplits<T>(splits: ReadonlyMap<string, T>): Map<string, T> {
  const rank = (split: string): number => {
    const at = ["train", "val", "test"].indexOf(split);
    return at < 0 ? 3 : at;
  };
  return new Map([...splits].sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1)));
}
