/**
 * How much faster 8 bits are: `PARE_DATA=FOLDER PARE_PYTHON=python npx tsx bench/int8-latency.ts [NETWORK...]`
 *
 * quantize-static with its defaults beside float and beside onnxruntime.quantization, in runs that take turns; and whether
 * what `pare compress --target latency` and `pare quantize --target ms=...` hand out is faster, timed anew. PARE_WORK names
 * a folder that keeps models.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { NamedModel } from "../src/analysis/evaluate.ts";
import { type LatencyResult, type ModelLatency, measureLatency } from "../src/analysis/latency.ts";
import type { Dataset } from "../src/data/dataset.ts";
import { datasetOf } from "../src/data/samples.ts";
import { syntheticFeeds } from "../src/data/synthetic.ts";
import { messageOf } from "../src/errors.ts";
import type { Graph } from "../src/graph/graph.ts";
import { load, runtime, save } from "../src/platform/node.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { compress } from "../src/recipe/compress.ts";
import { parseSizeTarget } from "../src/recipe/iterate-size.ts";
import { type Gain, type Judge, makeJudge } from "../src/recipe/judge.ts";
import { quantizeMixed } from "../src/recipe/mixed.ts";
import { type Parts, splitData } from "../src/recipe/split.ts";
import { techniques } from "../src/techniques/index.ts";
import { testContext } from "../src/techniques/testing.ts";
import { architectures } from "../src/training/architectures/index.ts";
import { record, table } from "./document.ts";
import { resnet50 } from "./networks.ts";
import { quantizeByPeer } from "./peers.ts";
import { join as joined, unlabelled } from "./zoo/samples.ts";
import { dataFolder, exportFeeds, openZoo, zoo } from "./zoo.ts";

const seed = 1;
/** Seconds of running for each model of a comparison. */
const seconds = Number(process.env.PARE_SECONDS ?? 3);
const data = dataFolder();
const python = process.env.PARE_PYTHON ?? "python3";
const work = resolve(process.env.PARE_WORK ?? join(tmpdir(), "pare-int8-latency"));
const onnx = await runtime();

interface Network {
  readonly name: string;
  /** The larger of the two batches. */
  readonly batch: number;
  /** How many times as fast int8 must be... */
  readonly bar?: number;
  /** ...at every batch, or at 1 alone. */
  readonly everyBatch?: boolean;
  /** Its graph, and samples in a split "calibration". */
  open(): Promise<{ graph: Graph; dataset: Dataset }>;
}

const networks: readonly Network[] = [
  { ...fromZoo("resnet8"), batch: 16 },
  { ...fromZoo("resnet20"), batch: 16, bar: 1.8 },
  { ...fromZoo("resnet56"), batch: 16, bar: 1.8 },
  { ...fromZoo("squeezenet1.1"), batch: 8 },
  { ...fromZoo("mobilenet-v1-0.25"), batch: 8 },
  { ...untrained("resnet50", resnet50), batch: 8, bar: 2.5, everyBatch: true },
  { ...untrained("resnet20, 4 times as wide", wideResnet), batch: 16, bar: 2.5, everyBatch: true },
];

function fromZoo(name: string): Pick<Network, "name" | "open"> {
  return { name, open: () => openZoo(zoo.find((model) => model.name === name)!, data, onnx) };
}

/** A network of random weights: times do not depend on them. */
function untrained(name: string, make: () => Graph): Pick<Network, "name" | "open"> {
  return {
    name,
    async open() {
      const graph = make();
      const read = async (indices: readonly number[]) => ({
        inputs: syntheticFeeds(graph, random(indices[0]!), { batch: indices.length }),
        size: indices.length,
      });
      return { graph, dataset: datasetOf("noise", new Map([["calibration", { count: 16, read }]])) };
    },
  };
}

function wideResnet(): Graph {
  const { resnet20 } = architectures;
  return resnet20!.build(resnet20!.options.parse({ width: 4 }), random(seed));
}

const context = (calibration?: Dataset) => ({
  ...testContext(onnx),
  random: random(seed),
  ...(calibration && { data: calibration }),
});

/** pare's int8 model: made once, kept in the work folder. */
async function ours(name: string, graph: Graph, dataset: Dataset): Promise<Graph> {
  const path = join(work, `${name}-pare.onnx`);
  if (!existsSync(path)) {
    await save(await techniques["quantize-static"]!({}).apply(graph, context(unlabelled(dataset))), path);
  }
  return load(path);
}

