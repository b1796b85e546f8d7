/**
 * Networks trained from nothing with `pare train`, judged once on data that nothing was chosen by.
 * `npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/studies.ts [STUDY...]`
 *
 * PARE_WORK keeps checkpoints, logs and networks: a study that was stopped goes on where it was, and one that is done is
 * not run again. Every study that is done is recorded, with its curve in docs/images. PARE_THREADS spares cores.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as plot from "@observablehq/plot";
import { record, table } from "./document.ts";
import { draw, epochsOf, folder, minutesOf, missing, pare } from "./study.ts";

interface Study {
  readonly title: string;
  readonly data: string;
  /** Split that judges, and what is said of it. */
  readonly split: string;
  readonly metric: string;
  /** What has to be reached: an error rate or a loss, in the metric's unit. */
  readonly bar: string;
  readonly reached: (score: number) => boolean;
  readonly show: (score: number) => string;
  readonly flags: string;
}

const data = folder("PARE_DATA");
const work = folder("PARE_WORK");
const seed = 1;
const errorRate = (accuracy: number): string => `${(100 * (1 - accuracy)).toFixed(2)} % error`;
const accuracy = (share: number): string => `${(100 * share).toFixed(2)} %`;
const digits = "--rotate 10 --shift 0.08 --zoom 0.1 --optimizer adamw --rate 0.002 --decay 0.02 --average 0.998";

const studies: Readonly<Record<string, Study>> = {
  "lenet-300-100": {
    title: "LeNet-300-100, MNIST",
    data: `${data}/mnist`,
    split: "test",
    metric: "top-1",
    bar: "1.64 % error",
    reached: (score) => 1 - score <= 0.0164,
    show: errorRate,
    flags: `--arch lenet-300-100 --epochs 40 ${digits}`,
  },
  "lenet-5": {
    title: "LeNet-5, MNIST",
    data: `${data}/mnist`,
    split: "test",
    metric: "top-1",
    bar: "0.80 % error",
    reached: (score) => 1 - score <= 0.008,
    show: errorRate,
    flags: `--arch lenet-5 --epochs 20 ${digits}`,
  },
  fashion: {
    title: "small CNN, Fashion-MNIST",
    data: `${data}/fashion-mnist`,
    split: "test",
    metric: "top-1",
    bar: "93 %",
    reached: (score) => score >= 0.93,
    show: accuracy,
    flags:
      "--arch small-cnn --input-channels 1 --size 28 --epochs 12 --random-flip --random-crop 2 --cutout 6 --optimizer muon --rate 0.01 --decay 0.1 --schedule polynomial",
  },
  resnet20: {
    title: "ResNet-20, CIFAR-10",
    data: `${data}/cifar-10`,
    split: "test",
    metric: "top-1",
    bar: "91.25 %",
    reached: (score) => score >= 0.9125,
    show: accuracy,
    flags:
      "--arch resnet20 --epochs 26 --mean 0.4914,0.4822,0.4465 --std 0.247,0.2435,0.2616 --random-flip --random-crop 4 --optimizer muon --rate 0.01 --decay 0.1 --schedule polynomial",
  },
  gpt: {
    title: "character GPT, tiny Shakespeare",
    data: join(work, "shakespeare"),
    split: "val",
    metric: "perplexity",
    bar: "loss 1.60",
    reached: (score) => Math.log(score) <= 1.6,
    show: (perplexity) => `loss ${Math.log(perplexity).toFixed(3)}`,
    flags:
      "--arch gpt --vocabulary 65 --length 128 --dim 256 --heads 4 --layers 4 --epochs 10 --batch 16 --optimizer adamw --rate 1e-3 --decay 0.1 --clip-norm 1",
  },
};

/** The customary split of tiny Shakespeare: the first nine tenths train; a token is a character's rank. */
function shakespeare(): void {
  const target = join(work, "shakespeare");
  if (existsSync(target)) return;
  const text = gunzipSync(readFileSync(join(data, "tinyshakespeare", "input.txt.gz"))).toString("latin1");
  const letters = [...new Set(text)].sort();
  const ids = Uint16Array.from(text, (letter) => letters.indexOf(letter));
  const cut = Math.floor(0.9 * ids.length);
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, "train.bin"), ids.slice(0, cut));
  writeFileSync(join(target, "val.bin"), ids.slice(cut));
}

interface Result {
  readonly score: number;
  readonly interval?: readonly [number, number];
  readonly minutes: number;
}

function study(name: string, { data: path, split, metric, flags }: Study): Result {
  const [model, log, done] = ["model.onnx", "log.jsonl", "result.json"].map((file) => join(work, name, file)) as [
    string,
    string,
    string,
  ];
  if (existsSync(done)) return JSON.parse(readFileSync(done, "utf8")) as Result;
  mkdirSync(join(work, name), { recursive: true });
  if (!existsSync(model)) {
    const places = ["--data", `${path}#train`, "-o", model, "--work", join(work, name, "checkpoints"), "--log", log];
    pare(["train", ...flags.split(" "), ...places, "--seed", `${seed}`]);
  }
  const judged = JSON.parse(pare(["evaluate", model, "--data", `${path}#${split}`, "--metric", metric, "--json"]));
  const [{ value, interval }] = judged.models[0].scores;
  const result: Result = { score: value, interval, minutes: minutesOf(log) };
  writeFileSync(done, JSON.stringify(result));
  return result;
}

/** Training loss over the epochs, and accuracy where there are classes, beside each other. */
function curves(name: string, { title }: Study): string {
  const epochs = epochsOf(join(work, name, "log.jsonl"));
  const chart = (y: "loss" | "accuracy", label: string): plot.PlotOptions => ({
    width: 380,
    height: 200,
    x: { label: "epoch", labelArrow: "none" },
    y: { label, labelArrow: "none", grid: true, zero: false, ticks: 5 },
    marks: [plot.line(epochs, { x: "epoch", y, stroke: "#2f6fb0", strokeWidth: 2 })],
  });
  const both = [chart("loss", `${title}: training loss`), chart("accuracy", "training accuracy, as augmented")];
  return draw(`study-${name}.svg`, `${title}: loss and accuracy over the epochs`, both);
}

shakespeare();
const wanted = process.argv.slice(2);
for (const name of wanted.length > 0 ? wanted : Object.keys(studies)) study(name, studies[name] ?? missing(name));

const finished = Object.entries(studies).filter(([name]) => existsSync(join(work, name, "result.json")));
const rows = finished.map(([name, each]) => {
  const { score, minutes } = study(name, each);
  return [
    each.title,
    each.show(score),
    each.bar,
    each.reached(score) ? "yes" : "**no**",
    `${minutes.toFixed(0)} min`,
    `${each.split}`,
  ];
});
const open = Object.keys(studies).filter((name) => !finished.some(([done]) => done === name));
const body = `Each is one command, seed ${seed}; the weights are those at the end, nothing is chosen by the split that judges, and it
is read once. "Bar" is what published work reaches or this project asks of itself. Time is that of training on one or both cores, which did other work as well.
${open.length > 0 ? `\nNot finished yet: ${open.join(", ")}.\n` : ""}
${table(["network and data", "result", "bar", "reached", "training", "judged on"], rows)}

${finished.map(([name, each]) => `### ${each.title}\n\n\`pare train --data ${each.data.split("/").at(-1)}#train -o model.onnx --seed ${seed} ${each.flags}\`\n\n${curves(name, each)}`).join("\n\n")}`;
record(
  "studies",
  "Training from nothing",
  "npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/studies.ts",
  body,
);
