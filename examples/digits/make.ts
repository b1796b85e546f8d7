// Makes the example's data and trains its model: npx tsx examples/digits/make.ts
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { evaluate } from "../../src/analysis/index.ts";
import { encodeOnnx } from "../../src/formats/onnx/index.ts";
import { runtime } from "../../src/platform/node.ts";
import { random } from "../../src/random.ts";
import { finetune } from "../../src/training/finetune.ts";
import { digitsNetwork } from "./network.ts";
import { digitsData, makePictures, normalization } from "./pictures.ts";
import { side } from "./render.ts";

/** Pictures of each split. */
export const counts = { train: 3000, t10k: 2000 } as const;

const seed = 7;

/** IDX, the format of MNIST: two zeros, 8 for uint8, the rank, the sizes as big-endian int32, the data. */
function encodeIdx(shape: readonly number[], data: Uint8Array): Uint8Array {
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
  const sets = { train: makePictures("train", counts.train), t10k: makePictures("t10k", counts.t10k) };
  for (const [split, { pixels, labels }] of Object.entries(sets)) {
    const images = encodeIdx([labels.length, side, side], pixels);
    writeFileSync(here(`${split}-images-idx3-ubyte.gz`), gzipSync(images, { level: 9 }));
    writeFileSync(here(`${split}-labels-idx1-ubyte.gz`), gzipSync(encodeIdx([labels.length], labels), { level: 9 }));
  }
  // one thread: more of them sum in an order that depends on the machine
  const engine = await runtime({ threads: 1 });
  const data = digitsData(sets);
  const { model } = await finetune(
    digitsNetwork(random(seed)),
    { epochs: 8, batch: 50, optimizer: "sgd", rate: 0.05, decay: 5e-4, holdOut: 0 },
    {
      runtime: engine,
      data,
      untrained: true,
      seed,
      record({ kind, epoch, loss }) {
        if (kind === "epoch") console.log(`epoch ${epoch}: loss ${loss.toFixed(4)}`);
      },
    },
  );
  writeFileSync(here("model.onnx"), encodeOnnx(model));
  writeFileSync(here("model.pare.yaml"), sidecar);
  for (const split of data.splits) {
    const { models } = await evaluate([{ name: "digits", graph: model }], data, engine, { split });
    console.log(`${split}: ${(100 * models[0]!.scores[0]!.value).toFixed(2)} %`);
  }
}

if (import.meta.filename === process.argv[1]) await main();
