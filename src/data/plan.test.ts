import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { nodeFiles } from "../platform/node.ts";
import { int64, type Tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { augmentOptions } from "./augment.ts";
import type { Batch, Dataset } from "./dataset.ts";
import { openDataset } from "./index.ts";
import { type BatchPlan, plannedBatches } from "./plan.ts";

const folder = await mkdtemp(join(tmpdir(), "pare-plan-"));
afterAll(() => rm(folder, { recursive: true }));

/** CIFAR's binary form of 24 random images. */
writeFileSync(
  join(folder, "data_batch_1.bin"),
  Uint8Array.from({ length: 24 * 3073 }, (_, i) => (i % 3073 === 0 ? (i / 3073) % 10 : (i * 7919) % 256)),
);
const inputs = [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 3, 32, 32] } }] as const;
const preprocess = { scale: 1 / 255, mean: 0, std: 1, channels: "RGB", layout: "NCHW" } as const;
const open = (background: boolean) => openDataset(folder, nodeFiles, { inputs, preprocess, background });
const dataset = await open(false);

const plan: BatchPlan = {
  batch: 4,
  perEpoch: 5,
  from: 0,
  until: 12,
  seed: 3,
  images: {
    input: "x",
    options: augmentOptions.parse({ randomCrop: 4, randomFlip: true, cutout: 8, mixup: 0.5, rotate: 10 }),
    classes: 10,
  },
  masks: [{ name: "mask", shape: [4, 6], keep: 0.5 }],
};

async function all(stream: AsyncIterable<Batch>): Promise<Batch[]> {
  const batches: Batch[] = [];
  for await (const batch of stream) batches.push(batch);
  return batches;
}

/** The bytes of every batch, as a digest that is quick to compare. */
const digests = (batches: readonly Batch[]): string[] =>
  batches.map(({ inputs: given, labels }) => {
    const hash = createHash("sha256");
    for (const t of [...Object.values(given), labels!]) hash.update(t.bytes());
    return hash.digest("hex");
  });

test("a plan gives the same batches from wherever it starts, epochs shuffled each its own way", async () => {
  const whole = await all(plannedBatches(dataset, plan));
  expect(whole).toHaveLength(12);
  const rest = await all(plannedBatches(dataset, { ...plan, from: 7 }));
  expect(digests(rest)).toEqual(digests(whole.slice(7)));
  const plain = { ...plan, masks: [] };
  const { images: _, ...bare } = plain;
  const seen = (await all(plannedBatches(dataset, bare))).map(({ labels }) => toNumbers(labels!).join());
  expect(seen.slice(0, 5)).not.toEqual(seen.slice(5, 10));
  expect(toFloat32(whole[0]!.inputs.mask!).every((v) => v === 0 || v === 2)).toBe(true);
  expect(whole[0]!.labels!.shape).toEqual([4, 10]);
});

test("another thread gives the same batches, and the same errors", async () => {
  const remote = await open(true);
  expect(remote.planned).toBeTypeOf("function");
  expect([remote.name, remote.splits, remote.size()]).toEqual([dataset.name, dataset.splits, dataset.size()]);
  const [here, there] = [await all(plannedBatches(dataset, plan)), await all(remote.planned!(plan))];
  expect(digests(there)).toEqual(digests(here));
  const read = { batch: 7, seed: 1, skip: 2 };
  expect(digests(await all(remote.batches(read)))).toEqual(digests(await all(dataset.batches(read))));
  const tooLong = { ...plan, perEpoch: 9, until: 9 };
  await expect(all(remote.planned!(tooLong))).rejects.toThrow(/epoch 1 holds 6 batches of 9/);
  // a stream that nobody reads to its end does not hold up the next one
  for await (const _ of remote.planned!(plan)) break;
  expect(await all(remote.batches({ batch: 24 }))).toHaveLength(1);
  remote.close!();
  await expect(all(remote.batches({ batch: 24 }))).rejects.toThrow(/closed/);
});

