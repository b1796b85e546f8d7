import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import sharp from "sharp";
import { expect, test } from "vitest";
import { all, folder, input, labels, open, root, values } from "../../test/datasets.ts";
import { writeNpy, writeNpz } from "../formats/npy.ts";
import { float32, int64, type Tensor, toNumbers } from "../tensor/tensor.ts";

function idx(shape: readonly number[], data: ArrayLike<number>): Buffer {
  const sizes = shape.flatMap((dim) => [dim >>> 24, (dim >>> 16) & 255, (dim >>> 8) & 255, dim & 255]);
  return Buffer.from([0, 0, 8, shape.length, ...sizes, ...Array.from(data)]);
}

const picture = [input("x", ["N", 1, 2, 2])];

test("IDX: splits, gzip, labels, and preprocessing", async () => {
  const path = folder("idx", {
    "train-images-idx3-ubyte": idx([3, 2, 2], [0, 51, 102, 153, 204, 255, 0, 0, 1, 2, 3, 4]),
    "train-labels-idx1-ubyte": idx([3], [7, 8, 9]),
    "t10k-images-idx3-ubyte.gz": gzipSync(idx([1, 2, 2], [255, 255, 0, 0])),
    "t10k-labels-idx1-ubyte.gz": gzipSync(idx([1], [5])),
    "notes.md": "beside the data",
  });
  const said: string[] = [];
  const data = await open(path, picture, { preprocess: { mean: 0.5, std: 0.5 }, log: (line) => said.push(line) });
  expect(data.splits).toEqual(["train", "test"]);
  expect([data.size(), data.size("test")]).toEqual([3, 1]);
  const train = await all(data);
  expect(train.map(({ size }) => size)).toEqual([2, 1]);
  expect(labels(train)).toEqual([7, 8, 9]);
  const expected = [0, 51, 102, 153, 204, 255, 0, 0, 1, 2, 3, 4].map((x) => (x / 255 - 0.5) / 0.5);
  for (const [i, value] of values(train, "x").entries()) expect(value).toBeCloseTo(expected[i]!, 6);
  expect(values(await all(data, "test"), "x")).toEqual([1, 1, -1, -1]);
  expect(said.join()).toContain("x / 255");
  expect((await open(`${path}#test`, picture)).splits).toEqual(["test"]);
  await expect(open(`${path}#dev`, picture)).rejects.toThrow("no split 'dev'");
});

test("shuffling depends on the seed alone; skip and limit cut the shuffled order", async () => {
  const path = folder("order", {
    "images-idx3-ubyte": idx(
      [20, 2, 2],
      Array.from({ length: 80 }, (_, i) => Math.floor(i / 4)),
    ),
    "labels-idx1-ubyte": idx(
      [20],
      Array.from({ length: 20 }, (_, i) => i),
    ),
  });
  const data = await open(path, picture);
  const read = async (options: object): Promise<number[]> => {
    const found: number[] = [];
    for await (const batch of data.batches({ batch: 6, ...options })) found.push(...toNumbers(batch.labels!));
    return found;
  };
  const shuffled = await read({ seed: 4 });
  expect(shuffled).not.toEqual(await read({}));
  expect([...shuffled].sort((a, b) => a - b)).toEqual(await read({}));
  expect(await read({ seed: 4 })).toEqual(shuffled);
  expect(await read({ seed: 4, skip: 3, limit: 8 })).toEqual(shuffled.slice(3, 11));
  expect(await read({ seed: 5 })).not.toEqual(shuffled);
});

test.each([
  ["wrong magic", { "train-images-idx3-ubyte": Buffer.from([1, 2, 3, 4, 5]) }, "is not an IDX file"],
  ["shorter than its header", { "train-images-idx3-ubyte": Buffer.from([0, 0]) }, "is not an IDX file"],
  ["cut short", { "train-images-idx3-ubyte": idx([9, 2, 2], [1, 2]) }, "cut short"],
  [
    "cut short in gzip",
    { "train-images-idx3-ubyte.gz": gzipSync(idx([2, 2, 2], [1])).subarray(0, 20) },
    "not whole gzip",
  ],
  ["no samples", { "train-images-idx3-ubyte": idx([0, 2, 2], []) }, "has no samples"],
  ["floats", { "train-images-idx3-ubyte": Buffer.from([0, 0, 13, 3, 0, 0, 0, 0]) }, "IDX type 13"],
  [
    "more labels than images",
    { "train-images-idx3-ubyte": idx([1, 2, 2], [1, 2, 3, 4]), "train-labels-idx1-ubyte": idx([2], [1, 2]) },
    "has 1 images",
  ],
  ["labels alone", { "train-labels-idx1-ubyte": idx([2], [1, 2]) }, "labels but no images"],
])("IDX, hostile: %s", async (name, files: Record<string, Buffer>, message) => {
  await expect(open(folder(`bad ${name}`, files), picture)).rejects.toThrow(message);
});

