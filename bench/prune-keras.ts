/**
 * The classic flow on a published Keras file: MLPerf Tiny's ResNet-8, pruned from 50 % to 90 % by a polynomial schedule
 * while it trains on CIFAR-10, judged once on the test split.
 * `npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/prune-keras.ts`
 *
 * PARE_WORK keeps checkpoints, logs and models: a run that was stopped goes on where it was, and one that is done is not
 * run again. PARE_THREADS spares cores. Reading .h5 files takes the package h5wasm.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { isNode } from "../src/graph/graph.ts";
import { load } from "../src/platform/node.ts";
import { toFloat32 } from "../src/tensor/tensor.ts";
import type { TrainRecord } from "../src/training/progress.ts";
import { record, table } from "./document.ts";
import { folder, pare } from "./study.ts";

const [data, work] = [folder("PARE_DATA"), join(folder("PARE_WORK"), "prune-keras")];
const keras = join(data, "mlperf-tiny-resnet8", "pretrainedResnet.h5");
const [dense, pruned] = [join(work, "dense.onnx"), join(work, "pruned.onnx")];
const log = join(work, "log.jsonl");
const raw = ["--channels", "RGB", "--scale", "1", "--mean", "0", "--std", "1"];
/** What MLPerf Tiny asks of the network. */
const bar = 0.85;

const epochs = 20;
const batch = 128;
/** Nine tenths of the training samples learn, the others choose the best epoch. */
const steps = epochs * Math.floor((0.9 * 50_000) / batch);
const end = Math.floor((0.6 * steps) / 100) * 100;
const schedule = `--pruning-schedule polynomial --initial-sparsity 0.5 --sparsity 0.9 --begin-step 0 --end-step ${end} --frequency 100`;
const training = `--epochs ${epochs} --batch ${batch} --optimizer sgd --rate 0.05 --decay 5e-5 --random-crop 4 --random-flip`;
const command = `prune-weights ${schedule} --density global --ends prune --min-elements 0 ${training}`;

/** Weights of convolutions and dense layers, and how many of them are zero. */
async function zerosOf(path: string): Promise<{ readonly weights: number; readonly zeros: number }> {
  const { nodes, weights } = await load(path);
  const read = nodes
    .filter((node) => ["Conv", "Gemm", "MatMul"].some((op) => isNode(node, op)))
    .map(({ inputs }) => inputs[1]!);
  const values = [...new Set(read)].map((name) => toFloat32(weights.get(name)!));
  return {
    weights: values.reduce((sum, { length }) => sum + length, 0),
    zeros: values.reduce((sum, each) => sum + each.filter((value) => value === 0).length, 0),
  };
}

mkdirSync(work, { recursive: true });
if (!existsSync(dense)) {
  const args = ["convert", keras, "--layout", "channels-first", "-o", dense];
  pare(args);
}
if (!existsSync(pruned)) {
  const places = ["-o", pruned, "--work", join(work, "checkpoints"), "--log", log];
  const [technique, ...flags] = command.split(" ");
  pare([technique!, dense, ...flags, "--data", `${data}/cifar-10#train`, ...raw, ...places, "--seed", "1"]);
}
const compared = JSON.parse(pare(["compare", dense, pruned, "--data", `${data}/cifar-10#test`, ...raw, "--json"]));
const rows = await Promise.all(
  [dense, pruned].map(async (path, i) => {
    const [{ value, interval }] = compared.models[i].scores;
    const { weights, zeros } = await zerosOf(path);
    const bytes = readFileSync(path);
    return [
      i === 0 ? "as published" : "pruned",
      `${(100 * value).toFixed(2)} % (${interval.map((v: number) => (100 * v).toFixed(2)).join(" .. ")})`,
      i === 0 ? "" : value >= bar ? "yes" : "**no**",
      `${((100 * zeros) / weights).toFixed(1)} % of ${weights.toLocaleString("en-US")}`,
      bytes.length.toLocaleString("en-US"),
      gzipSync(bytes).length.toLocaleString("en-US"),
    ];
  }),
);
const lines = readFileSync(log, "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as TrainRecord);
const sparsities = lines.flatMap((line) =>
  line.kind === "steps" && line.summaries ? [[line.step, line.summaries.sparsity!] as const] : [],
);
const marks = Array.from(
  { length: 9 },
  (_, i) => sparsities.findLast(([step]) => step <= Math.ceil(((i + 1) * steps) / 9))!,
);
const body = `MLPerf Tiny's ResNet-8 (\`pretrainedResnet.h5\`, Keras 2) on CIFAR-10: the same weights, ever more of them held at zero. A
tenth of the training split chooses the best epoch; the test split is read once, at the end. Bar: MLPerf Tiny's 85 %.

${table(["", "top-1 on test", "bar reached", "zeros", "bytes", "with gzip"], rows)}

Sparsity after some of the ${steps.toLocaleString("en-US")} steps, from the log: ${marks.map(([step, share]) => `${step}: ${(100 * share).toFixed(1)} %`).join(", ")}.

\`\`\`
pare convert pretrainedResnet.h5 --layout channels-first -o dense.onnx
pare ${command} dense.onnx --data cifar-10#train ${raw.join(" ")} -o pruned.onnx --seed 1
\`\`\``;
console.log(body);
record(
  "prune-keras",
  "A Keras file pruned while it trains",
  "npm run build && PARE_DATA=FOLDER PARE_WORK=FOLDER npx tsx bench/prune-keras.ts",
  body,
);