/** The Python tool's, at the settings that its documentation advises; undefined where it fails. */
async function theirs(name: string, graph: Graph, dataset: Dataset): Promise<Graph | undefined> {
  const [model, output, calibration] = ["float.onnx", "python.onnx", "samples.npz"].map((end) =>
    join(work, `${name}-${end}`),
  ) as [string, string, string];
  try {
    if (!existsSync(output)) {
      await save(graph, model);
      writeFileSync(calibration, await exportFeeds(dataset, "calibration", 16));
      const options = { activation_type: "QUInt8", weight_type: "QInt8", quant_format: "QDQ", per_channel: true };
      quantizeByPeer(python, { model, output, method: "static", preprocess: true, calibration, options }, work);
    }
    return await load(output);
  } catch (error) {
    console.error(`${name}, Python tool: ${messageOf(error).slice(0, 200)}`);
    return undefined;
  }
}

async function batchOf(dataset: Dataset, size: number): Promise<Tensors> {
  const batches = [];
  for await (const batch of dataset.batches({ split: "calibration", batch: 1, limit: size })) batches.push(batch);
  return joined(batches).inputs;
}

/** Times models in runs that take turns, against the faster one of the first two: float as it is, and simplified. */
async function timed(models: readonly NamedModel[], feeds: Tensors, threads: number): Promise<LatencyResult> {
  const [float, simplified] = models as [NamedModel, NamedModel];
  const options = { threads, seed };
  const tried = await measureLatency([float, simplified], onnx, feeds, { ...options, seconds: seconds / 3 });
  const first = tried.models[1]!.ratio! < 1 ? simplified : float;
  const others = models.filter((model) => model !== first);
  return measureLatency([first, ...others], onnx, feeds, { ...options, seconds });
}

const times = (ratio: number): string => `${(1 / ratio).toFixed(2)}x`;
const speedup = ({ ratio, ratioInterval }: ModelLatency): string => {
  const interval = ratioInterval && ` [${ratioInterval.toReversed().map(times).join(", ")}]`;
  return `${times(ratio!)}${interval ?? ""}`;
};
const milliseconds = ({ median }: ModelLatency): string => `${median.toFixed(3)} ms`;

async function rowsOf({ name, batch, bar, everyBatch, open }: Network): Promise<string[][]> {
  const { graph, dataset } = await open();
  const peer = await theirs(name, graph, dataset);
  const models: NamedModel[] = [
    { name: "as it is", graph },
    { name: "simplified", graph: await techniques.simplify!({}).apply(graph, context()) },
    { name: "pare", graph: await ours(name, graph, dataset) },
    ...(peer ? [{ name: "Python tool", graph: peer }] : []),
  ];
  const rows: string[][] = [];
  for (const threads of [1, 2]) {
    for (const size of [1, batch]) {
      const { models: found } = await timed(models, await batchOf(dataset, size), threads);
      const of = (wanted: string): ModelLatency | undefined => found.find((model) => model.name === wanted);
      const [float, pare, python] = [found[0]!, of("pare")!, of("Python tool")];
      const own = [name, String(size), String(threads), milliseconds(float), float.name, milliseconds(pare)];
      rows.push([...own, speedup(pare), python ? milliseconds(python) : "fails", python ? speedup(python) : "-"]);
      console.log(rows.at(-1)!.join("  "));
      if (bar !== undefined && (size === 1 || everyBatch) && 1 / pare.ratio! < bar)
        short.push(`${rows.at(-1)!.join(" ")}: ${bar} times is asked for`);
    }
  }
  return rows;
}

/** Networks that are handed to pare to be made faster: some that int8 suits, some that it does not. */
const asked = ["resnet8", "resnet20", "mobilenet-v1-0.25", "kws-dscnn"];
const maxDrop = 0.05;

interface HandedOut {
  readonly by: string;
  readonly graph?: Graph;
  readonly claimed?: Pick<Gain, "latency">;
  readonly made: string;
}