const cifarInput = [input("x", ["N", 3, 32, 32])];
const planes = (red: number, green: number, blue: number): number[] =>
  [red, green, blue].flatMap((level) => Array<number>(1024).fill(level));

test("CIFAR binaries: batches in order, brotli, class names, RGB and BGR", async () => {
  const path = folder("cifar", {
    "data_batch_1.bin": Buffer.from([3, ...planes(10, 20, 30)]),
    "data_batch_2.bin.br": brotliCompressSync(Buffer.from([4, ...planes(40, 50, 60), 5, ...planes(70, 80, 90)])),
    "test_batch.bin": Buffer.from([6, ...planes(1, 2, 3)]),
    "batches.meta.txt": "plane\ncar\n",
  });
  const data = await open(path, cifarInput, { preprocess: { scale: 1, channels: "BGR" } });
  expect(data.splits).toEqual(["train", "test"]);
  expect(data.classes).toEqual(["plane", "car"]);
  const train = await all(data);
  expect(labels(train)).toEqual([3, 4, 5]);
  const x = values(train, "x");
  expect([x[0], x[1024], x[2048], x[3072]]).toEqual([30, 20, 10, 60]);
  expect(labels(await all(await open(`${path}#test`, cifarInput)))).toEqual([6]);
  await expect(open(folder("cut", { "test_batch.bin.gz": gzipSync(Buffer.alloc(100)) }), cifarInput)).rejects.toThrow(
    "not a multiple of a CIFAR record",
  );
});

/** A CIFAR batch as python 2 pickled it: protocol 2, byte strings, a NumPy array. */
function pythonBatch(
  pixels: Buffer,
  classes: readonly number[],
  refer = "numpy.core.multiarray\n_reconstruct",
): Buffer {
  const text = (s: string): Buffer => Buffer.from(s, "latin1");
  const short = (s: string): Buffer => Buffer.concat([Buffer.from([85, s.length]), text(s)]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(pixels.length);
  return Buffer.concat([
    text("\x80\x02}q\x01("),
    short("data"),
    text(`q\x02c${refer}\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01`),
    Buffer.from([75, classes.length, 77, 0, 12, 0x86]),
    text(
      "cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T",
    ),
    length,
    pixels,
    text("tb"),
    short("labels"),
    text("]q\x08("),
    ...classes.map((label) => Buffer.from([75, label])),
    text("eu."),
  ]);
}

test("CIFAR python batches are read, code in them is refused", async () => {
  const pixels = Buffer.from([...planes(10, 20, 30), ...planes(40, 50, 60)]);
  const path = folder("python", { data_batch_1: pythonBatch(pixels, [3, 7]), test_batch: pythonBatch(pixels, [1, 2]) });
  const data = await open(path, cifarInput, { preprocess: { scale: 1 } });
  expect(data.splits).toEqual(["train", "test"]);
  const train = await all(data);
  expect(labels(train)).toEqual([3, 7]);
  expect([0, 1024, 3072].map((i) => values(train, "x")[i])).toEqual([10, 20, 40]);
  const evil = folder("evil", { test_batch: pythonBatch(pixels, [1, 2], "os\nsystem") });
  await expect(open(evil, cifarInput)).rejects.toThrow("refers to 'os.system'");
  const cut = folder("cut pickle", { test_batch: pythonBatch(pixels, [1, 2]).subarray(0, 900) });
  await expect(open(cut, cifarInput)).rejects.toThrow("damaged pickle");
});

const png = (red: number, green: number, blue: number, width = 8, height = 4): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: { r: red, g: green, b: blue } } })
    .png()
    .toBuffer();

test("image folders: a class per sub-folder, splits, a labels table, unlabelled", async () => {
  const inputs = [input("x", ["N", 3, 4, 4])];
  const [red, blue] = [await png(255, 0, 0), await png(0, 0, 255)];
  const nested = folder("nested", {
    "train/cat/1.png": red,
    "train/dog/2.png": blue,
    "val/cat/3.png": red,
    "val/dog/4.png": blue,
  });
  const data = await open(nested, inputs);
  expect([data.splits, data.classes]).toEqual([
    ["train", "val"],
    ["cat", "dog"],
  ]);
  const batches = await all(data, "val");
  expect(labels(batches)).toEqual([0, 1]);
  expect(batches[0]!.inputs.x!.shape).toEqual([2, 3, 4, 4]);
  expect([0, 16, 48, 80].map((i) => values(batches, "x")[i])).toEqual([1, 0, 0, 1]);
  const table = folder("table", {
    "a.png": red,
    "b.png": blue,
    "labels.csv": "file,bytes,label\nb.png,9,4\na.png,8,2\n",
  });
  expect(labels(await all(await open(table, inputs)))).toEqual([4, 2]);
  const plain = folder("plain", { "a.png": red, "b.png": await png(1, 2, 3, 9, 7) });
  expect((await all(await open(plain, inputs)))[0]!.labels).toBeUndefined();
  await expect(all(await open(folder("broken", { "a.png": red.subarray(0, 40) }), inputs))).rejects.toThrow("a.png");
  const sized = [input("x", ["N", 3, "H", "W"])];
  await expect(all(await open(plain, sized))).rejects.toThrow("different sizes");
});

