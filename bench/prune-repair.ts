/**
 * What repairs without labels or training make of channel cuts: `PARE_DATA=FOLDER npx tsx bench/prune-repair.ts [MODEL...]`
 *
 * 30 % of the MACs are cut from networks for ImageNet. Each way of choosing channels is repaired in each way from every
 * second of the sample images, without their labels; all judge on the others: how often the first class is the original's.
 */
import { evaluate } from "../src/analysis/evaluate.ts";
import type { Dataset } from "../src/data/dataset.ts";
import type { Graph } from "../src/graph/graph.ts";
import { metricOf } from "../src/metrics/index.ts";
import { runtime } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { pruneChannels } from "../src/techniques/index.ts";
import { record, table } from "./document.ts";
import { unlabelled } from "./zoo/samples.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const names = ["squeezenet1.1", "mobilenet-v1-0.25"];
const seed = 1;
/** What has to be reached: points of agreement above the same cut without repair, and seconds. */
const [points, seconds] = [2, 300];

const choices = [
  { importance: "l2", allocation: "uniform" },
  { importance: "reconstruction", allocation: "uniform" },
  { importance: "reconstruction", allocation: "efficient" },
] as const;
const repairs = ["none", "mean", "regression", "refit"] as const;

interface Row {
  readonly model: string;
  readonly choice: string;
  readonly repair: (typeof repairs)[number];
  readonly macs: string;
  readonly agreement: number;
  readonly top1: number;
  readonly seconds: number;
}

const data = dataFolder();
const onnx = await runtime(process.env.PARE_THREADS ? { threads: Number(process.env.PARE_THREADS) } : {});

async function cut(graph: Graph, dataset: Dataset, options: Parameters<typeof pruneChannels>[0]) {
  const lines: string[] = [];
  const started = performance.now();
  const made = await pruneChannels(options).apply(graph, {
    runtime: onnx,
    data: unlabelled(dataset),
    random: random(seed),
    log: (line) => lines.push(line),
    progress: () => {},
    skip: () => {},
    show: () => {},
    signal: new AbortController().signal,
  });
  const macs = /MACs .*?\(-([^)]*)\)/.exec(lines.find((line) => line.startsWith("MACs")) ?? "")?.[1] ?? "";
  return { graph: made, macs, seconds: (performance.now() - started) / 1000 };
}

const rows: Row[] = [];
const images: string[] = [];
const wanted = process.argv.slice(2);
for (const name of names.filter((one) => wanted.length === 0 || wanted.includes(one))) {
  const { graph, dataset } = await openZoo(zoo.find((model) => model.name === name)!, data, onnx);
  images.push(`${name} ${dataset.size("calibration")} and ${dataset.size("test")}`);
  for (const { importance, allocation } of choices) {
    for (const repair of repairs) {
      const made = await cut(graph, dataset, { ratio: 0.3, importance, allocation, repair });
      const metrics = [metricOf("agreement"), metricOf("top-1")];
      const models = [
        { name: "original", graph },
        { name: "cut", graph: made.graph },
      ];
      const { models: judged } = await evaluate(models, dataset, onnx, { metrics, split: "test", seed });
      const [agreement, top1] = judged[1]!.scores.map(({ value }) => value);
      const choice = `${importance}, ${allocation}`;
      rows.push({
        model: name,
        choice,
        repair,
        macs: made.macs,
        agreement: agreement!,
        top1: top1!,
        seconds: made.seconds,
      });
      console.error(JSON.stringify(rows.at(-1)));
    }
  }
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const header = ["model", "chosen by", "repair", "MACs cut", "agreement", "top-1", "seconds"];
const cells = rows.map((row) => [
  row.model,
  row.choice,
  row.repair,
  row.macs,
  percent(row.agreement),
  percent(row.top1),
  row.seconds.toFixed(0),
]);
const body = `30 % of the multiply-accumulates cut, without training. Images that repair, unlabelled, and others that judge: ${images.join("; ")}. Agreement: share of the judging images whose first class is the original's. Seconds: choosing, cutting and repairing.\n\n${table(header, cells)}`;
if (wanted.length === 0) {
  record("prune-repair", "Repair without labels", "PARE_DATA=FOLDER npx tsx bench/prune-repair.ts", body);
} else console.log(body);

for (const row of rows.filter(({ repair }) => repair === "refit")) {
  const bare = rows.find(
    (other) => other.model === row.model && other.choice === row.choice && other.repair === "none",
  )!;
  if (100 * (row.agreement - bare.agreement) >= points && row.seconds <= seconds) continue;
  console.error(
    `${row.model}, ${row.choice}: ${percent(bare.agreement)} -> ${percent(row.agreement)}, ${row.seconds} s`,
  );
  process.exitCode = 1;
}
