/**
 * Imported Keras models against Keras itself: every architecture of keras.applications and single layers with unusual
 * options, random weights, both file formats; and the trained models of the data folder against their ONNX twins.
 *
 *     npx tsx bench/keras.ts <python with keras> [data folder] [--only name,name] [--record]
 *
 * Instead of a Python, a folder that `peers/keras_models.py FOLDER > FOLDER/list.jsonl` has filled serves too.
 */
import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { inflateRawSync } from "node:zlib";
import { openDataset } from "../src/data/index.ts";
import { messageOf } from "../src/errors.ts";
import { readNpz } from "../src/formats/npy.ts";
import type { Graph } from "../src/graph/graph.ts";
import { load, nodeFiles, runtime } from "../src/platform/node.ts";
import type { Runtime, Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { float32, type Tensor, toFloat32 } from "../src/tensor/tensor.ts";
import { record, table } from "./document.ts";
import { distance } from "./models.ts";

interface Made {
  readonly name: string;
  readonly kind: "layer" | "application";
  readonly file: string;
  readonly layers: number;
  readonly error?: string;
}

interface Compared extends Made {
  readonly nodes: number;
  /** Largest difference over all outputs, relative to the output's largest value. */
  readonly difference: number;
  readonly problem?: string;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, record: { type: "boolean", default: false } },
});
const [python, data] = positionals;
if (!python) throw new Error("say which Python has keras: npx tsx bench/keras.ts <python> [data folder]");
const engine = await runtime({ threads: 1 });
const sections: string[] = [];
const compared = await compareAll(python, engine, values.only?.split(",") ?? []);
sections.push(againstKeras(compared));
if (data) sections.push(await againstTwins(data, engine));
const text = sections.join("\n\n");
process.stdout.write(`${text}\n`);
if (values.record) {
  record("keras", "Keras models", "npx tsx bench/keras.ts <python with keras> <data folder> --record", text);
}

/** Has Keras write its models, or takes those in a folder, and compares each as soon as it is there. */
async function compareAll(source: string, on: Runtime, only: readonly string[]): Promise<Compared[]> {
  const filled = join(source, "list.jsonl");
  if (existsSync(filled)) return compareLines(createInterface(createReadStream(filled)), source, on);
  const folder = mkdtempSync(join(tmpdir(), "pare-keras-"));
  const script = fileURLToPath(new URL("peers/keras_models.py", import.meta.url));
  const child = spawn(source, [script, folder, ...only], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    return await compareLines(createInterface(child.stdout), folder, on);
  } finally {
    child.kill();
    rmSync(folder, { recursive: true });
  }
}

async function compareLines(lines: AsyncIterable<string>, folder: string, on: Runtime): Promise<Compared[]> {
  const found: Compared[] = [];
  for await (const line of lines) {
    const made = JSON.parse(line) as Made;
    const result = made.error
      ? { ...made, nodes: 0, difference: Number.NaN, problem: `Keras: ${made.error}` }
      : await compare(folder, made, on);
    process.stderr.write(`${result.file ?? result.name} ${result.problem ?? result.difference.toExponential(1)}\n`);
    found.push(result);
  }
  return found;
}

async function compare(folder: string, made: Made, on: Runtime): Promise<Compared> {
  try {
    const path = join(folder, made.file);
    const arrays = await readNpz(readFileSync(join(folder, `${made.name}.npz`)), async (deflated) =>
      inflateRawSync(deflated),
    );
    const graph = await load(path);
    const given = graph.inputs.map(({ name }, i): [string, Tensor] => [name, arrays.get(`in${i}`)!]);
    const wanted = graph.outputs.map(({ name }, i): [string, Tensor] => [name, arrays.get(`out${i}`)!]);
    const outputs = await run(on, graph, Object.fromEntries(given));
    return { ...made, nodes: graph.nodes.length, difference: distance(Object.fromEntries(wanted), outputs) };
  } catch (error) {
    return { ...made, nodes: 0, difference: Number.NaN, problem: messageOf(error) };
  }
}

