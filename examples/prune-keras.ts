/*
 * Loads a trained Keras file, prunes it from 50 % to 90 % while it trains on, saves and compares:
 * `npx tsx examples/prune-keras.ts` (reading .h5 files takes the package h5wasm). Outside this repository the imports are
 * "pare", "pare/node", "pare/data", "pare/techniques" and "pare/analysis".
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { evaluate } from "../src/analysis/index.ts";
import { openDataset } from "../src/data/index.ts";
import { load, nodeFiles, runtime, save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { type Context, pruneWeights } from "../src/techniques/index.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const output = process.argv[2] ?? "pruned.onnx";

const engine = await runtime();
const graph = await load(here("digits/model.h5"));
const preprocess = { channels: "gray", scale: 1 / 255, mean: 0, std: 1 } as const;
const { inputs, outputs } = graph;
const data = await openDataset(here("digits#train"), nodeFiles, { inputs, outputs, preprocess });

const [epochs, batch] = [10, 32];
const steps = epochs * Math.floor((0.9 * data.size()!) / batch);
// tfmot: PolynomialDecay(initial_sparsity=0.5, final_sparsity=0.9, begin_step=0, end_step=steps * 3 // 4, frequency=20)
const prune = pruneWeights({
  pruningSchedule: "polynomial",
  initialSparsity: 0.5,
  sparsity: 0.9,
  beginStep: 0,
  endStep: Math.floor((steps * 3) / 4),
  frequency: 20,
  density: "global",
  epochs,
  batch,
  rate: 0.002,
});
let shown = 0;
const context: Context = {
  runtime: engine,
  data,
  random: random(0),
  log: console.error,
  progress() {},
  skip: (node, reason) => console.error(`left alone: ${node}, ${reason}`),
  show() {},
  training: {
    record(entry) {
      if (entry.kind !== "steps" || entry.step < shown + 100) return;
      shown = entry.step;
      console.log(`step ${shown}: sparsity ${entry.summaries?.sparsity?.toFixed(3)}`);
    },
  },
  signal: new AbortController().signal,
};
// there is no wrapper to strip: the masks were never part of the graph
const pruned = await prune.apply(graph, context);

const test = await openDataset(here("digits#test"), nodeFiles, { inputs, outputs, preprocess });
const { models } = await evaluate(
  [
    { name: "original", graph },
    { name: "pruned", graph: pruned },
  ],
  test,
  engine,
);
const dense = await save(graph, output.replace(/(\.onnx)?$/, ".dense.onnx"));
const sparse = await save(pruned, output);
for (const [i, { path }] of [dense, sparse].entries()) {
  const bytes = readFileSync(path);
  const { name, scores } = models[i]!;
  console.log(`${name}: top-1 ${scores[0]!.value}, ${bytes.length} bytes, ${gzipSync(bytes).length} with gzip`);
}
