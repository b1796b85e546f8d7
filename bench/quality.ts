/**
 * 8-bit quantization beside onnxruntime.quantization: both calibrate on the same samples, both are judged on the same
 * others, the Python tool at the best of its documented settings (the best on the test samples, which favours it).
 * `PARE_DATA=FOLDER PARE_PYTHON=python npx tsx bench/quality.ts [MODEL...]`; PARE_WORK names a folder that keeps files and finished rows.
 */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { evaluate, type NamedModel } from "../src/analysis/evaluate.ts";
import type { Dataset } from "../src/data/dataset.ts";
import { messageOf } from "../src/errors.ts";
import type { Graph } from "../src/graph/graph.ts";
import { load, runtime, save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { techniques } from "../src/techniques/index.ts";
import { record, table } from "./document.ts";
import { quantizeByPeer } from "./peers.ts";
import { dataFolder, exportFeeds, openZoo, type ZooModel, zoo } from "./zoo.ts";

type Method = "static" | "dynamic";

/** Calibration samples, for both sides. */
const samples = 64;
const seed = 1;
const data = dataFolder();
const python = process.env.PARE_PYTHON ?? "python3";
const work = resolve(process.env.PARE_WORK ?? join(tmpdir(), "pare-quality"));
const onnx = await runtime(process.env.PARE_THREADS ? { threads: Number(process.env.PARE_THREADS) } : {});

/** The Python tool's settings: what its documentation advises, with every calibration method that works. */
function peerSettings(method: Method): Record<string, object> {
  if (method === "dynamic") {
    return {
      "per tensor": { weight_type: "QInt8", per_channel: false },
      "per channel": { weight_type: "QInt8", per_channel: true },
      "MatMul only": { weight_type: "QInt8", per_channel: true, op_types_to_quantize: ["MatMul", "Gemm", "LSTM"] },
    };
  }
  const common = { activation_type: "QUInt8", weight_type: "QInt8", quant_format: "QDQ", per_channel: true };
  const percentile = (p: number): object => ({
    ...common,
    calibrate_method: "Percentile",
    extra_options: { CalibPercentile: p, QDQDisableWeightAdjustForInt32Bias: true },
  });
  const extra_options = { QDQDisableWeightAdjustForInt32Bias: true };
  const narrow = { op_types_to_quantize: ["Conv", "MatMul", "Gemm"] };
  return {
    "min-max": { ...common, calibrate_method: "MinMax" },
    "min-max, biases as they are": { ...common, calibrate_method: "MinMax", extra_options },
    "percentile 99.999": percentile(99.999),
    "percentile 99.99": percentile(99.99),
    "percentile 99.9": percentile(99.9),
    entropy: { ...common, calibrate_method: "Entropy", extra_options },
    "min-max, Conv MatMul Gemm": { ...common, calibrate_method: "MinMax", extra_options, ...narrow },
    "per tensor": { ...common, per_channel: false, calibrate_method: "MinMax" },
  };
}

function peerFile(model: ZooModel, method: Method, name: string, options: object, calibration: string): string {
  const output = join(work, `${model.name}-${method}-${name.replaceAll(/\W+/g, "-")}.onnx`);
  if (existsSync(output)) return output;
  quantizeByPeer(
    python,
    { model: join(data, model.path), output, method, options, calibration, preprocess: true },
    work,
  );
  return output;
}

async function ours(graph: Graph, dataset: Dataset, method: Method): Promise<Graph> {
  const technique = techniques[`quantize-${method}`]!;
  const limited: Dataset = {
    ...dataset,
    splits: ["calibration"],
    size: () => Math.min(samples, dataset.size("calibration") ?? samples),
    // in stored order, as the Python tool is fed: a seed would choose others
    batches: ({ seed: _, ...options }) =>
      dataset.batches({
        ...options,
        split: "calibration",
        limit: Math.min(options.limit ?? samples, samples - (options.skip ?? 0)),
      }),
  };
  return technique(method === "static" ? { samples } : {}).apply(graph, {
    runtime: onnx,
    data: limited,
    random: random(seed),
    log: () => {},
    progress: () => {},
    skip: () => {},
    show: () => {},
    signal: new AbortController().signal,
  });
}

interface Row {
  readonly model: string;
  readonly method: Method;
  readonly samples: number;
  readonly cells: readonly string[];
  readonly verdict: string;
}

async function judge(
  model: ZooModel,
  method: Method,
  graph: Graph,
  dataset: Dataset,
  calibration: string,
): Promise<Row> {
  const own = join(work, `${model.name}-${method}-pare.onnx`);
  await save(await ours(graph, dataset, method), own);
  const entries: (NamedModel & { path: string })[] = [{ name: "pare", graph: await load(own), path: own }];
  const failures: string[] = [];
  for (const [name, options] of Object.entries(peerSettings(method))) {
    try {
      const path = peerFile(model, method, name, options, calibration);
      const peer = await load(path);
      await (await onnx.open(peer)).release();
      entries.push({ name, graph: peer, path });
    } catch (error) {
      failures.push(`${name}: ${messageOf(error).slice(0, 100)}`);
    }
  }
  const result = await evaluate([{ name: "float", graph }, ...entries], dataset, onnx, {
    metrics: model.metrics,
    split: "test",
    quick: true,
    seed,
  });
  const score = (name: string, metric: string): number =>
    result.models.find((m) => m.name === name)?.scores.find((s) => s.metric === metric)?.value ?? Number.NaN;
  const noise = (name: string): number => result.models.find((m) => m.name === name)!.outputs[0]!.sqnr;
  const [lead] = model.metrics;
  const sign = lead!.better === "higher" ? 1 : -1;
  const peers = entries.slice(1).map(({ name }) => name);
  const best = peers.toSorted((a, b) => sign * (score(b, lead!.name) - score(a, lead!.name)) || noise(b) - noise(a))[0];
  const cells = (name: string | undefined): string[] => {
    if (name === undefined) return ["none works", "-", "-"];
    const found = entries.find((entry) => entry.name === name);
    return [
      format(score(name, lead!.name), lead!.unit),
      `${noise(name).toFixed(1)} dB`,
      found ? kilobytes(found.path) : "",
    ];
  };
  for (const failure of failures) console.error(`${model.name} ${method}: ${failure}`);
  for (const name of peers) console.error(`${model.name} ${method}: ${name}: ${cells(name).join(", ")}`);
  const float = lead!.needs === "reference" ? "-" : format(score("float", lead!.name), lead!.unit);
  const pair = best === undefined ? undefined : await paired(model, entries, best, dataset);
  return {
    model: model.name,
    method,
    samples: result.samples,
    cells: [lead!.name, float, ...cells("pare"), ...cells(best), best ?? "-", pair?.interval ?? "-"],
    verdict: pair?.verdict ?? "better",
  };
}

/** pare against the Python tool's best on the same samples: level where the interval of the difference holds 0. */
async function paired(
  model: ZooModel,
  entries: readonly NamedModel[],
  best: string,
  dataset: Dataset,
): Promise<{ interval: string; verdict: string }> {
  const [lead] = model.metrics;
  const models = [entries.find(({ name }) => name === best)!, entries[0]!];
  if (lead!.needs === "reference") models.unshift({ name: "float", graph: await load(join(data, model.path)) });
  const result = await evaluate(models, dataset, onnx, { metrics: [lead!], split: "test", seed });
  const sign = lead!.better === "higher" ? 1 : -1;
  if (lead!.needs === "reference") {
    const [theirs, own] = result.models.slice(1).map(({ scores }) => scores[0]!);
    const apart =
      own!.interval &&
      theirs!.interval &&
      (own!.interval[0] > theirs!.interval[1] || theirs!.interval[0] > own!.interval[1]);
    const ahead = sign * (own!.value - theirs!.value) > 0;
    return { interval: "", verdict: !apart ? "level" : ahead ? "better" : "below" };
  }
  const change = result.models[1]!.changes[0]!;
  const [low, high] = change.interval ?? [change.difference, change.difference];
  const interval = `${format(low, lead!.unit)} to ${format(high, lead!.unit)}`;
  const verdict = low <= 0 && high >= 0 ? "level" : sign * change.difference > 0 ? "better" : "below";
  return { interval, verdict };
}

function format(value: number, unit?: string): string {
  if (unit === "%") return `${(100 * value).toFixed(2)} %`;
  return `${value.toPrecision(4)}${unit ? ` ${unit}` : ""}`;
}

function kilobytes(path: string): string {
  return `${(statSync(path).size / 1000).toFixed(0)} kB`;
}

mkdirSync(work, { recursive: true });
const wanted = process.argv.slice(2);
const resultFile = join(work, "rows.json");
const rows: Row[] = existsSync(resultFile) ? (JSON.parse(readFileSync(resultFile, "utf8")) as Row[]) : [];
for (const model of zoo.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const { graph, dataset } = await openZoo(model, data, onnx);
  const calibration = join(work, `${model.name}.npz`);
  if (!existsSync(calibration)) writeFileSync(calibration, await exportFeeds(dataset, "calibration", samples));
  for (const method of ["static", "dynamic"] as const) {
    const known = rows.some((row) => row.model === model.name && row.method === method);
    if (known && wanted.length === 0) continue;
    const started = performance.now();
    const row = await judge(model, method, graph, dataset, calibration);
    const at = rows.findIndex((other) => other.model === row.model && other.method === row.method);
    if (at >= 0) rows[at] = row;
    else rows.push(row);
    writeFileSync(resultFile, JSON.stringify(rows));
    console.log(
      [row.model, row.method, ...row.cells, row.verdict, `${((performance.now() - started) / 1000).toFixed(0)} s`].join(
        "  ",
      ),
    );
  }
}
const missing = zoo.flatMap(({ name }) =>
  (["static", "dynamic"] as const)
    .filter((method) => !rows.some((row) => row.model === name && row.method === method))
    .map((method) => `${name} ${method}`),
);
const header = [
  "model",
  "method",
  "test samples",
  "metric",
  "float",
  "pare",
  "SQNR",
  "size",
  "Python tool, best",
  "SQNR",
  "size",
  "its setting",
  "pare less the Python tool",
  "pare is",
];
record(
  "quality",
  "8-bit quantization against onnxruntime.quantization 1.30",
  "PARE_DATA=FOLDER PARE_PYTHON=python npx tsx bench/quality.ts",
  [
    `Both sides calibrate on the same ${samples} samples and are judged on others (seed ${seed}); pare with its defaults, the Python tool with`,
    "preprocessing at the best of its settings, chosen on the test samples. SQNR is that of the first output against the float model's.",
    "",
    ...(missing.length > 0 ? [`Not measured yet: ${missing.join(", ")}.`, ""] : []),
    table(
      header,
      rows.map((row) => [row.model, row.method, row.samples, ...row.cells, row.verdict]),
    ),
  ].join("\n"),
);
