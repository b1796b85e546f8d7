import { fail } from "../errors.ts";
import { int64 } from "../tensor/tensor.ts";
import type { DataFile, Picture } from "./files.ts";
import { readRecords } from "./idx.ts";
import { imagesToTensor } from "./image.ts";
import { type Pickled, unpickle } from "./pickle.ts";
import type { ImagePlan } from "./preprocess.ts";
import { datasetOf, type Samples, sortSplits, splitOfName } from "./samples.ts";
import { type DataSource, type DatasetKind, filesNamed, imagePlan } from "./source.ts";

const side = 32;
const plane = side * side;
const pixels = 3 * plane;

/** Records of CIFAR: label bytes (the last one is the class), then the red, green and blue planes of 32x32 bytes. */
interface Part {
  readonly count: number;
  read(indices: readonly number[]): Promise<{ label: number; planes: Uint8Array }[]>;
}

const binaryName = /^(data_batch|test_batch|train|test|val|valid)[^/]*\.bin(\.gz|\.br)?$/i;

/** CIFAR's binary version (cs.toronto.edu/~kriz/cifar.html). */
export const cifarBinary: DatasetKind = {
  name: "cifar-binary",
  summary: "CIFAR-10 or CIFAR-100 binary batches: data_batch_1.bin, ..., test_batch.bin; .gz and .br too",
  detect: async (source) => {
    for (const file of filesNamed(source, binaryName)) {
      if (/\.(gz|br)$/i.test(file.path)) return source.entries.some(({ name }) => /_batch/.test(name));
      const size = await file.size();
      return size > 0 && (size % (pixels + 1) === 0 || size % (pixels + 2) === 0);
    }
    return false;
  },
  open: (source) => openParts(source, filesNamed(source, binaryName), binaryPart),
};

async function binaryPart(file: DataFile): Promise<Part> {
  const size = await file.size();
  const labelBytes = [1, 2].find((bytes) => size > 0 && size % (pixels + bytes) === 0);
  if (!labelBytes) {
    return fail(file.path, `has ${size} bytes, not a multiple of a CIFAR record (3073 or 3074)`, "It may be cut short");
  }
  const record = pixels + labelBytes;
  return {
    count: size / record,
    async read(indices) {
      const records = await readRecords(file, 0, record, indices);
      return records.map((bytes) => ({ label: bytes[labelBytes - 1]!, planes: bytes.subarray(labelBytes) }));
    },
  };
}

const pickleName = /^(data_batch_\d+|test_batch|train|test)(\.gz|\.br)?$/i;

/** CIFAR's python version: pickled dictionaries with `data` `[n, 3072]` and `labels` or `fine_labels`. */
export const cifarPython: DatasetKind = {
  name: "cifar-python",
  summary: "CIFAR-10 or CIFAR-100 python batches: data_batch_1, ..., test_batch, or train and test",
  detect: async (source) => {
    const [file] = filesNamed(source, pickleName);
    return file !== undefined && (await file.size()) > 1 && (await file.read(0, 1))[0] === 0x80;
  },
  open: (source) => openParts(source, filesNamed(source, pickleName), picklePart),
};

async function picklePart(file: DataFile): Promise<Part> {
  const batch = unpickle(await file.read(0, await file.size()), file.path);
  const text = (key: Pickled): Pickled => (key instanceof Uint8Array ? new TextDecoder("latin1").decode(key) : key);
  const entries = new Map(batch instanceof Map ? [...batch].map(([key, value]) => [text(key), value]) : []);
  const entry = (name: string): Pickled | undefined => entries.get(name);
  const data = entry("data");
  const labels = entry("fine_labels") ?? entry("labels");
  if (!data || typeof data !== "object" || !("dtype" in data) || data.dtype !== "uint8" || data.size % pixels !== 0) {
    return fail(file.path, "has no array 'data' of unsigned bytes in rows of 3072", "It is not a CIFAR batch");
  }
  if (!Array.isArray(labels))
    return fail(file.path, "has no list 'labels' or 'fine_labels'", "It is not a CIFAR batch");
  const count = data.size / pixels;
  if (labels.length !== count) fail(file.path, `has ${count} images, but ${labels.length} labels`);
  return {
    count,
    read: async (indices) => indices.map((i) => ({ label: Number(labels[i]), planes: data.bytes(i * pixels, pixels) })),
  };
}

async function openParts(source: DataSource, files: readonly DataFile[], open: (file: DataFile) => Promise<Part>) {
  const plan = imagePlan(source);
  const bySplit = new Map<string, DataFile[]>();
  for (const file of files) {
    const split = splitOfName(file.name) ?? file.name;
    if (source.split !== undefined && split !== source.split) continue;
    bySplit.set(split, [...(bySplit.get(split) ?? []), file]);
  }
  if (bySplit.size === 0) fail(source.path, `it has no split '${source.split}'`, "CIFAR has 'train' and 'test'");
  const splits = new Map<string, Samples>();
  for (const [split, members] of bySplit)
    splits.set(split, join(await Promise.all(members.map(open)), plan, source.path));
  const [names] = filesNamed(source, /^(batches\.meta|fine_label_names)\.txt$/i);
  if (!names) return datasetOf(source.path, sortSplits(splits));
  const text = new TextDecoder().decode(await names.read(0, await names.size()));
  return datasetOf(
    source.path,
    sortSplits(splits),
    text.split(/\r?\n/).filter((line) => line !== ""),
  );
}

/** Several files as one run of samples. */
function join(parts: readonly Part[], plan: ImagePlan, path: string): Samples {
  const starts: number[] = [];
  let count = 0;
  for (const part of parts) {
    starts.push(count);
    count += part.count;
  }
  const read = async (indices: readonly number[]) => {
    const found: { label: number; planes: Uint8Array }[] = new Array(indices.length);
    for (const [p, part] of parts.entries()) {
      const places = indices.flatMap((at, i) => (at >= starts[p]! && at < starts[p]! + part.count ? [i] : []));
      const records = await part.read(places.map((i) => indices[i]! - starts[p]!));
      for (const [k, i] of places.entries()) found[i] = records[k]!;
    }
    return found;
  };
  return {
    count,
    async read(indices) {
      const records = await read(indices);
      const pictures = records.map(({ planes }) => interleave(planes));
      return {
        inputs: { [plan.input]: imagesToTensor(pictures, plan, (i) => `${path} #${indices[i]}`) },
        labels: int64(records.map(({ label }) => label)),
        size: indices.length,
      };
    },
  };
}

function interleave(planes: Uint8Array): Picture {
  const data = new Uint8Array(pixels);
  for (let p = 0; p < plane; p++) for (let c = 0; c < 3; c++) data[3 * p + c] = planes[c * plane + p]!;
  return { width: side, height: side, channels: 3, data };
}
