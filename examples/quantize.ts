/*
 * Quantizes the digits model in a program, and shows what that cost: `npx tsx examples/quantize.ts`.
 * Outside this repository the imports are "pare", "pare/node", "pare/data", "pare/techniques" and "pare/analysis".
 */
import { fileURLToPath } from "node:url";
import { evaluate } from "../src/analysis/index.ts";
import { openDataset, readSidecar } from "../src/data/index.ts";
import { load, nodeFiles, runtime, save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { type Context, quantizeStatic } from "../src/techniques/index.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const model = here("digits/model.onnx");
const output = process.argv[2] ?? "quantized.onnx";

const graph = await load(model);
const engine = await runtime();
const preprocess = (await readSidecar(model, nodeFiles))?.preprocess;
const data = await openDataset(here("digits"), nodeFiles, { inputs: graph.inputs, ...(preprocess && { preprocess }) });

const context: Context = {
  runtime: engine,
  data,
  random: random(0),
  log: console.error,
  progress() {},
  skip: (node, reason) => console.error(`left alone: ${node}, ${reason}`),
  show() {},
  signal: new AbortController().signal,
};
const quantized = await quantizeStatic({ samples: 64 }).apply(graph, context);
await save(quantized, output);

const { models } = await evaluate(
  [
    { name: "original", graph },
    { name: "quantized", graph: quantized },
  ],
  data,
  engine,
  { split: "test", limit: 500 },
);
for (const { name, scores } of models) console.log(`${name}: top-1 ${scores[0]!.value}`);
