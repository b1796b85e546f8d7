import type { Batch, Dataset } from "../../src/data/dataset.ts";
import { datasetOf, type Samples } from "../../src/data/samples.ts";
import type { Tensors } from "../../src/platform/runtime.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";

/** Tensors one after the other along the first axis. */
export function stack(parts: readonly Tensor[]): Tensor {
  const first = parts[0]!;
  const bytes = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part.bytes(), at);
    at += part.byteLength;
  }
  const count = parts.reduce((sum, { shape }) => sum + shape[0]!, 0);
  return tensor(first.dtype, [count, ...first.shape.slice(1)], bytes);
}

/** Batches as one. */
export function join(batches: readonly Batch[]): Batch {
  const names = Object.keys(batches[0]!.inputs);
  const labels = batches.flatMap((batch) => batch.labels ?? []);
  return {
    inputs: Object.fromEntries(names.map((name) => [name, stack(batches.map(({ inputs }) => inputs[name]!))])),
    ...(labels.length > 0 && { labels: stack(labels) }),
    size: batches.reduce((sum, { size }) => sum + size, 0),
  };
}

/** Some samples of a split, by their places. */
export function pick(data: Dataset, split: string, places: readonly number[]): Samples {
  return {
    count: places.length,
    async read(indices) {
      const found: Batch[] = [];
      for (const i of indices) {
        for await (const batch of data.batches({ split, batch: 1, skip: places[i]!, limit: 1 })) found.push(batch);
      }
      return join(found);
    },
  };
}

/** Several runs of samples as one. */
export function concatenate(parts: readonly Samples[]): Samples {
  const places = parts.flatMap((part) => Array.from({ length: part.count }, (_, i) => ({ part, i })));
  return {
    count: places.length,
    read: async (indices) => join(await Promise.all(indices.map((at) => places[at]!.part.read([places[at]!.i])))),
  };
}

/** Every second sample calibrates, the others judge. */
export function halves(name: string, data: Dataset, split: string): Dataset {
  const places = Array.from({ length: data.size(split)! }, (_, i) => i);
  return datasetOf(
    name,
    new Map([
      [
        "calibration",
        pick(
          data,
          split,
          places.filter((i) => i % 2 === 0),
        ),
      ],
      [
        "test",
        pick(
          data,
          split,
          places.filter((i) => i % 2 === 1),
        ),
      ],
    ]),
  );
}

/** A dataset of two others: a split each, under new names. */
export function calibrateAndTest(data: Dataset, calibration: string, test: string): Dataset {
  const real: Readonly<Record<string, string>> = { calibration, test };
  const of = (split = "calibration"): string => real[split] ?? split;
  return {
    ...data,
    splits: ["calibration", "test"],
    size: (split) => data.size(of(split)),
    batches: (options) => data.batches({ ...options, split: of(options.split) }),
  };
}

/** Whole feeds, one a batch whatever batch is asked for: recurrent models, whose states have the batch inside. */
export function feedsOf(name: string, splits: Readonly<Record<string, readonly Tensors[]>>): Dataset {
  const names = Object.keys(splits);
  const of = (split = names[0]!): readonly Tensors[] => splits[split] ?? [];
  return {
    name,
    splits: names,
    size: (split) => of(split).length,
    async *batches({ split, skip = 0, limit = Number.POSITIVE_INFINITY }) {
      for (const inputs of of(split).slice(skip, skip + limit)) yield { inputs, size: 1 };
    },
  };
}

/** The calibration samples of a dataset, without labels. */
export function unlabelled(dataset: Dataset): Dataset {
  return {
    name: dataset.name,
    splits: ["calibration"],
    size: () => dataset.size("calibration"),
    async *batches(options) {
      for await (const { labels: _, ...batch } of dataset.batches({ ...options, split: "calibration" })) yield batch;
    },
  };
}
