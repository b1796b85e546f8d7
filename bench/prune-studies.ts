/**
 * Networks pruned and retrained with the command line, judged once on data that nothing was chosen by.
 * `npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/prune-studies.ts [STUDY...]`
 *
 * PARE_WORK keeps checkpoints, logs and networks: a study that was stopped goes on where it was, and one that is done is
 * not run again. The LeNets come from bench/studies.ts, with the same PARE_WORK. PARE_THREADS spares cores.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as plot from "@observablehq/plot";
import { measureLatency } from "../src/analysis/latency.ts";
import { withPreprocess } from "../src/data/preprocess.ts";
import { syntheticFeeds } from "../src/data/synthetic.ts";
import { load, runtime, save } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import type { Report } from "../src/report/report.ts";
import { toFloat32 } from "../src/tensor/tensor.ts";
import { record, table } from "./document.ts";
import { draw, epochsOf, folder, minutesOf, missing, pare } from "./study.ts";
import { zoo } from "./zoo.ts";

const data = folder("PARE_DATA");
const work = folder("PARE_WORK");
const seed = 1;

/** One network, made smaller step by step or at several strengths. */
interface Study {
  readonly title: string;
  readonly data: string;
  /** The network before: a file that is there, or made here. */
  base(): Promise<string>;
  /** The network to compare to, where that is another. */
  dense?(): Promise<string>;
  /** Commands by name, each of the base. */
  readonly points: Readonly<Record<string, Point>>;
  /** What the reader has to know besides. */
  readonly note?: string;
}

interface Point {
  /** Technique and flags. */
  readonly command: string;
  /** A command before it, without training; the network before both is the teacher then. */
  readonly first?: string;
  /** What has to be reached, in words, and whether it is. */
  readonly bar?: string;
  readonly reached?: (result: Result) => boolean;
}

interface Result {
  readonly before: number;
  readonly after: number;
  /** 95 % interval of the difference, paired. */
  readonly interval: readonly [number, number];
  /** Weights that are not zero, of matrices and kernels, before and after. */
  readonly weights: readonly [number, number];
  readonly macs: readonly [number, number];
  readonly gzip: readonly [number, number];
  readonly minutes: number;
  /** Milliseconds before / after, by batch size, where channels were cut, in interleaved runs. */
  readonly speed?: Readonly<Record<number, number>>;
}

/** Nothing is held out: every sample trains, the last epoch counts. */
const all = "--hold-out 0";
const digits = "--rotate 10 --shift 0.08 --zoom 0.1";
const lenet = `--min-elements 0 --ends prune --density global --pruning-schedule polynomial --batch 128 --optimizer adamw --rate 0.001 --average 0.998 ${digits} ${all}`;
const images = "--random-flip --random-crop 4";
const gradual = `--density global --pruning-schedule polynomial --batch 128 --optimizer sgd --rate 0.02 --decay 1e-4 ${images} ${all}`;
/**
 * Whole blocks first, then channels for which the kernels gain time: of 16 channels blocked kernels save nothing by fewer.
 * The rate was chosen by half an epoch on samples held out.
 */
const narrower = (ratio: number, epochs: number): string =>
  `prune-channels --ratio ${ratio} --allocation latency --importance taylor --epochs ${epochs} --batch 128 --optimizer sgd --rate 0.01 --decay 5e-4 --schedule one-cycle ${images}`;
const [shortly, long] = [7, 100];
const fraction = (times: number): string => (1 - 1 / times).toFixed(4);

/** Han et al. (2015): 12 times fewer weights; then the curve out to 100 times. */
function lenetPoints(epochs: number, bar: number, first: string): Readonly<Record<string, Point>> {
  const points = [12, 20, 30, 50, 100].map((times): [string, Point] => [
    `${times}x`,
    {
      command: `prune-weights --sparsity ${fraction(times)} --epochs ${epochs} ${lenet}`,
      ...(times === 12 && { bar: first, reached: ({ after }: Result) => 1 - after <= bar }),
    },
  ]);
  return Object.fromEntries(points);
}

const trainedHere = (name: string) => async () => {
  const path = join(work, name, "model.onnx");
  return existsSync(path) ? path : missing(`${path}, made by bench/studies.ts ${name},`);
};