async function search(original: Graph, parts: Parts): Promise<readonly HandedOut[]> {
  const judge: Judge = await makeJudge(original, { ...context(), seed, parts });
  const feeds = await firstOf(parts.confirmation);
  const lastLook = async (changed: Graph) => {
    const { latency, latencyInterval } = gainOf(await against(original, changed, feeds, 1));
    return { latency, latencyInterval, slower: [] };
  };
  const found = await compress(original, context(parts.calibration), judge, {
    ...{ target: "latency", maxDrop, timeLimit: 600, lastLook },
  });
  const target = parseSizeTarget("ms=70%");
  const mixed = await quantizeMixed(original, context(parts.calibration), judge, { target, maxDrop, lastLook });
  const chosen = found.plans.find(({ outcome }) => outcome === "chosen");
  return [
    {
      by: "compress --target latency",
      ...(found.graph && { graph: found.graph, claimed: found.gain! }),
      made: chosen ? chosen.plan.name : "nothing is faster within the budget",
    },
    {
      by: "quantize --target ms=70%",
      ...(mixed.graph && { graph: mixed.graph, claimed: mixed.chosen!.gain! }),
      made: mixed.chosen ? formatsIn(mixed.chosen.formats) : "nothing is faster within the budget",
    },
  ];
}

function formatsIn(formats: readonly string[]): string {
  const names = [...new Set(formats)].toSorted();
  return names.map((name) => `${formats.filter((format) => format === name).length} ${name}`).join(", ");
}

async function firstOf(dataset: Dataset): Promise<Tensors> {
  for await (const { inputs } of dataset.batches({ batch: 1, limit: 1 })) return inputs;
  throw new Error(`${dataset.name} is empty`);
}

async function against(original: Graph, changed: Graph, feeds: Tensors, spent: number): Promise<ModelLatency> {
  const models = [
    { name: "original", graph: original },
    { name: "changed", graph: changed },
  ];
  return (await measureLatency(models, onnx, feeds, { seconds: spent, seed: seed + 1 })).models[1]!;
}

const gainOf = ({ ratio, ratioInterval }: ModelLatency): Pick<Gain, "latency" | "latencyInterval"> => ({
  latency: ratio!,
  latencyInterval: ratioInterval!,
});

/** What is handed out as faster, timed anew. */
async function claims(name: string): Promise<string[][]> {
  const { graph, dataset } = await openZoo(zoo.find((model) => model.name === name)!, data, onnx);
  const parts = await splitData(dataset, { seed, calibration: 128, limit: 400 });
  const rows: string[][] = [];
  for (const { by, graph: made, claimed, made: what } of await search(graph, parts)) {
    const again = made && (await against(graph, made, await firstOf(parts.confirmation), seconds));
    rows.push([name, by, what, claimed ? times(claimed.latency) : "-", again ? speedup(again) : "-"]);
    console.log(rows.at(-1)!.join("  "));
    if (again && again.ratioInterval![1] >= 1)
      short.push(`${name}, ${by}: handed out as faster, but ${speedup(again)}`);
  }
  return rows;
}

mkdirSync(work, { recursive: true });
const short: string[] = [];
const wanted = process.argv.slice(2);
const isWanted = (name: string): boolean => wanted.length === 0 || wanted.includes(name);
const rows: string[][] = [];
for (const network of networks.filter(({ name }) => isWanted(name))) rows.push(...(await rowsOf(network)));
const handed: string[][] = [];
for (const name of asked.filter(isWanted)) handed.push(...(await claims(name)));
const header = ["network", "batch", "threads", "float", "the faster one is", "pare int8", "times as fast"];
const body = `Medians, and how many times as fast as float, with 95 % intervals, in runs that take turns; float is the faster one of the
model as it is and simplified. pare quantizes with its defaults, the Python tool with a scale a channel, preprocessing and
min-max. resnet50 and the wide resnet20 have random weights.

${table([...header, "Python tool int8", "times as fast"], rows)}

What pare hands out as faster with a loss of at most ${100 * maxDrop} points, and what timing it once more says (all threads, one sample):

${table(["network", "by", "what came of it", "said", "timed anew"], handed)}`;
if (wanted.length === 0) {
  const command = "PARE_DATA=FOLDER PARE_PYTHON=python npx tsx bench/int8-latency.ts";
  record("int8-latency", "How much faster 8 bits are", command, body);
} else console.log(body);
for (const line of short) console.error(line);
if (short.length > 0) process.exitCode = 1;
