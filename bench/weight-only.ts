/**
 * Weight-only quantization beside the Python tool's: output error on real inputs, time and peak memory of whole
 * commands, and file size.
 * `npm run build && PARE_DATA=FOLDER PARE_PYTHON=python npx tsx bench/weight-only.ts [WORK-FOLDER]`
 *
 * PARE_PYTHON_HQQ names an environment with torch, for the tool's HQQ; without it those rows are left out.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { edit } from "../src/graph/edit.ts";
import { type Graph, isNode, makeGraph, makeNode } from "../src/graph/graph.ts";
import { load, runtime, save } from "../src/platform/node.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { float32, int64, type Tensor, tensor, toFloat32, typed } from "../src/tensor/tensor.ts";
import { record, table } from "./document.ts";

const data = process.env.PARE_DATA ?? "data";
const python = process.env.PARE_PYTHON ?? "python3";
const pythonWithTorch = process.env.PARE_PYTHON_HQQ;
const folder = resolve(process.argv[2] ?? "bench-weight-only");
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const cpu = await runtime({ threads: 1 });

interface Subject {
  readonly name: string;
  readonly graph: Graph;
  readonly feeds: readonly Tensors[];
  readonly output: string;
}

/** The keyword transformer with its Gemm nodes as MatMul and Add, which is what the Python tool takes. */
async function keywords(): Promise<Subject> {
  const graph = withMatMul(await load(join(data, "kwt-1/kwt1.onnx")));
  const clips = gunzipSync(readFileSync(join(data, "speech-commands/clips-16khz-s16le.bin.gz")));
  const feeds = Array.from({ length: 48 }, (_, i): Tensors => {
    const samples = new Float32Array(16000);
    for (let s = 0; s < samples.length; s++) samples[s] = clips.readInt16LE((4 * i * 16000 + s) * 2) / 32768;
    return { input_1: float32([1, 16000], samples) };
  });
  return { name: "kwt1", graph, feeds, output: graph.outputs[0]!.name };
}

function withMatMul(graph: Graph): Graph {
  return edit(graph, (draft) => {
    for (const node of graph.nodes) {
      const weight = graph.weights.get(node.inputs[1] ?? "");
      if (!isNode(node, "Gemm") || !weight) continue;
      const transB = node.attributes.transB?.type === "int" && Number(node.attributes.transB.value) === 1;
      const name = transB ? draft.constant(`${node.inputs[1]}_t`, transposed(weight)) : node.inputs[1]!;
      const product = draft.fresh(`${node.outputs[0]}_product`);
      const [a, , bias] = node.inputs as [string, string, string | undefined];
      const multiply = makeNode("MatMul", [a, name], [bias ? product : node.outputs[0]!], {}, `${node.name}_MatMul`);
      draft.replace(node, multiply, ...(bias ? [makeNode("Add", [product, bias], node.outputs)] : []));
    }
  });
}

function transposed(t: Tensor): Tensor {
  const [rows, columns] = t.shape as [number, number];
  const from = toFloat32(t);
  const to = new Float32Array(from.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c]!;
  return float32([columns, rows], to);
}

/** The story model, on texts that it made up itself, token by token. */
async function stories(): Promise<Subject> {
  const graph = await load(join(data, "stories260k/stories260K.onnx"));
  const session = await cpu.open(graph);
  const [batch, length] = [8, 128];
  const chance = random(3);
  let tokens = new Array<number>(batch).fill(1);
  for (let t = 1; t < length; t++) {
    const { logits } = await session.run({ input_ids: int64(tokens, [batch, t]) });
    const [values, classes] = [toFloat32(logits!), logits!.shape[2]!];
    const next: number[] = [];
    for (let b = 0; b < batch; b++) {
      const row = values.subarray((b * t + t - 1) * classes, (b * t + t) * classes);
      next.push(...tokens.slice(b * t, (b + 1) * t), draw(row, chance.next()));
    }
    tokens = next;
  }
  await session.release();
  return { name: "stories260K", graph, feeds: [{ input_ids: int64(tokens, [batch, length]) }], output: "logits" };
}

