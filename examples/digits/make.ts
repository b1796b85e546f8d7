// Makes the example's data and model: npx tsx examples/digits/make.ts
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { encodeOnnx } from "../../src/formats/onnx/index.ts";
import { runtime } from "../../src/platform/node.ts";
import { random } from "../../src/random.ts";
import { accuracy, fitModel, normalization, type Pictures } from "./model.ts";
import { renderDigit, side } from "./render.ts";

/** Pictures of each split. */
export const counts = { train: 3000, t10k: 2000 } as const;

/** Pictures that the model is fitted on: the training split goes on beyond those that are kept. */
const fitted = 24_000;

/** The first `count` pictures of a split. */
export function makePictures(split: keyof typeof counts, count: number = counts[split]): Pictures {
  const seeds = random(2024).fork(split);
  const pixels = new Uint8Array(count * side * side);
  const labels = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const stream = seeds.fork(`digit ${i}`);
    const digit = renderDigit(stream.int(10), stream);
    labels[i] = digit.label;
    pixels.set(digit.pixels, i * side * side);
  }
  return { pixels, labels };
}

/** IDX, the format of MNIST: two zeros, 8 for uint8, the rank, the sizes as big-endian int32, the data. */
export function encodeIdx(shape: readonly number[], data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + data.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0, 0, 8, shape.length]);
  for (const [i, dim] of shape.entries()) view.setUint32(4 + 4 * i, dim);
  bytes.set(data, 4 + 4 * shape.length);
  return bytes;
}

const sidecar = `# How to feed model.onnx: grey pictures as (x / 255 - mean) / std
version: 1
preprocess:
  channels: gray
  scale: ${1 / 255}
  mean: [${normalization.mean}]
  std: [${normalization.std}]
  layout: NCHW
task: classification
`;

async function main(): Promise<void> {
  const here = (name: string): URL => new URL(name, import.meta.url);
  const sets = { train: makePictures("train"), t10k: makePictures("t10k") };
  // the last layer has 14,410 weights: it sees more pictures than are committed
  const all = makePictures("train", fitted);
  for (const [split, { pixels, labels }] of Object.entries(sets)) {
    const images = encodeIdx([labels.length, side, side], pixels);
    writeFileSync(here(`${split}-images-idx3-ubyte.gz`), gzipSync(images, { level: 9 }));
    writeFileSync(here(`${split}-labels-idx1-ubyte.gz`), gzipSync(encodeIdx([labels.length], labels), { level: 9 }));
  }
  const engine = await runtime({ threads: 1 });
  const model = await fitModel(all, engine, random(7));
  writeFileSync(here("model.onnx"), encodeOnnx(model));
  writeFileSync(here("model.pare.yaml"), sidecar);
  for (const [split, set] of Object.entries(sets)) {
    console.log(`${split}: ${(100 * (await accuracy(model, set, engine))).toFixed(2)} %`);
  }
}

if (import.meta.filename === process.argv[1]) await main();