test("arrays: by name, by being alone, converted, and misfits", async () => {
  const inputs = [input("a", ["N", 2]), input("b", ["N"], "int64")];
  const npz = (arrays: Record<string, Tensor>): Uint8Array => writeNpz(new Map(Object.entries(arrays)));
  const a = float32([3, 2], [1, 2, 3, 4, 5, 6]);
  const path = folder("npz", { "d.npz": npz({ a, b: int64([7, 8, 9]), labels: int64([0, 1, 2]) }) });
  const batches = await all(await open(`${path}/d.npz`, inputs));
  expect([values(batches, "a"), labels(batches)]).toEqual([
    [1, 2, 3, 4, 5, 6],
    [0, 1, 2],
  ]);
  expect(toNumbers(batches[1]!.inputs.b!)).toEqual([9]);
  const alone = folder("alone", { "train.npy": writeNpy(int64([1, 2, 3, 4], [2, 2])), "test.npy": writeNpy(a) });
  const data = await open(alone, [inputs[0]!]);
  expect([data.splits, values(await all(data), "a")]).toEqual([
    ["train", "test"],
    [1, 2, 3, 4],
  ]);
  const bad = async (arrays: Record<string, Tensor>, message: string): Promise<void> => {
    const place = folder(`bad ${message}`, { "d.npz": npz(arrays) });
    await expect(open(place, inputs)).rejects.toThrow(message);
  };
  await bad({ a }, "no array for input 'b'");
  await bad({ a, b: int64([1]) }, "'b' has 1");
  await bad({ a: float32([3, 4], new Float32Array(12)), b: int64([1, 2, 3]) }, "axis 1");
  await bad({ a, b: int64([7, 8, 9]), y: int64([1]) }, "but 1 labels");
  const nan = folder("nan", { "d.npz": npz({ a: float32([1, 2], [1, Number.NaN]) }) });
  await expect(all(await open(nan, [inputs[0]!]))).rejects.toThrow("holds NaN");
});

test("tables: header, label column, text classes, standardization, regression", async () => {
  const inputs = [input("x", ["N", 2])];
  const path = folder("tables", {
    "named.csv": 'w,h,kind\n1,2,"b, or not"\n3,4,a\n5,6,a\n',
    "bare.tsv": "1\t2\t0.5\n3\t4\t1.5\n",
    "text.csv": "a,b,c\n1,x,0\n",
  });
  const named = await open(`${path}/named.csv`, inputs, { preprocess: { mean: [1, 2], std: 2 } });
  expect(named.classes).toEqual(["a", "b, or not"]);
  const batches = await all(named);
  expect([values(batches, "x"), labels(batches)]).toEqual([
    [0, 0, 1, 1, 2, 2],
    [1, 0, 0],
  ]);
  const bare = await all(await open(`${path}/bare.tsv`, inputs));
  expect([bare[0]!.labels!.dtype, labels(bare)]).toEqual(["float32", [0.5, 1.5]]);
  await expect(open(`${path}/text.csv`, inputs)).rejects.toThrow("column 'b' of row 1");
  await expect(open(`${path}/named.csv`, inputs, { labels: "type" })).rejects.toThrow("no column 'type'");
  await expect(open(`${path}/bare.tsv`, [input("x", ["N", 5])])).rejects.toThrow("2 feature columns");
});

