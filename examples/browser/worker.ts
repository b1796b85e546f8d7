/*
 * Trains the digits model in a worker, so that the page stays responsive. Outside this repository the imports are
 * "pare", "pare/web", "pare/analysis" and "pare/training".
 */
import { evaluate } from "../../src/analysis/index.ts";
import { messageOf } from "../../src/errors.ts";
import type { Graph } from "../../src/graph/index.ts";
import type { Runtime } from "../../src/platform/runtime.ts";
import { runtime, save } from "../../src/platform/web.ts";
import { random } from "../../src/random.ts";
import { toFloat32 } from "../../src/tensor/index.ts";
import { finetune } from "../../src/training/index.ts";
import { digitsNetwork } from "../digits/network.ts";
import { digitsData, makePictures, type Pictures } from "../digits/pictures.ts";
import { side } from "../digits/render.ts";

/** What the page asks for. */
export interface Request {
  readonly pictures: number;
  readonly epochs: number;
  /** The folder of ONNX Runtime's files. */
  readonly wasmPaths: string;
}

/** A held-out digit, and what the model takes it for. */
export interface Reading {
  readonly pixels: Uint8Array;
  readonly label: number;
  readonly read: number;
}

/** What the page is told. */
export type Message =
  | { readonly kind: "state"; readonly text: string }
  | {
      readonly kind: "step";
      readonly step: number;
      readonly steps: number;
      readonly samplesPerSecond: number;
    }
  | { readonly kind: "loss"; readonly step: number; readonly loss: number }
  | { readonly kind: "score"; readonly step: number; readonly accuracy: number }
  | { readonly kind: "done"; readonly model: Blob; readonly readings: readonly Reading[] }
  | { readonly kind: "failure"; readonly text: string };

const heldOut = 200;
const shown = 40;
const tell = (message: Message): void => self.postMessage(message);

async function train({ pictures, epochs, wasmPaths }: Request): Promise<void> {
  tell({ kind: "state", text: "Loading ONNX Runtime …" });
  const engine = await runtime({ wasmPaths });
  tell({ kind: "state", text: `Drawing ${pictures + heldOut} digits …` });
  const unseen = makePictures("t10k", heldOut);
  const data = digitsData({ train: makePictures("train", pictures), val: unseen });
  const network = digitsNetwork(random(7));

  tell({ kind: "state", text: "Writing the backward pass …" });
  const { models } = await evaluate([{ name: "untrained", graph: network }], data, engine, { split: "val" });
  tell({ kind: "score", step: 0, accuracy: models[0]!.scores[0]!.value });
  const { model } = await finetune(
    network,
    { epochs, batch: 25, optimizer: "sgd", rate: 0.02 },
    {
      runtime: engine,
      data,
      untrained: true,
      progress: ({ step, steps, samplesPerSecond }) => tell({ kind: "step", step, steps, samplesPerSecond }),
      record(entry) {
        const { step } = entry;
        if (entry.kind === "steps") tell({ kind: "loss", step, loss: entry.loss });
        else if (entry.score !== undefined) tell({ kind: "score", step, accuracy: entry.score });
      },
    },
  );
  tell({ kind: "done", model: await save(model), readings: await readings(model, engine, unseen) });
}

/** What the model takes the first pictures for. */
async function readings(model: Graph, engine: Runtime, pictures: Pictures): Promise<Reading[]> {
  const session = await engine.open(model);
  const read: Reading[] = [];
  for await (const { inputs, size } of digitsData({ pictures }).batches({ batch: shown, limit: shown })) {
    const logits = toFloat32((await session.run(inputs)).logits!);
    for (let i = 0; i < size; i++) {
      const row = logits.subarray(10 * i, 10 * i + 10);
      const pixels = pictures.pixels.slice(i * side * side, (i + 1) * side * side);
      read.push({ pixels, label: pictures.labels[i]!, read: row.indexOf(Math.max(...row)) });
    }
  }
  await session.release();
  return read;
}

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  train(data).catch((error) => tell({ kind: "failure", text: messageOf(error) }));
});