/** The index at which the running sum of softmax(logits) passes `at`. */
function draw(logits: Float32Array, at: number): number {
  const top = logits.reduce((a, b) => Math.max(a, b));
  const odds = logits.map((v) => Math.exp(v - top));
  let left = at * odds.reduce((a, b) => a + b);
  for (const [i, p] of odds.entries()) {
    left -= p;
    if (left < 0) return i;
  }
  return odds.length - 1;
}

/** A multilayer perceptron trained on MNIST, on test images; logits, without the softmax. */
function perceptron(): Subject {
  const bytes = readFileSync(join(data, "tfjs-mnist-mlp/group1-shard1of1.bin"));
  const shapes = { w1: [784, 128], b1: [128], w2: [128, 10], b2: [10] };
  const weights = new Map<string, Tensor>();
  let at = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const length = shape.reduce((a, b) => a * b, 4);
    weights.set(name, tensor("float32", shape, bytes.subarray(at, at + length)));
    at += length;
  }
  const graph = makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w1"], ["p1"], {}, "dense_1"),
      makeNode("Add", ["p1", "b1"], ["a1"]),
      makeNode("Relu", ["a1"], ["h1"]),
      makeNode("MatMul", ["h1", "w2"], ["p2"], {}, "dense_2"),
      makeNode("Add", ["p2", "b2"], ["y"]),
    ],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["N", 784] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: ["N", 10] } }],
    weights,
    opsets: { "": 17 },
    irVersion: 8,
  });
  const images = gunzipSync(readFileSync(join(data, "mnist/t10k-images-idx3-ubyte.gz"))).subarray(16, 16 + 1000 * 784);
  return {
    name: "MNIST MLP",
    graph,
    feeds: [
      {
        x: float32(
          [1000, 784],
          Float32Array.from(images, (v) => v / 255),
        ),
      },
    ],
    output: "y",
  };
}

async function outputs(path: string, { feeds, output }: Subject): Promise<Float32Array[]> {
  const session = await cpu.open(await load(path));
  try {
    const found: Float32Array[] = [];
    for (const feed of feeds) found.push((typed((await session.run(feed))[output]!) as Float32Array).slice());
    return found;
  } finally {
    await session.release();
  }
}

function sqnr(reference: readonly Float32Array[], values: readonly Float32Array[]): number {
  let [signal, error] = [0, 0];
  for (const [f, row] of reference.entries()) {
    for (const [i, v] of row.entries()) {
      signal += v * v;
      error += (v - values[f]![i]!) ** 2;
    }
  }
  return 10 * Math.log10(signal / error);
}

interface Run {
  readonly seconds: number;
  readonly peak: number;
}

function pare(model: string, out: string, flags: readonly string[]): Run {
  const peak = join(folder, "peak");
  const command = ["--import", here("peak-memory.mjs"), here("../bin/pare.js"), "quantize-weights", model];
  const start = performance.now();
  const done = spawnSync("node", [...command, "-o", out, "--quiet", ...flags], {
    env: { ...process.env, PARE_PEAK: peak },
    encoding: "utf8",
  });
  if (done.status !== 0) throw new Error(`pare ${flags.join(" ")}: ${done.stderr}`);
  return { seconds: (performance.now() - start) / 1000, peak: Number(readFileSync(peak, "utf8")) / 2 ** 20 };
}

function peer(model: string, out: string, algo: string, options: object): Run {
  const interpreter = algo === "hqq" ? pythonWithTorch! : python;
  const config = { model, output: out, method: "matmul_nbits", algo, options };
  const printed = execFileSync(interpreter, [here("peers/quantize.py"), "-"], {
    input: JSON.stringify(config),
    encoding: "utf8",
    stdio: ["pipe", "pipe", "ignore"],
  });
  const said = JSON.parse(printed.trim().split("\n").at(-1)!) as Record<string, number>;
  return { seconds: said.import_s! + said.quantize_s!, peak: said.peak_rss_mb! };
}

