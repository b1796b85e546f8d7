/**
 * What opening a model of 1.5 GB costs: time and peak memory of `pare inspect` without timing, and of quantizing it to 4
 * bits. `npm run build && npx tsx bench/open-large.ts FOLDER` (FOLDER holds the model, about 2 GB).
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { edit } from "../src/graph/edit.ts";
import { float, type Graph, makeGraph } from "../src/graph/graph.ts";
import { save } from "../src/platform/node.ts";
import { float32, int64 } from "../src/tensor/tensor.ts";
import { machine, record, table } from "./document.ts";
import { randomWeight } from "./networks.ts";

const width = 1536;
const blocks = 9;
const vocabulary = 32000;

/** A decoder without its attention: embedding, blocks of normalization, product and gated feed-forward, output layer. */
function decoder(): Graph {
  const empty = makeGraph({
    name: "decoder",
    nodes: [],
    inputs: [{ name: "ids", type: { kind: "tensor", dtype: "int64", shape: ["batch", "length"] } }],
    outputs: [{ name: "logits", type: { kind: "tensor", dtype: "float32", shape: ["batch", "length", vocabulary] } }],
  });
  return edit(empty, (draft) => {
    let seed = 0;
    const weight = (name: string, shape: readonly number[]): string =>
      draft.constant(name, randomWeight(shape, 0.02, seed++));
    const product = (x: string, name: string, from: number, to: number): string =>
      draft.emit("MatMul", [x, weight(name, [from, to])]);
    const gain = draft.constant("gain", float32([width], new Float32Array(width).fill(1)));
    const axes = draft.constant("axes", int64([-1]));
    let x = draft.emit("Gather", [weight("embedding", [vocabulary, width]), "ids"], { axis: 0 });
    for (let i = 0; i < blocks; i++) {
      const mean = draft.emit("ReduceMean", [draft.emit("Mul", [x, x]), axes], { keepdims: 1 });
      const centred = draft.emit("LayerNormalization", [x, gain], { axis: -1, epsilon: float(1e-5) });
      const normal = draft.emit("Add", [centred, draft.emit("Sqrt", [mean])]);
      const mixed = product(product(normal, `value.${i}`, width, 2 * width), `output.${i}`, 2 * width, width);
      const x1 = draft.emit("Add", [x, mixed]);
      const gate = draft.emit("Sigmoid", [product(x1, `gate.${i}`, width, 3 * width)]);
      const up = draft.emit("Mul", [gate, product(x1, `up.${i}`, width, 3 * width)]);
      x = draft.emit("Add", [x1, product(up, `down.${i}`, 3 * width, width)]);
    }
    draft.emit("MatMul", [x, weight("head", [width, vocabulary])], {}, ["logits"]);
  });
}

const folder = resolve(process.argv[2] ?? "bench-models");
const model = join(folder, "decoder.onnx");
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

function pare(...args: string[]): { seconds: number; peak: number; out: string } {
  const peakFile = join(folder, "peak");
  const start = performance.now();
  const done = spawnSync("node", ["--import", here("peak-memory.mjs"), here("../bin/pare.js"), ...args], {
    env: { ...process.env, PARE_PEAK: peakFile },
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (done.status !== 0) throw new Error(`pare ${args.join(" ")}: ${done.stderr}`);
  const seconds = (performance.now() - start) / 1000;
  return { seconds, peak: Number(readFileSync(peakFile, "utf8")), out: done.stdout };
}

mkdirSync(folder, { recursive: true });
if (!existsSync(model)) await save(decoder(), model, { external: true });
const inspected = pare("inspect", model, "--json", "--quiet");
const { totals } = JSON.parse(inspected.out) as { totals: { bytes: number; macs: number; unknownNodes: number } };
const small = join(folder, "decoder-4bit.onnx");
const quantized = pare("quantize-weights", model, "-o", small, "--bits", "4", "--method", "rtn", "--quiet");
for (const file of [small]) rmSync(file, { force: true });

const row = (what: string, { seconds, peak }: { seconds: number; peak: number }, bar: string): string[] => [
  what,
  `${seconds.toFixed(2)} s`,
  `${(peak / 1e6).toFixed(0)} MB`,
  bar,
];
const rows = [row("open and inspect", inspected, "2 s, 200 MB"), row("quantize to 4 bits", quantized, "600 MB")];
const body = `${table(["command", "time", "peak resident", "bar"], rows)}

The model holds ${(totals.bytes / 1e9).toFixed(2)} GB of float32 weights as external data; inspecting it finds
${(totals.macs / 1e6).toFixed(0)} million multiply-accumulates for one token, ${totals.unknownNodes} nodes of unknown work.`;
console.log(`${machine()}\n${body}`);
record("open-large", "Opening a model of 1.5 GB", "npx tsx bench/open-large.ts FOLDER", body);
