/**
 * ResNet-20 on CIFAR-10 in fewer and fewer bits, from a public checkpoint, with the command line; judged once on test images
 * that nothing was chosen by.
 * `npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/qat-studies.ts [POINT...]`
 *
 * PARE_WORK keeps checkpoints, logs and networks: a point that was stopped goes on where it was, and one that is done is not
 * run again. Every point that is done is recorded, with its curve in docs/images. PARE_THREADS spares cores.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as plot from "@observablehq/plot";
import { withPreprocess } from "../src/data/preprocess.ts";
import { load, save } from "../src/platform/node.ts";
import type { Report } from "../src/report/report.ts";
import { record, table } from "./document.ts";
import { draw, epochsOf, folder, minutesOf, missing, pare } from "./study.ts";
import { zoo } from "./zoo.ts";

const data = folder("PARE_DATA");
const work = join(folder("PARE_WORK"), "qat");
const seed = 1;

interface Point {
  /** Technique and flags. */
  readonly command: string;
  /** Points of accuracy that may be lost. */
  readonly bar: number;
}

interface Result {
  readonly before: number;
  readonly after: number;
  /** 95 % interval of the difference, paired. */
  readonly interval: readonly [number, number];
  readonly bytes: readonly [number, number];
  readonly gzip: readonly [number, number];
  /** Of training. */
  readonly minutes: number;
}

const images = "--batch 64 --random-flip --random-crop 4";
const trained = (bits: string, epochs: number, rate: number): string =>
  `quantize-aware-train ${bits} --epochs ${epochs} --optimizer adamw --rate ${rate} ${images}`;

const points: Readonly<Record<string, Point>> = {
  int8: { command: "quantize-static", bar: 0.1 },
  W4A4: { command: trained("--weight-bits 4 --activation-bits 4", 8, 0.001), bar: 0.5 },
  W3A3: { command: trained("--weight-bits 3 --activation-bits 3", 10, 0.001), bar: 0.5 },
  W2A2: { command: trained("--weight-bits 2 --activation-bits 2", 10, 0.002), bar: 2 },
  W1A32: { command: trained("--weight-bits binary --activation-bits 32", 10, 0.002), bar: 1.2 },
};

/** The public checkpoint with its preprocessing in the file. */
async function published(): Promise<string> {
  const path = join(work, "resnet20.onnx");
  if (existsSync(path)) return path;
  const model = zoo.find(({ name }) => name === "resnet20")!;
  const graph = await load(join(data, model.path));
  mkdirSync(work, { recursive: true });
  await save({ ...graph, metadata: withPreprocess(graph.metadata, model.preprocess!) }, path);
  return path;
}

const placeOf = (name: string, file: string): string => join(work, name, file);

async function measure(name: string, { command }: Point): Promise<Result> {
  const [model, log, done] = ["model.onnx", "log.jsonl", "result.json"].map((file) => placeOf(name, file)) as [
    string,
    string,
    string,
  ];
  if (existsSync(done)) return JSON.parse(readFileSync(done, "utf8")) as Result;
  mkdirSync(join(work, name), { recursive: true });
  const before = await published();
  const [technique, ...flags] = command.split(" ");
  const trains = technique === "quantize-aware-train";
  if (!existsSync(model)) {
    const places = ["--data", `${data}/cifar-10#train`, "-o", model, "--seed", `${seed}`];
    const kept = trains ? ["--work", placeOf(name, "checkpoints"), "--log", log] : [];
    pare([technique!, before, ...flags, ...places, ...kept]);
  }
  const judged = ["--data", `${data}/cifar-10#test`, "--metric", "top-1", "--seconds", "0", "--json"];
  const { models, comparisons } = JSON.parse(pare(["compare", before, model, ...judged])) as Report;
  const score = comparisons[0]!.scores[0]!;
  const result: Result = {
    before: score.before,
    after: score.after,
    interval: score.interval!,
    bytes: [models[0]!.bytes, models[1]!.bytes],
    gzip: [models[0]!.gzip!, models[1]!.gzip!],
    minutes: trains ? minutesOf(log) : 0,
  };
  writeFileSync(done, JSON.stringify(result));
  return result;
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
const signed = (share: number): string => `${share >= 0 ? "+" : "-"}${Math.abs(100 * share).toFixed(2)}`;
const kilobytes = (bytes: number): string => (bytes / 1000).toFixed(0);

function row(name: string, { bar }: Point, result: Result): string[] {
  const { before, after, interval, bytes, gzip, minutes } = result;
  return [
    name,
    percent(before),
    percent(after),
    `${signed(after - before)} (${signed(interval[0])} .. ${signed(interval[1])})`,
    `at most ${bar} lost`,
    100 * (before - after) <= bar ? "yes" : "**no**",
    kilobytes(bytes[1]),
    kilobytes(gzip[1]),
    minutes > 0 ? `${minutes.toFixed(0)} min` : "-",
  ];
}

/** Accuracy on the samples held out, over the epochs, of all points that were trained. */
function curves(names: readonly string[]): string {
  const epochs = names.flatMap((name) => {
    let last = 0;
    return epochsOf(placeOf(name, "log.jsonl")).map(({ score }) => ({
      name,
      epoch: ++last,
      score: 100 * (score ?? 0),
    }));
  });
  const chart: plot.PlotOptions = {
    width: 560,
    color: { legend: false },
    marginRight: 60,
    x: { label: "epoch", labelArrow: "none" },
    y: { label: "top-1 of images held out, %", labelArrow: "none", grid: true, zero: false },
    marks: [
      plot.line(epochs, { x: "epoch", y: "score", stroke: "name", strokeWidth: 2 }),
      plot.text(
        epochs,
        plot.selectLast({ x: "epoch", y: "score", z: "name", text: "name", textAnchor: "start", dx: 6 }),
      ),
    ],
  };
  return draw("qat-resnet20.svg", "ResNet-20 in few bits: accuracy on images held out, over the epochs", [chart]);
}

const wanted = process.argv.slice(2);
for (const name of wanted.length > 0 ? wanted : Object.keys(points)) {
  const point = points[name] ?? missing(name);
  console.log(row(name, point, await measure(name, point)).join(" | "));
}

const done = Object.entries(points).filter(([name]) => existsSync(placeOf(name, "result.json")));
const open = Object.keys(points).filter((name) => !done.some(([other]) => other === name));
const rows = await Promise.all(done.map(async ([name, point]) => row(name, point, await measure(name, point))));
const header = ["bits", "before", "after", "points (95 %)", "bar", "reached", "KB", "KB, gzip", "training"];
const withCurves = done.flatMap(([name]) => (existsSync(placeOf(name, "log.jsonl")) ? [name] : []));
const body = `The public checkpoint of ResNet-20 (91.73 %). W4A4 is 4 bits of weights and 4 of activations, W1A32 weights of two levels
and activations in float; the first and the last layer have 8 bits, and so have residual sums. The float checkpoint teaches
beside the labels. Everything was set beforehand, after what is published on learned steps; a tenth of the training images is
held out and chooses the epoch. Judged once on the test images. Time is that of training on both cores, which did other work
as well.
${open.length > 0 ? `\nNot finished yet: ${open.join(", ")}.\n` : ""}
${table(header, rows)}

${done.map(([name, { command }]) => `- ${name}: \`pare ${command} --seed ${seed}\``).join("\n")}
${withCurves.length > 0 ? `\n${curves(withCurves)}` : ""}`;
record(
  "qat-studies",
  "ResNet-20 in few bits",
  "npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/qat-studies.ts",
  body,
);
