/**
 * What quantizing costs beside the Python tool: whole commands, time and peak memory, on ResNet-50, BERT-base and GPT-2
 * sized networks with random weights. `npm run build && PARE_PYTHON=python npx tsx bench/cost.ts FOLDER`
 * (FOLDER holds the generated networks and outputs; about 3 GB).
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { writeNpz } from "../src/formats/npy.ts";
import { save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { float32, int64 } from "../src/tensor/tensor.ts";
import { record, table } from "./document.ts";
import { networks } from "./networks.ts";

interface Cost {
  readonly seconds: number;
  readonly peakBytes: number;
  readonly outBytes: number;
}

interface PeerReport {
  readonly import_s: number;
  readonly preprocess_s: number;
  readonly quantize_s: number;
  readonly preprocess: string;
  readonly peak_rss_mb: number;
  readonly error?: string;
}

const folder = resolve(process.argv[2] ?? "bench-models");
const python = process.env.PARE_PYTHON ?? "python3";
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const samples = 16;
const repeats = Number(process.env.PARE_REPEATS ?? 3);

/**
 * One method: how pare is called, and the Python tool's configuration for the same work; but for one layer: the tool has
 * no 4-bit form of Gemm, which ResNet-50 ends with.
 */
const methods = {
  dynamic: {
    flags: ["quantize-dynamic", "--conv", "integer"],
    peer: { method: "dynamic", options: { per_channel: true, weight_type: "QInt8" } },
  },
  static: {
    flags: ["quantize-static", "--method", "min-max", "--no-bias-correction", "--no-equalize", "--no-protect"],
    peer: { method: "static", options: { per_channel: true, activation_type: "QUInt8", weight_type: "QInt8" } },
  },
  "4 bit": {
    flags: ["quantize-weights", "--bits", "4", "--method", "rtn", "--no-convolutions", "--no-embeddings"],
    peer: {
      method: "matmul_nbits",
      algo: "default",
      options: { bits: 4, block_size: 32, is_symmetric: false, accuracy_level: 4 },
    },
  },
} as const;

/** A process of Node: seconds from start to end, and peak resident bytes. */
function node(args: readonly string[]): Omit<Cost, "outBytes"> {
  const peak = join(folder, "peak");
  const start = performance.now();
  const done = spawnSync("node", ["--import", here("peak-memory.mjs"), ...args], {
    env: { ...process.env, PARE_PEAK: peak },
    encoding: "utf8",
  });
  if (done.status !== 0) throw new Error(`${args.join(" ")}: ${done.stderr}`);
  return { seconds: (performance.now() - start) / 1000, peakBytes: Number(readFileSync(peak, "utf8")) };
}

function pare(args: readonly string[], out: string): Cost {
  return { ...node([here("../bin/pare.js"), ...args, "-o", out, "--quiet"]), outBytes: sizeOn(out) };
}

/**
 * The runtime's own footprint: peak resident bytes of Node with onnxruntime-node and nothing of pare. Calibration has to
 * run the float model, so there the runtime opens it and runs it once on a sample; the other methods never run it.
 */
function runtimeAlone(name: string, model: string, runs: boolean): number {
  const { input, type, sample } = feedOf(name);
  const args = runs ? [model, input, type, [1, ...sample].join()] : [];
  return Math.min(...Array.from({ length: repeats }, () => node([here("runtime-alone.mjs"), ...args]).peakBytes));
}

function peer(config: object, out: string): Cost {
  const printed = execFileSync(python, [here("peers/quantize.py"), "-"], {
    input: JSON.stringify(config),
    encoding: "utf8",
  });
  const said = JSON.parse(printed.trim().split("\n").at(-1)!) as PeerReport;
  if (said.error) throw new Error(said.error);
  // the driver's preprocess phase copies the model even when there is nothing to preprocess: not the tool's doing
  const seconds = said.import_s + said.quantize_s + (said.preprocess === "none" ? 0 : said.preprocess_s);
  return { seconds, peakBytes: said.peak_rss_mb * 2 ** 20, outBytes: sizeOn(out) };
}