/** As Frankle and Carbin (2019) train: Adam at 0.0012, batches of 60; here for 20 epochs. */
const ticket = `--epochs 20 --batch 60 --optimizer adam --rate 0.0012 --decay 0 --schedule constant --warmup 0 ${all}`;

async function untrained(): Promise<string> {
  const path = join(work, "pruned", "lottery", "initial.onnx");
  mkdirSync(join(work, "pruned", "lottery"), { recursive: true });
  if (!existsSync(path)) {
    pare(["train", "--arch", "lenet-300-100", "--epochs", "0", "--data", `${data}/mnist#train`, "-o", path]);
  }
  return path;
}

/** A public checkpoint with its preprocessing in the file. */
const published = (name: string) => async () => {
  const path = join(work, "pruned", `${name}.onnx`);
  if (existsSync(path)) return path;
  const model = zoo.find((each) => each.name === name)!;
  const graph = await load(join(data, model.path));
  mkdirSync(join(work, "pruned"), { recursive: true });
  await save({ ...graph, metadata: withPreprocess(graph.metadata, model.preprocess!) }, path);
  return path;
};

const studies: Readonly<Record<string, Study>> = {
  "lenet-300-100": {
    title: "LeNet-300-100, MNIST",
    data: `${data}/mnist`,
    base: trainedHere("lenet-300-100"),
    points: lenetPoints(30, 0.0159, "1.59 % error"),
  },
  "lenet-5": {
    title: "LeNet-5, MNIST",
    data: `${data}/mnist`,
    base: trainedHere("lenet-5"),
    points: lenetPoints(12, 0.0077, "0.77 % error"),
  },
  lottery: {
    title: "LeNet-300-100, MNIST: a lottery ticket",
    data: `${data}/mnist`,
    base: untrained,
    dense: async () => {
      const path = join(work, "pruned", "lottery", "dense.onnx");
      if (!existsSync(path)) {
        const flags = `${ticket} --data ${data}/mnist#train -o ${path} --work ${path}.work --seed ${seed}`;
        pare(["finetune", await untrained(), ...flags.split(" ")]);
      }
      return path;
    },
    points: {
      "28x, weights rewound": {
        command: `prune-weights --rewind 0 --rounds 15 --sparsity 0.9648 --layer-sparsity fc3*=0.794 --ends prune --no-distill ${ticket}`,
        bar: "level with dense",
        reached: ({ interval: [, high] }) => high >= 0,
      },
    },
  },
  resnet20: {
    title: "ResNet-20, CIFAR-10",
    data: `${data}/cifar-10`,
    base: published("resnet20"),
    points: {
      "69 %": {
        command: `prune-weights --sparsity 0.69 --epochs 10 ${gradual}`,
        bar: "at most 0.35 points lost",
        reached: ({ before, after }) => before - after <= 0.0035,
      },
      "80 %": {
        command: `prune-weights --sparsity 0.8 --epochs 10 ${gradual}`,
        bar: "goal: at most 0.35 points lost",
        reached: ({ before, after }) => before - after <= 0.0035,
      },
    },
  },
  resnet56: {
    title: "ResNet-56, CIFAR-10",
    data: `${data}/cifar-10`,
    base: published("resnet56"),
    points: {
      "2.1x fewer MACs": {
        first: "prune-layers --count 10",
        command: narrower(0.24, shortly),
        bar: "nothing lost; 1.7x faster at batch 1 and 64",
        reached: ({ before, after, speed }) => after >= before && fasterBy(speed, 1.7),
      },
      "2.5x fewer MACs": {
        first: "prune-layers --count 13",
        command: narrower(0.217, shortly),
        bar: "at most 0.2 points lost; 2.0x faster",
        reached: ({ before, after, speed }) => before - after <= 0.002 && fasterBy(speed, 2),
      },
    },
    note: `A short run, of seven epochs. The bars are meant for long ones: \`--epochs ${long}\` in its place.`,
  },
};

const fasterBy = (speed: Result["speed"], times: number): boolean =>
  speed !== undefined && Object.values(speed).every((each) => each >= times);

