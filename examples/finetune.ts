/*
 * Teaches the digits model to read white on black: `npx tsx examples/finetune.ts`.
 * Outside this repository the imports are "pare/analysis", "pare/data", "pare/node" and "pare/training".
 */
import { fileURLToPath } from "node:url";
import { evaluate } from "../src/analysis/index.ts";
import { openDataset } from "../src/data/index.ts";
import { load, nodeFiles, runtime, save } from "../src/platform/node.ts";
import { finetune } from "../src/training/index.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const engine = await runtime();

const graph = await load(here("digits/model.onnx"));
// the model learned from (x / 255 - 0.1) / 0.25; this is the same with x for 255 - x
const preprocess = { channels: "gray", scale: -1 / 255, mean: -0.9, std: 0.25 } as const;
const data = await openDataset(here("digits"), nodeFiles, { inputs: graph.inputs, preprocess });
const { model } = await finetune(graph, { epochs: 1, rate: 0.02 }, { runtime: engine, data });
await save(model, process.argv[2] ?? "finetuned.onnx");

const { models } = await evaluate(
  [
    { name: "before", graph },
    { name: "after", graph: model },
  ],
  data,
  engine,
);
for (const { name, scores } of models) console.log(`${name}: top-1 ${scores[0]!.value}`);