function sizeOn(path: string): number {
  return [path, `${path}.data`].reduce((sum, file) => sum + (existsSync(file) ? statSync(file).size : 0), 0);
}

interface Feed {
  readonly input: string;
  readonly type: "float32" | "int64";
  readonly sample: readonly number[];
}

function feedOf(name: string): Feed {
  return name === "resnet50"
    ? { input: "image", type: "float32", sample: [3, 224, 224] }
    : { input: "input_ids", type: "int64", sample: [128] };
}

function calibration(name: string): string {
  const path = join(folder, `${name}.npz`);
  const r = random(7);
  const { input, type, sample } = feedOf(name);
  const shape = [samples, ...sample];
  const length = shape.reduce((a, b) => a * b, 1);
  const array =
    type === "float32"
      ? float32(
          shape,
          Float32Array.from({ length }, () => r.next() * 4 - 2),
        )
      : int64(
          Array.from({ length }, () => r.int(30000)),
          shape,
        );
  writeFileSync(path, writeNpz(new Map([[input, array]])));
  return path;
}

function median(costs: readonly Cost[]): Cost {
  return costs.toSorted((a, b) => a.seconds - b.seconds)[Math.floor(costs.length / 2)]!;
}

mkdirSync(folder, { recursive: true });
const rows: (string | number)[][] = [];
for (const [name, make] of Object.entries(networks)) {
  const model = join(folder, `${name}.onnx`);
  if (!existsSync(model)) await save(make(), model);
  const data = calibration(name);
  for (const [method, { flags, peer: settings }] of Object.entries(methods)) {
    const ours: Cost[] = [];
    const theirs: Cost[] = [];
    const out = join(folder, "out.onnx");
    for (let i = 0; i < repeats; i++) {
      const [command, ...rest] = flags;
      const dataFlags = method === "static" ? ["--data", data] : [];
      ours.push(pare([command, model, ...rest, ...dataFlags], out));
      for (const file of [out, `${out}.data`]) rmSync(file, { force: true });
      const preprocess = method === "static";
      theirs.push(peer({ model, output: out, ...settings, preprocess, calibration: data }, out));
      for (const file of [out, `${out}.data`]) rmSync(file, { force: true });
    }
    const [our, their] = [median(ours), median(theirs)];
    const bytes = statSync(model).size;
    const alone = runtimeAlone(name, model, method === "static");
    const megabytes = (value: number): string => (value / 1e6).toFixed(0);
    rows.push([
      name,
      method,
      `${our.seconds.toFixed(2)} s`,
      `${their.seconds.toFixed(2)} s`,
      `${(their.seconds / our.seconds).toFixed(1)} x`,
      `${megabytes(our.peakBytes)} MB (${(our.peakBytes / bytes).toFixed(2)} x model)`,
      `${megabytes(alone)} MB`,
      `${megabytes(1.5 * bytes + alone)} MB`,
      `${megabytes(their.peakBytes)} MB (${(their.peakBytes / bytes).toFixed(2)} x)`,
      `${megabytes(our.outBytes)} / ${megabytes(their.outBytes)} MB`,
    ]);
    console.log(rows.at(-1)!.join("  "));
  }
}
const header = [
  "network",
  "method",
  "pare",
  "Python tool",
  "faster",
  "pare peak",
  "runtime alone",
  "bar",
  "Python peak",
  "file",
];
const notes = [
  "Runtime alone: peak resident memory of Node with onnxruntime-node and nothing of pare. For static quantization, which",
  "has to run the float model, it opens the same model and runs it once on a sample; for the others it is imported and",
  "idle. Bar: 1.5 times the model's size plus the runtime alone.",
];
record(
  "cost",
  "Cost of quantizing, whole commands",
  "npm run build && npx tsx bench/cost.ts FOLDER",
  `${table(header, rows)}\n\n${notes.join("\n")}`,
);
