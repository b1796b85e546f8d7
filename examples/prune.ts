/*
 * Prunes the digits model round by round, channels and weights in turn, as far as a loss of two points allows:
 * `npx tsx examples/prune.ts`. Outside this repository the imports are "pare", "pare/node", "pare/data", "pare/recipe",
 * "pare/report" and "pare/techniques".
 */
import { fileURLToPath } from "node:url";
import { openDataset, readSidecar } from "../src/data/index.ts";
import { load, nodeFiles, runtime, save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { cutter, iterate, makeJudge, parseSizeTarget, splitData } from "../src/recipe/index.ts";
import { originalLine, roundLine } from "../src/report/index.ts";
import type { Context } from "../src/techniques/index.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const model = here("digits/model.onnx");
const output = process.argv[2] ?? "pruned.onnx";

const graph = await load(model);
const engine = await runtime();
const preprocess = (await readSidecar(model, nodeFiles))?.preprocess;
const data = await openDataset(here("digits"), nodeFiles, { inputs: graph.inputs, ...(preprocess && { preprocess }) });

// what techniques look at, what rounds are chosen by, and what the choice is confirmed on share no sample
const parts = await splitData(data, { seed: 0, limit: 600 });
const { signal } = new AbortController();
const judge = await makeJudge(graph, { runtime: engine, parts, seed: 0, signal, seconds: 0.05 });
const context: Context = {
  runtime: engine,
  data: parts.calibration,
  random: random(0),
  log() {},
  progress() {},
  skip() {},
  show() {},
  signal,
};

const result = await iterate(graph, context, judge, {
  cutters: [cutter("channels"), cutter("weights", { score: "wanda" })],
  targets: ["macs=40%", "sparsity=0.7"].map(parseSizeTarget),
  maxDrop: 0.02,
  step: 0.4,
  onStart: (size, score) => console.log(originalLine(size, score)),
  onRound: (round) => console.log(roundLine(round)),
});
if (!result.graph || !result.size || !result.confirmed) throw new Error("nothing could be cut");
await save(result.graph, output);
const { macs, sparsity } = result.size;
console.log(`MACs ${macs / result.original.macs}, sparsity ${sparsity}, drop ${result.confirmed.drop}`);