/** Flags of every row of ours; forms that unpack at load show the error of the weights alone. */
const ours: Readonly<Record<string, readonly string[]>> = {
  "pare, 4 bits, search": [],
  "pare, 4 bits, search, symmetric": ["--symmetric"],
  "pare, 4 bits, round to nearest": ["--method", "rtn"],
  "pare, 4 bits, HQQ": ["--method", "hqq"],
  "pare, 4 bits, search, float arithmetic": ["--accuracy-level", "1"],
  "pare, 4 bits, search, DequantizeLinear": ["--format", "dequantize"],
  "pare, 4 bits, search, storage": ["--format", "storage"],
  "pare, 8 bits": ["--bits", "8"],
  "pare, 3 bits": ["--bits", "3"],
  "pare, 2 bits": ["--bits", "2"],
  "pare, ternary": ["--bits", "ternary"],
  "pare, binary": ["--bits", "binary"],
};

const common = { bits: 4, block_size: 32 };
const theirs: Readonly<Record<string, readonly [algo: string, options: object]>> = {
  "onnxruntime, default": ["default", { ...common, is_symmetric: false, accuracy_level: 4 }],
  "onnxruntime, default, symmetric": ["default", { ...common, is_symmetric: true, accuracy_level: 4 }],
  "onnxruntime, default, float arithmetic": ["default", { ...common, is_symmetric: false, accuracy_level: 1 }],
  "onnxruntime, rtn": ["rtn", { ...common, is_symmetric: false, accuracy_level: 4 }],
  "onnxruntime, k_quant": ["k_quant", { ...common, accuracy_level: 4 }],
  "onnxruntime, hqq (float arithmetic)": ["hqq", { ...common }],
};

function row(name: string, error: number | string, run: Run | undefined, out: string): (string | number)[] {
  const cell = typeof error === "number" ? error.toFixed(2) : error;
  if (!run) return [name, cell, "-", "-", "-"];
  return [name, cell, run.seconds.toFixed(2), run.peak.toFixed(0), (statSync(out).size / 1000).toFixed(0)];
}

async function measure(subject: Subject): Promise<string> {
  const model = join(folder, "model.onnx");
  const out = join(folder, "out.onnx");
  await save(subject.graph, model);
  const reference = await outputs(model, subject);
  const rows: (string | number)[][] = [];
  const attempt = async (name: string, run: () => Run): Promise<void> => {
    rmSync(out, { force: true });
    try {
      const cost = run();
      rows.push(row(name, sqnr(reference, await outputs(out, subject)), cost, out));
    } catch (error) {
      console.error(name, error);
      rows.push(row(name, "the tool fails", undefined, out));
    }
  };
  // lookups stay in float: the Python tool takes MatMul only
  for (const [name, flags] of Object.entries(ours)) {
    await attempt(name, () => pare(model, out, ["--no-embeddings", "--no-convolutions", ...flags]));
  }
  for (const [name, [algo, options]] of Object.entries(theirs)) {
    if (algo !== "hqq" || pythonWithTorch) await attempt(name, () => peer(model, out, algo, options));
  }
  return [`### ${subject.name}`, "", table(["", "SQNR dB", "s", "peak MB", "kB"], rows)].join("\n");
}

mkdirSync(folder, { recursive: true });
const sections: string[] = [];
for (const subject of [await keywords(), await stories(), perceptron()]) {
  sections.push(await measure(subject));
  console.log(`${sections.at(-1)}\n`);
}
record(
  "weight-only",
  "Weight-only quantization",
  "PARE_DATA=FOLDER PARE_PYTHON=python PARE_PYTHON_HQQ=python npx tsx bench/weight-only.ts",
  sections.join("\n\n"),
);