/** Weights of matrices and kernels that are not zero. */
async function countWeights(path: string): Promise<number> {
  let count = 0;
  for (const weight of (await load(path)).weights.values()) {
    if (weight.dtype !== "float32" || weight.shape.length < 2) continue;
    for (const value of toFloat32(weight)) count += Number(value !== 0);
  }
  return count;
}

function placeOf(name: string, label: string): string {
  return join(work, "pruned", name, label.replaceAll(/\W+/g, "-"));
}

const resultOf = (name: string, label: string): string => join(placeOf(name, label), "result.json");

async function measure(
  name: string,
  { data: path, base, dense = base }: Study,
  label: string,
  { command, first }: Point,
): Promise<Result> {
  const place = placeOf(name, label);
  const done = resultOf(name, label);
  if (existsSync(done)) return JSON.parse(readFileSync(done, "utf8")) as Result;
  mkdirSync(place, { recursive: true });
  const [model, log, before] = [join(place, "model.onnx"), join(place, "log.jsonl"), await base()];
  const apply = (step: string, from: string, to: string, more: readonly string[]): void => {
    const [technique, ...flags] = step.split(" ");
    if (!existsSync(to))
      pare([technique!, from, ...flags, "--data", `${path}#train`, "-o", to, "--seed", `${seed}`, ...more]);
  };
  const start = first ? join(place, "first.onnx") : before;
  if (first) apply(first, before, start, []);
  const teacher = first ? ["--teacher", before] : [];
  apply(command, start, model, ["--work", join(place, "checkpoints"), "--log", log, ...teacher]);
  const reference = await dense();
  const args = ["compare", reference, model, "--data", `${path}#test`, "--metric", "top-1", "--seconds", "0", "--json"];
  const { models, comparisons } = JSON.parse(pare(args)) as Report;
  const score = comparisons[0]!.scores[0]!;
  const result: Result = {
    before: score.before,
    after: score.after,
    interval: score.interval!,
    weights: [await countWeights(reference), await countWeights(model)],
    macs: [models[0]!.macs, models[1]!.macs],
    gzip: [models[0]!.gzip!, models[1]!.gzip!],
    minutes: minutesOf(log),
    ...(command.startsWith("prune-channels") && { speed: await speeds(reference, model) }),
  };
  writeFileSync(done, JSON.stringify(result));
  return result;
}

