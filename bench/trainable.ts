/**
 * Is every model trainable as imported? Builds the training step of each ONNX file below a folder and takes four steps of
 * Adam on one batch of made-up samples: the loss must fall.
 * `PARE_DATA=FOLDER npx tsx bench/trainable.ts [PART-OF-A-NAME]`
 *
 * Results are recorded when all models run.
 */
import { basename } from "node:path";
import { syntheticFeeds } from "../src/data/synthetic.ts";
import { messageOf } from "../src/errors.ts";
import type { Graph } from "../src/graph/graph.ts";
import { load, runtime } from "../src/platform/node.ts";
import { observeTypes } from "../src/platform/observe.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { convertFloat } from "../src/techniques/convert-float/index.ts";
import { simplify } from "../src/techniques/simplify/index.ts";
import { float32, int64, sizeOf, type Tensor, toFloat32 } from "../src/tensor/tensor.ts";
import { objectiveFor, objectiveOptions } from "../src/training/objective.ts";
import { optimizerOptions } from "../src/training/optimizers.ts";
import { logitsOf } from "../src/training/prepare.ts";
import { trainingStep } from "../src/training/step.ts";
import { record, table } from "./document.ts";
import { modelFiles } from "./models.ts";

const cpu = await runtime({ threads: 2 });
const context = {
  runtime: cpu,
  random: random(0),
  log() {},
  progress() {},
  skip() {},
  show() {},
  signal: new AbortController().signal,
};

interface Preparation {
  readonly note: string;
  apply(graph: Graph): Graph | Promise<Graph>;
}

/** What a user would do first with a file, by its name. */
const preparations: Readonly<Record<string, Preparation>> = {
  "SqueezeNet_fp16.onnx": {
    note: "after convert-float --to float32 --io convert",
    apply: (graph) => convertFloat({ to: "float32", io: "convert" }).apply(graph, context),
  },
  "silero_vad_16k_op15.onnx": {
    note: "after simplify for windows of 576 samples, which settles its branches",
    apply: (graph) => simplify({ dims: { batch: 1, sequence: 576 } }).apply(graph, context),
  },
};

/** Classes for a classifier, next tokens for a language model, zeros for everything else. */
function labelsFor(feeds: Tensors, shape: readonly number[]): Tensor {
  const [batch, second, ...rest] = shape as [number, number, ...number[]];
  const tokens = Object.values(feeds).find(({ dtype, shape: s }) => dtype === "int64" && s.length === 2);
  if (tokens) return tokens;
  if (second > 1 && rest.every((dim) => dim === 1)) return int64(Array.from({ length: batch }, (_, i) => i % second));
  return float32(shape, new Float32Array(sizeOf(shape)));
}

interface Trained {
  readonly weights: number;
  readonly build: number;
  readonly step: number;
  readonly losses: readonly number[];
}

async function train(graph: Graph): Promise<Trained> {
  const feeds = syntheticFeeds(graph, random(1), { batch: 4, dims: { batch: 4, B: 4, T: 32 } });
  const size = Object.values(feeds)[0]!.shape[0] ?? 1;
  const started = performance.now();
  const types = await observeTypes(graph, cpu, feeds);
  const output = logitsOf(graph, graph.outputs[0]!.name);
  const batch = { inputs: feeds, labels: labelsFor(feeds, types.get(output)!.shape), size };
  const objective = await objectiveFor(graph, cpu, batch, objectiveOptions.parse({}));
  const fed = objective.feeds(batch);
  const step = await trainingStep(objective.model, cpu, fed, {
    objective: objective.objective,
    optimizer: optimizerOptions.parse({ optimizer: "adam", decay: 0 }),
    extraInputs: objective.extraInputs,
    batchStatistics: size > 1,
  });
  const session = await cpu.open(step.graph);
  try {
    const build = performance.now() - started;
    const masks = [...step.masks].map(([name, { shape }]) => [name, float32(shape, ones(sizeOf(shape)))] as const);
    const constant = { ...fed, ...Object.fromEntries(masks) };
    let state = Object.fromEntries(step.state);
    const losses: number[] = [];
    let fastest = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 4; i++) {
      const start = performance.now();
      const outputs = await session.run({ ...constant, ...step.hyper(i, 1e-4), ...state });
      fastest = Math.min(fastest, performance.now() - start);
      losses.push(toFloat32(outputs[step.loss]!)[0]!);
      state = Object.fromEntries([...step.next].map(([name, next]) => [name, outputs[next]!]));
    }
    return { weights: step.parameters.length, build, step: fastest, losses };
  } finally {
    await session.release();
  }
}

const ones = (length: number): Float32Array => new Float32Array(length).fill(1);

async function row(path: string): Promise<string[]> {
  const name = basename(path);
  const preparation = preparations[name];
  try {
    const graph = await load(path);
    const { weights, build, step, losses } = await train(preparation ? await preparation.apply(graph) : graph);
    const [first, last] = [losses[0]!, losses.at(-1)!];
    const verdict = last < first ? "falls" : Number.isFinite(last) ? "does not fall" : "is not finite";
    const change = `${first.toPrecision(4)} -> ${last.toPrecision(4)}, ${verdict}`;
    return [name, `${weights}`, build.toFixed(0), step.toFixed(0), change, preparation?.note ?? ""];
  } catch (error) {
    return [name, "", "", "", "", messageOf(error).split("\n")[0]!];
  }
}

const only = process.argv[2];
const rows: string[][] = [];
for (const path of modelFiles([process.env.PARE_DATA ?? "data"])) {
  if (only !== undefined && !path.includes(only)) continue;
  rows.push(await row(path));
  console.log(rows.at(-1)!.join("  "));
}
const body = [
  "The training step of every model of the development data, built as imported, and four steps of Adam at rate 1e-4 on one",
  "batch of made-up samples (four, or one where the file fixes it). Loss before the first and the fourth step.",
  "",
  table(["", "weights that learn", "build ms", "step ms", "loss", ""], rows),
].join("\n");
if (only === undefined) record("trainable", "Models that train", "PARE_DATA=FOLDER npx tsx bench/trainable.ts", body);