test("tokens: windows and the tokens that follow, masks, text through a tokenizer", async () => {
  const inputs = [input("input_ids", ["B", "T"], "int64"), input("attention_mask", ["B", "T"], "int64")];
  const path = folder("tokens", {
    "train.bin": new Uint8Array(Uint16Array.from({ length: 8 }, (_, i) => 300 + i).buffer),
    "val.txt": "abcde",
  });
  const tokenize = (text: string): number[] => Array.from(text, (letter) => letter.charCodeAt(0));
  const data = await open(path, inputs, { window: 3, tokenize });
  expect(data.splits).toEqual(["train", "val"]);
  const [batch] = await all(data);
  expect(toNumbers(batch!.inputs.input_ids!)).toEqual([300, 301, 302, 303, 304, 305]);
  expect(toNumbers(batch!.labels!)).toEqual([301, 302, 303, 304, 305, 306]);
  expect(toNumbers(batch!.inputs.attention_mask!)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(labels(await all(data, "val"))).toEqual([98, 99, 100]);
  const rows = folder("rows", { "ids.npy": writeNpy(int64([1, 2, 3, 4, 5, 6], [3, 2])), "notes.txt": "three samples" });
  expect((await open(`${rows}/ids.npy`, inputs.slice(0, 1))).size()).toBe(3);
  expect((await open(rows, inputs.slice(0, 1))).size()).toBe(3);
  await expect(open(path, inputs, { window: 3 })).rejects.toThrow("no tokenizer");
  await expect(open(path, inputs, { window: 9, tokenize })).rejects.toThrow("has 8 tokens");
});

test("tokens: shuffled windows begin elsewhere for each seed, hold each token at most twice and miss few", async () => {
  const count = 101;
  const inputs = [input("ids", ["B", "T"], "int64")];
  const path = folder("crops", {
    "train.bin": new Uint8Array(Uint16Array.from({ length: count }, (_, i) => i).buffer),
  });
  const data = await open(path, inputs, { window: 10 });
  const starts = new Set<number>();
  for (let seed = 0; seed < 20; seed++) {
    const batches = [];
    for await (const batch of data.batches({ batch: 4, seed })) batches.push(batch);
    const ids = batches.flatMap((batch) => toNumbers(batch.inputs.ids!));
    const next = batches.flatMap(({ labels }) => toNumbers(labels!));
    expect(ids).toHaveLength(10 * data.size()!);
    expect(next).toEqual(ids.map((id) => id + 1));
    expect(new Set(ids).size).toBeGreaterThan(80);
    starts.add(Math.min(...ids));
  }
  expect(starts.size).toBeGreaterThan(5);
});

test("modules: a generator of batches with plain numbers", async () => {
  const path = folder("module", {
    "good.mjs": `export default function* ({ batch }) {
      for (let i = 0; i < 3; i++) yield { inputs: { x: { shape: [1, 2], data: [i, batch] } }, labels: [i] };
    }`,
    "large.mjs": `export default function* ({ limit = 8 }) {
      for (const from of [0, 4]) if (from < limit) {
        const ids = [0, 1, 2, 3].map((i) => from + i);
        yield { inputs: { x: { shape: [4, 1], data: ids } }, labels: ids };
      }
    }`,
    "empty.mjs": "export default function* () {}",
    "none.mjs": "export const batches = [];",
  });
  const data = await open(`${path}/good.mjs`, [input("x", ["N", 2])]);
  const batches = await all(data);
  expect([values(batches, "x"), labels(batches)]).toEqual([
    [0, 2, 1, 2, 2, 2],
    [0, 1, 2],
  ]);
  const some = [];
  for await (const batch of data.batches({ batch: 2, skip: 1, limit: 1 })) some.push(batch);
  expect(labels(some)).toEqual([1]);
  const large = await open(`${path}/large.mjs`, [input("x", ["N", 1])]);
  const taken = async (skip: number, limit: number): Promise<readonly number[]> => {
    const parts = [];
    for await (const batch of large.batches({ batch: 2, skip, limit })) parts.push(batch);
    return labels(parts);
  };
  // whatever the size of its batches: parts share no sample
  expect(await taken(0, 2)).toEqual([0, 1]);
  expect(await taken(2, 5)).toEqual([2, 3, 4, 5, 6]);
  expect(await taken(7, 9)).toEqual([7]);
  await expect(open(`${path}/none.mjs`, [])).rejects.toThrow("no default export");
  await expect(open(`${path}/empty.mjs`, []).then((empty) => all(empty))).rejects.toThrow("no batches");
});

test("what is not data is told, with what would be", async () => {
  await expect(open(join(root, "nowhere"), picture)).rejects.toThrow("no such file or folder");
  await expect(open(folder("other", { "a.txt": "x" }), picture)).rejects.toThrow("no data of a known kind");
});

test("values as stored are suspected of lacking normalization", async () => {
  const path = folder("large", { "d.npz": writeNpz(new Map([["x", float32([1, 2], [200, 255])]])) });
  const said: string[] = [];
  await all(await open(path, [input("x", ["N", 2])], { log: (line) => said.push(line) }));
  expect(said.join()).toContain("values reach 255");
  // arrays are fed as stored, so a scale is no remedy
  const scaled: string[] = [];
  await all(await open(path, [input("x", ["N", 2])], { preprocess: { scale: 1 / 255 }, log: (s) => scaled.push(s) }));
  expect(scaled.join()).toContain("normalize them in the data");
  const table = folder("large-table", { "t.csv": "a,b,y\n200,255,0\n" });
  await all(await open(table, [input("x", ["N", 2])], { log: (line) => said.push(line) }));
  expect(said.join()).toContain("give scale, mean and std");
});