/** How many times faster one network is than another at batches of 1, on one core, where that is faster, and of 64, on all. */
async function speeds(before: string, after: string): Promise<Readonly<Record<number, number>>> {
  const onnx = await runtime();
  const models = [
    { name: "before", graph: await load(before) },
    { name: "after", graph: await load(after) },
  ];
  const found: Record<number, number> = {};
  for (const batch of [1, 64]) {
    const feeds = syntheticFeeds(models[0]!.graph, random(seed), { batch });
    const { models: timed } = await measureLatency(models, onnx, feeds, {
      ...{ seconds: 10, seed },
      ...(batch === 1 && { threads: 1 }),
    });
    found[batch] = 1 / timed[1]!.ratio!;
  }
  return found;
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
const points = (share: number): string => `${share >= 0 ? "+" : "-"}${Math.abs(100 * share).toFixed(2)}`;
const times = ([before, after]: readonly [number, number]): string => `${(before / after).toFixed(1)}x`;

function row(label: string, { bar = "", reached }: Point, result: Result): string[] {
  const { before, after, interval, weights, macs, gzip, minutes, speed = {} } = result;
  return [
    label,
    percent(before),
    percent(after),
    `${points(after - before)} (${points(interval[0])} .. ${points(interval[1])})`,
    times(weights),
    times(macs),
    times(gzip),
    Object.values(speed)
      .map((each) => `${each.toFixed(2)}x`)
      .join(", ") || "-",
    bar,
    reached ? (reached(result) ? "yes" : "**no**") : "",
    `${minutes.toFixed(0)} min`,
  ];
}

/** Accuracy on what was held out, over the epochs after the cut, of a study whose log has it. */
function course(name: string, { title }: Study, labels: readonly string[]): string[] {
  const epochs = labels.flatMap((label) =>
    epochsOf(join(placeOf(name, label), "log.jsonl")).flatMap(({ epoch, score }) =>
      score === undefined ? [] : [{ epoch, accuracy: 100 * score, label }],
    ),
  );
  if (epochs.length === 0) return [];
  const chart: plot.PlotOptions = {
    width: 480,
    color: { legend: false },
    marginRight: 110,
    x: { label: "epoch", labelArrow: "none", tickFormat: "d" },
    y: { label: `${title}: accuracy held out, %`, labelArrow: "none", grid: true, zero: false },
    marks: [
      plot.line(epochs, { x: "epoch", y: "accuracy", stroke: "label", strokeWidth: 2 }),
      plot.text(
        epochs,
        plot.selectLast({ x: "epoch", y: "accuracy", z: "label", text: "label", textAnchor: "start", dx: 6 }),
      ),
    ],
  };
  return [draw(`pruned-${name}.svg`, `${title}: accuracy on held-out samples over the epochs`, [chart])];
}

/** Accuracy against how many times fewer weights there are, of a study with several strengths. */
function errors(name: string, title: string, results: readonly Result[]): string {
  const marks = results.map(({ weights, after }) => ({ times: weights[0] / weights[1], error: 100 * (1 - after) }));
  const chart: plot.PlotOptions = {
    width: 480,
    x: { type: "log", label: "times fewer weights", labelArrow: "none", tickFormat: "d", ticks: 5 },
    y: { label: `${title}: error on test, %`, labelArrow: "none", grid: true, zero: true },
    marks: [
      plot.ruleY([100 * (1 - results[0]!.before)], { stroke: "#999", strokeDasharray: "4 3" }),
      plot.line(marks, { x: "times", y: "error", stroke: "#2f6fb0", strokeWidth: 2 }),
      plot.dot(marks, { x: "times", y: "error", fill: "#2f6fb0" }),
    ],
  };
  const alt = `${title}: error against how many times fewer weights there are; dashed: dense`;
  return draw(`pruned-${name}.svg`, alt, [chart]);
}

const wanted = process.argv.slice(2);
for (const name of wanted.length > 0 ? wanted : Object.keys(studies)) {
  const study = studies[name] ?? missing(name);
  for (const [label, point] of Object.entries(study.points)) {
    const result = await measure(name, study, label, point);
    console.log(`${study.title}: ${row(label, point, result).join(" | ")}`);
  }
}

const header = [
  "cut",
  "before",
  "after",
  "points (95 %)",
  "weights",
  "MACs",
  "gzip",
  "faster at batch 1, 64",
  "bar",
  "reached",
  "training",
];
const sections: string[] = [];
const open: string[] = [];
for (const [name, study] of Object.entries(studies)) {
  const done = Object.entries(study.points).filter(([label]) => existsSync(resultOf(name, label)));
  if (done.length < Object.keys(study.points).length) open.push(name);
  if (done.length === 0) continue;
  const results = await Promise.all(done.map(([label, point]) => measure(name, study, label, point)));
  const rows = results.map((result, i) => row(done[i]![0], done[i]![1], result));
  const commands = done.map(([label, { first, command }]) => {
    const said = (step: string): string => `\`pare ${step} --seed ${seed}\``;
    return `- ${label}: ${first ? `${said(first)}, then ${said(`${command} --teacher BEFORE`)}` : said(command)}`;
  });
  const picture =
    results.length > 2
      ? [errors(name, study.title, results)]
      : course(
          name,
          study,
          done.map(([label]) => label),
        );
  const note = study.note === undefined ? [] : [study.note];
  sections.push([`### ${study.title}`, table(header, rows), ...note, commands.join("\n"), ...picture].join("\n\n"));
}
const body = `Trained and chosen on the training split alone, a tenth of it held out where the command does not say otherwise; judged once
on the test split. Weights counted are those of matrices and kernels. Times are of interleaved runs, of one sample on one core
and of 64 on both, those of training beside other work.
${open.length > 0 ? `\nNot finished yet: ${open.join(", ")}.\n` : ""}
${sections.join("\n\n")}`;
record(
  "prune-studies",
  "Pruning and retraining",
  "npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/prune-studies.ts",
  body,
);