async function run(on: Runtime, graph: Graph, feeds: Tensors): Promise<Tensors> {
  // the runtime's own fusions (BatchNormalization into convolutions) cost more digits than the import
  const session = await on.open(graph, { optimize: "disabled" });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

function againstKeras(all: readonly Compared[]): string {
  const networks = all.filter(({ kind }) => kind === "application");
  const single = all.filter(({ kind }) => kind === "layer");
  const rows = networks.map(({ name, file, layers, nodes, difference, problem }) => {
    return [name, file.slice(name.length), layers, nodes, problem ?? difference.toExponential(1)];
  });
  const failed = all.filter(({ problem, difference }) => problem || !(difference < 1e-4));
  const worst = single.reduce((most, { difference }) => Math.max(most, difference || 0), 0);
  const lines = [
    "Outputs of the imported model in ONNX Runtime and of Keras in TensorFlow, on the same batch of three random inputs:",
    "the largest difference, relative to the output's largest value. Weights are random, the runtime's own optimizations are off.",
    "",
    table(["architecture", "file", "layers", "ONNX nodes", "difference"], rows),
    "",
    `Small models of single layers with unusual options (${single.length} files, both formats): largest difference ` +
      `${worst.toExponential(1)}.`,
    ...failed.map(
      ({ file, name, problem, difference }) => `- ${file ?? name}: ${problem ?? difference.toExponential(1)}`,
    ),
  ];
  return lines.join("\n");
}

/** Trained models that exist in both formats. */
async function againstTwins(folder: string, on: Runtime): Promise<string> {
  const pairs = [
    ["mlperf-tiny-resnet8/pretrainedResnet.h5", "mlperf-tiny-resnet8/resnet8.onnx"],
    ["mobilenet-v1-0.25/mobilenet_v1_0.25_224.h5", "mobilenet-v1-0.25/mobilenet_v1_0.25_224.onnx"],
  ] as const;
  const rows: (string | number)[][] = [];
  for (const [keras, onnx] of pairs) {
    const [imported, twin] = [
      await load(`${folder}/${keras}`, { layout: "channels-first" }),
      await load(`${folder}/${onnx}`),
    ];
    const feeds = keras.includes("resnet8") ? await pictures(folder, imported) : noise();
    const [a, b] = [await run(on, imported, feeds(imported)), await run(on, twin, feeds(twin))];
    const [first, second] = [Object.values(a)[0]!, Object.values(b)[0]!];
    rows.push([keras, imported.nodes.length, twin.nodes.length, largest(first, second).toExponential(1)]);
  }
  const header = ["model", "ONNX nodes", "nodes of its ONNX twin", "largest difference of a probability"];
  return `Trained models against the same weights in hand-written ONNX files:\n\n${table(header, rows)}`;
}

function largest(a: Tensor, b: Tensor): number {
  const [x, y] = [toFloat32(a), toFloat32(b)];
  return x.reduce((most, v, i) => Math.max(most, Math.abs(v - y[i]!)), 0);
}

type Feeds = (graph: Graph) => Tensors;

/** The first thousand test pictures of CIFAR-10. */
async function pictures(folder: string, graph: Graph): Promise<Feeds> {
  const spec = { inputs: graph.inputs, outputs: graph.outputs, preprocess: { channels: "RGB", scale: 1 } as const };
  const dataset = await openDataset(`${folder}/cifar-10`, nodeFiles, spec);
  for await (const { inputs } of dataset.batches({ split: "test", batch: 1000, limit: 1000 })) {
    return ({ inputs: [input] }) => ({ [input!.name]: Object.values(inputs)[0]! });
  }
  throw new Error("no pictures");
}

function noise(): Feeds {
  const stream = random(1);
  const shape = [8, 3, 224, 224];
  const t = float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => stream.normal() * 0.5),
  );
  return (graph) => ({ [graph.inputs[0]!.name]: t });
}
