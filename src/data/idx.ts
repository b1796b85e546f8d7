import { fail } from "../errors.ts";
import { int64, sizeOf } from "../tensor/tensor.ts";
import type { DataFile, Picture } from "./files.ts";
import { imagesToTensor } from "./image.ts";
import type { ImagePlan } from "./preprocess.ts";
import { datasetOf, type Samples, sortSplits, splitOfName } from "./samples.ts";
import { type DatasetKind, filesNamed, imagePlan } from "./source.ts";

const idxName = /idx\d[-.]?u?byte|\.idx/i;

/** MNIST's format (yann.lecun.com/exdb/mnist): `*-images*` of rank 3 and `*-labels*` of rank 1, unsigned bytes. */
export const idx: DatasetKind = {
  name: "idx",
  summary:
    "a folder of IDX files (MNIST and its family): train-images-idx3-ubyte, train-labels-idx1-ubyte, ...; .gz too",
  detect: (source) => source.entries.some(({ kind, name }) => kind === "file" && idxName.test(name)),
  async open(source) {
    const plan = imagePlan(source);
    const parts = new Map<string, { images?: IdxFile; labels?: IdxFile }>();
    for (const file of filesNamed(source, idxName)) {
      const opened = await openIdx(file);
      const stem = file.name.replace(/[-._]?(images|labels)?[-._]?idx.*$/i, "");
      const split = splitOfName(stem) ?? (stem || "all");
      parts.set(split, { ...parts.get(split), [opened.shape.length === 1 ? "labels" : "images"]: opened });
    }
    const splits = new Map<string, Samples>();
    for (const [split, { images, labels }] of parts) {
      if (!images) fail(source.path, `split '${split}' has labels but no images`, "Put the images file beside them");
      splits.set(split, pair(images, labels, plan));
    }
    return datasetOf(source.path, sortSplits(splits));
  },
};

interface IdxFile {
  readonly file: DataFile;
  readonly shape: readonly number[];
  readonly dataStart: number;
}

/** Reads an IDX header: two zeros, a type code (8: unsigned byte), the rank, then the sizes as big-endian uint32. */
async function openIdx(file: DataFile): Promise<IdxFile> {
  const start = await file.read(0, Math.min(4, await file.size()));
  if (start.length < 4 || start[0] !== 0 || start[1] !== 0) {
    fail(file.path, `is not an IDX file: it begins with [${start.join(", ")}]`, "It must begin with two zero bytes");
  }
  const [type, rank] = [start[2]!, start[3]!];
  if (type !== 8) fail(file.path, `holds elements of IDX type ${type}`, "pare reads unsigned bytes (8)");
  if (rank !== 1 && rank !== 3) fail(file.path, `has rank ${rank}`, "Images have rank 3 and labels rank 1");
  const dataStart = 4 + 4 * rank;
  const header = await file.read(0, dataStart);
  const view = new DataView(header.buffer, header.byteOffset);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const needed = dataStart + sizeOf(shape, file.path);
  const size = await file.size();
  if (size < needed) {
    fail(file.path, `is cut short: ${shape.join("x")} takes ${needed} bytes, it has ${size}`, "Download it again");
  }
  return { file, shape, dataStart };
}

function pair(images: IdxFile, labels: IdxFile | undefined, plan: ImagePlan): Samples {
  const [count, height, width] = images.shape as [number, number, number];
  if (labels && labels.shape[0] !== count) {
    fail(images.file.path, `has ${count} images, but ${labels.file.path} has ${labels.shape[0]} labels`);
  }
  if (count > 0 && height * width === 0) fail(images.file.path, `has images of ${height}x${width} pixels`);
  const plane = height * width;
  return {
    count,
    async read(indices) {
      const pixels = await readRecords(images.file, images.dataStart, plane, indices);
      const pictures = pixels.map((data): Picture => ({ width, height, channels: 1, data }));
      const inputs = { [plan.input]: imagesToTensor(pictures, plan, (i) => `${images.file.path} #${indices[i]}`) };
      if (!labels) return { inputs, size: indices.length };
      const classes = await readRecords(labels.file, labels.dataStart, 1, indices);
      return { inputs, labels: int64(classes.map((byte) => byte[0]!)), size: indices.length };
    },
  };
}

/** Records of `length` bytes at these places; neighbours are read together. */
export async function readRecords(
  file: DataFile,
  start: number,
  length: number,
  indices: readonly number[],
): Promise<Uint8Array[]> {
  const out: Uint8Array[] = [];
  for (let i = 0; i < indices.length; ) {
    let run = 1;
    while (indices[i + run] === indices[i]! + run) run++;
    const bytes = await file.read(start + indices[i]! * length, run * length);
    for (let k = 0; k < run; k++) out.push(bytes.subarray(k * length, (k + 1) * length));
    i += run;
  }
  return out;
}
