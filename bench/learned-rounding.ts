/**
 * What learned rounding recovers of what few bits lose: `PARE_DATA=FOLDER npx tsx bench/learned-rounding.ts [MODEL...]`
 *
 * Weights of 4 bits and activations of 8, the first and the last layer at 8, scales by least squares, biases corrected and
 * channels equalized where that helps; all layers on integers. Samples that calibrate and learn are unlabelled and never
 * judged on. PARE_WORK names a folder that keeps finished rows.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { evaluate } from "../src/analysis/evaluate.ts";
import type { Dataset } from "../src/data/dataset.ts";
import type { Graph } from "../src/graph/graph.ts";
import { metricOf } from "../src/metrics/index.ts";
import { runtime } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { quantizeStatic } from "../src/techniques/index.ts";
import { record, table } from "./document.ts";
import { unlabelled } from "./zoo/samples.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const seed = 1;
const samples = 256;
const judged = 2000;
/** What has to be reached: a share of the lost agreement for networks of ImageNet, points of top-1 for the others. */
const bars: Readonly<Record<string, { readonly share?: number; readonly points?: number }>> = {
  "squeezenet1.1": { share: 2 / 3 },
  "mobilenet-v1-0.25": { share: 2 / 3 },
  resnet8: { points: 1 },
  "kws-dscnn": { points: 1 },
};
const common = {
  weightBits: 4,
  activationBits: 8,
  samples,
  roundingSamples: samples,
  target: "size",
  protect: false,
} as const;
const ways = ["nearest", "adaround", "block"] as const;

interface Row {
  readonly model: string;
  readonly way: string;
  readonly agreement: number;
  readonly top1: number;
  readonly sqnr: number;
}

const data = dataFolder();
const onnx = await runtime(process.env.PARE_THREADS ? { threads: Number(process.env.PARE_THREADS) } : {});

function quantized(graph: Graph, dataset: Dataset, rounding: (typeof ways)[number]): Promise<Graph> {
  return quantizeStatic({ ...common, rounding }).apply(graph, {
    runtime: onnx,
    data: unlabelled(dataset),
    random: random(seed),
    log: (line) => console.error(`  ${line}`),
    progress: () => {},
    skip: () => {},
    show: () => {},
    signal: new AbortController().signal,
  });
}

async function judge(model: string, way: string, graph: Graph, changed: Graph, dataset: Dataset): Promise<Row> {
  const metrics = [metricOf("agreement"), metricOf("top-1"), metricOf("sqnr")];
  const models = [
    { name: "float", graph },
    { name: way, graph: changed },
  ];
  const { models: found } = await evaluate(models, dataset, onnx, {
    metrics,
    split: "test",
    limit: judged,
    quick: true,
    seed,
  });
  const [agreement, top1, sqnr] = found[1]!.scores.map(({ value }) => value);
  return { model, way, agreement: agreement!, top1: top1!, sqnr: sqnr! };
}

const work = process.env.PARE_WORK;
const file = work === undefined ? undefined : join(work, "learned-rounding.json");
if (work !== undefined) mkdirSync(work, { recursive: true });
const rows: Row[] = file && existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Row[]) : [];
const wanted = process.argv.slice(2);
const counts: string[] = [];
for (const name of Object.keys(bars).filter((one) => wanted.length === 0 || wanted.includes(one))) {
  const { graph, dataset } = await openZoo(zoo.find((model) => model.name === name)!, data, onnx);
  counts.push(`${name} ${Math.min(judged, dataset.size("test")!)}`);
  for (const way of ["float", ...ways] as const) {
    if (rows.some((row) => row.model === name && row.way === way)) continue;
    console.error(`${name}, ${way}`);
    const changed = way === "float" ? graph : await quantized(graph, dataset, way);
    rows.push(await judge(name, way, graph, changed, dataset));
    console.error(JSON.stringify(rows.at(-1)));
    if (file) writeFileSync(file, JSON.stringify(rows));
  }
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const rowOf = (model: string, way: string): Row => rows.find((row) => row.model === model && row.way === way)!;
const cells = rows.map((row) => {
  const lost = 1 - rowOf(row.model, "nearest").agreement;
  const back =
    row.way === "nearest" || row.way === "float" || lost === 0 ? "-" : percent(1 - (1 - row.agreement) / lost);
  return [
    row.model,
    row.way,
    percent(row.agreement),
    back,
    percent(row.top1),
    row.way === "float" ? "-" : `${row.sqnr.toFixed(1)} dB`,
  ];
});
const header = ["model", "rounding", "agreement", "of the loss recovered", "top-1", "SQNR"];
const body = `Weights of 4 bits, activations of 8, 8 bits for both ends, every layer on integers. ${samples} unlabelled samples calibrate and are learned from (fewer where there are fewer); judged on others: ${counts.join(", ")}. Agreement: share of these whose first class is the float model's.\n\n${table(header, cells)}`;
if (wanted.length === 0) {
  record("learned-rounding", "Learned rounding", "PARE_DATA=FOLDER npx tsx bench/learned-rounding.ts", body);
} else console.log(body);

for (const { model, way, agreement, top1 } of rows.filter((row) => row.way === "adaround" || row.way === "block")) {
  const { share, points } = bars[model]!;
  const lost = 1 - rowOf(model, "nearest").agreement;
  const short =
    (share !== undefined && 1 - agreement > (1 - share) * lost) ||
    (points !== undefined && 100 * (rowOf(model, "float").top1 - top1) > points);
  if (!short) continue;
  console.error(`${model}, ${way}: ${percent(agreement)} agreement, top-1 ${percent(top1)}, short of its bar`);
  process.exitCode = 1;
}