test("another thread sets the same samples apart", async () => {
  const remote = await open(true);
  const cut = (data: Dataset): Dataset => data.holdOut!(data.splits[0]!, 0.25, 5).holdOut!("val", 0.5, 6);
  const [here, there] = [cut(dataset), cut(remote)];
  const sizes = ({ splits, size }: Dataset) => splits.map((split) => [split, size(split)]);
  expect(sizes(there)).toEqual(sizes(here));
  const short = { ...plan, perEpoch: 4, until: 4 };
  expect(digests(await all(there.planned!(short)))).toEqual(digests(await all(plannedBatches(here, short))));
  for (const split of here.splits) {
    const read = { batch: 7, split };
    expect(digests(await all(there.batches(read)))).toEqual(digests(await all(here.batches(read))));
  }
  // what was opened stays whole
  expect(digests(await all(remote.batches({ batch: 24 })))).toEqual(digests(await all(dataset.batches({ batch: 24 }))));
  expect(() => remote.holdOut!(remote.splits[0]!, 0.001, 1)).toThrow("can't be set apart");
  remote.close!();
});

test("what can't be opened fails as it does without a thread", async () => {
  const missing = openDataset(join(folder, "none"), nodeFiles, { inputs, background: true });
  await expect(missing).rejects.toThrow(/there is no such file or folder/);
});

test("batches of any size become batches of the size wanted", async () => {
  const sizes = [3, 1, 9, 2];
  const yields: Dataset = {
    name: "odd",
    splits: ["all"],
    size: () => 15,
    async *batches() {
      let at = 0;
      for (const size of sizes) {
        const x = int64(
          Array.from({ length: size * 2 }, (_, i) => 2 * at + i),
          [size, 2],
        );
        yield { inputs: { x }, labels: int64(Array.from({ length: size }, (_, i) => at + i)), size };
        at += size;
      }
    },
  };
  const { images: _, ...bare } = plan;
  const batches = await all(plannedBatches(yields, { ...bare, batch: 4, perEpoch: 3, until: 3, masks: [] }));
  const flat = (of: (batch: Batch) => Tensor) => batches.flatMap((batch) => toNumbers(of(batch)));
  expect(batches.map(({ size }) => size)).toEqual([4, 4, 4]);
  expect(flat(({ labels }) => labels!)).toEqual(Array.from({ length: 12 }, (_, i) => i));
  expect(flat(({ inputs: given }) => given.x!)).toEqual(Array.from({ length: 24 }, (_, i) => i));
  const mixed: Dataset = {
    ...yields,
    async *batches() {
      yield { inputs: { x: int64([1, 2], [1, 2]) }, size: 1 };
      yield { inputs: { x: int64([1, 2, 3], [1, 3]) }, size: 1 };
    },
  };
  await expect(all(plannedBatches(mixed, { ...bare, perEpoch: 1, until: 1, batch: 2, masks: [] }))).rejects.toThrow(
    /'x' is int64 \[2\] for each sample in one, int64 \[3\] in another/,
  );
});

test("images with channels last are changed as those with channels first", async () => {
  const { channels, scale, mean, std } = preprocess;
  const last = await openDataset(folder, nodeFiles, {
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 32, 32, 3] } }],
    preprocess: { channels, scale, mean, std, layout: "NHWC" },
  });
  const short = { ...plan, until: 1 };
  const [first] = await all(plannedBatches(dataset, short));
  const [other] = await all(plannedBatches(last, { ...short, images: { ...plan.images!, channelsLast: true } }));
  const [x, y] = [toFloat32(first!.inputs.x!), toFloat32(other!.inputs.x!)];
  expect(other!.inputs.x!.shape).toEqual([4, 32, 32, 3]);
  const moved = y.map((_, i) => x[Math.floor(i / 3072) * 3072 + (i % 3) * 1024 + Math.floor((i % 3072) / 3)]!);
  expect(y).toEqual(moved);
});

test("mixup blends images that have no labels, and refuses labels that can't be blended", async () => {
  const { classes: _, ...images } = { ...plan.images!, options: augmentOptions.parse({ mixup: 0.5 }) };
  const mixed = { ...plan, until: 1, images };
  await expect(all(plannedBatches(dataset, mixed))).rejects.toThrow("integer labels can't be blended");
  const unlabelled: Dataset = {
    ...dataset,
    async *batches(options) {
      for await (const { labels, ...rest } of dataset.batches(options)) yield rest;
    },
  };
  const { images: __, ...bare } = mixed;
  const [stored] = await all(plannedBatches(unlabelled, bare));
  const [blended] = await all(plannedBatches(unlabelled, mixed));
  expect(toFloat32(blended!.inputs.x!)).not.toEqual(toFloat32(stored!.inputs.x!));
});
