import { z } from "zod";
import type { Batch, Dataset } from "../data/dataset.ts";
import { fail } from "../errors.ts";
import type { Graph, Node } from "../graph/graph.ts";
import type { Metric, Row } from "../metrics/index.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { augment, augmentOptions } from "./augment.ts";
import { type CheckpointStore, decodeCheckpoint, encodeCheckpoint } from "./checkpoint.ts";
import { optimizerOptions } from "./optimizers.ts";
import { makeSchedule, scheduleOptions } from "./schedules.ts";
import { StateBuffers, withWeights } from "./state.ts";
import { type StepOptions, type TrainingStep, trainingStep } from "./step.ts";

/** Options of the loop itself. */
export const loopOptions = z.object({
  epochs: z.number().positive().default(10).describe("passes over the training data; fractions are allowed"),
  batch: z.number().int().positive().default(128).describe("samples a step"),
  clipNorm: z.number().positive().optional().describe("largest norm of all gradients together"),
  accumulate: z.number().int().positive().default(1).describe("batches summed up for one update"),
  average: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe("share of the old that an average of the weights keeps a step; the average is what is saved"),
  patience: z.number().int().positive().optional().describe("epochs without a better score after which to stop"),
  samples: z.number().int().positive().optional().describe("use only so many training samples"),
});

/** All options of training, spread from the parts that understand them. */
export const trainOptions = z.object({
  ...loopOptions.shape,
  ...optimizerOptions.shape,
  ...scheduleOptions.shape,
  ...augmentOptions.shape,
});

/** Options of training, defaults filled in. */
export type TrainOptions = z.output<typeof trainOptions>;

/** What training needs beside the model and its options. */
export interface TrainContext {
  readonly runtime: Runtime;
  readonly data: Dataset;
  /** Split to learn from; the dataset's default one if absent. */
  readonly trainSplit?: string;
  /** Split to choose the best epoch by; none if absent. */
  readonly validationSplit?: string;
  /** Score on the validation split. */
  readonly metric?: Metric;
  readonly objective: StepOptions["objective"];
  /** Turns a batch into the feeds of a step: labels made one-hot, a teacher's outputs added. */
  readonly feeds: (batch: Batch) => Tensors | Promise<Tensors>;
  /** Names of the feeds that are not inputs of the model. */
  readonly extraInputs: readonly string[];
  /** Name of the feed that holds images to augment, and of the one with soft labels that mixup blends. */
  readonly images?: { readonly input: string; readonly labels?: string };
  readonly trains?: (node: Node) => boolean;
  readonly batchStatistics?: boolean;
  readonly seed: number;
  readonly store?: CheckpointStore;
  /** Identifies the run in its checkpoints. */
  readonly run?: string;
  readonly signal: AbortSignal;
  log(message: string): void;
  /** The graph to put the trained weights into and to validate, where that is not the one that is differentiated. */
  readonly result?: Graph;
  /** After every step. */
  progress?(state: StepProgress): void;
  /** A line of the metrics log. */
  record?(entry: TrainRecord): void;
}

/** Where a run is. */
export interface StepProgress {
  readonly step: number;
  readonly steps: number;
  readonly epoch: number;
  /** Mean of the loss since the epoch began. */
  readonly loss: number;
  readonly samplesPerSecond: number;
}

/** One epoch, as written to the metrics log. */
export interface TrainRecord {
  readonly epoch: number;
  readonly step: number;
  readonly loss: number;
  readonly rate: number;
  /** Score on the validation split. */
  readonly score?: number;
  readonly seconds: number;
}

/** What came of a run. */
export interface TrainResult {
  /** The model with the weights of the best epoch by the validation score, or of the last one. */
  readonly model: Graph;
  readonly records: readonly TrainRecord[];
  readonly best: { readonly epoch: number; readonly score?: number };
}

interface Progress {
  readonly records: TrainRecord[];
  best: { epoch: number; score?: number };
  lossSum: number;
  lossCount: number;
}

/** Milliseconds between checkpoints inside an epoch. */
const saveEvery = 60_000;

const lastName = "last.onnx";
const bestName = "best.onnx";

/**
 * Trains a model: batches shuffled anew each epoch by the seed, augmented, one step each, validation after every epoch,
 * checkpoints after every epoch and on abort. A run that is killed and started again continues where its last
 * checkpoint was, to bit-identical weights.
 *
 * @throws PareError where the data has fewer samples than one batch, or the loss is not a number (naming the step)
 */
export async function train(model: Graph, options: TrainOptions, context: TrainContext): Promise<TrainResult> {
  const { runtime, data, seed, signal, store, run = "" } = context;
  const available = data.size(context.trainSplit) ?? (await countSamples(data, context.trainSplit));
  const samples = Math.min(available, options.samples ?? available);
  const perEpoch = Math.floor(samples / options.batch);
  if (perEpoch === 0)
    fail(data.name, `has ${samples} samples to train on, a batch takes ${options.batch}`, "Make the batch smaller");
  const steps = Math.max(1, Math.round(perEpoch * options.epochs));
  const first = await firstFeeds(context, options);
  const step = await trainingStep(model, runtime, first, stepOptions(options, context));
  const schedule = makeSchedule(options, steps);
  const session = await runtime.open(step.graph);
  const buffers = new StateBuffers(step);
  const progress: Progress = { records: [], best: { epoch: 0 }, lossSum: 0, lossCount: 0 };
  try {
    let saved = performance.now();
    let done = await resume(store, run, buffers, progress, steps);
    while (done < steps) {
      const epoch = Math.floor(done / perEpoch);
      const started = performance.now();
      let inEpoch = 0;
      const until = Math.min(steps, (epoch + 1) * perEpoch);
      const skip = (done - epoch * perEpoch) * options.batch;
      const order = random(seed)
        .fork(`epoch ${epoch}`)
        .int(2 ** 31);
      const stream = data.batches({
        batch: options.batch,
        seed: order,
        skip,
        limit: (until - done) * options.batch,
        ...(context.trainSplit !== undefined && { split: context.trainSplit }),
      });
      for await (const batch of stream) {
        if (batch.size < options.batch || done >= until) break;
        if (signal.aborted || performance.now() - saved > saveEvery) {
          await saveLast(store, run, done, buffers, progress);
          saved = performance.now();
          signal.throwIfAborted();
        }
        const rate = options.rate * schedule(done);
        const feeds = await prepared(batch, done, step, options, context);
        const loss = await buffers.run(session, { ...feeds, ...step.hyper(done, rate) });
        if (!Number.isFinite(loss)) return await notANumber(step, runtime, feeds, buffers, done, loss);
        progress.lossSum += loss;
        progress.lossCount++;
        done++;
        inEpoch++;
        context.progress?.({
          step: done,
          steps,
          epoch: epoch + 1,
          loss: progress.lossSum / progress.lossCount,
          samplesPerSecond: (inEpoch * options.batch * 1000) / (performance.now() - started),
        });
      }
      await endEpoch({
        model,
        buffers,
        progress,
        context,
        epoch,
        done,
        started,
        rate: options.rate * schedule(done - 1),
      });
      await saveLast(store, run, done, buffers, progress);
      if (options.patience !== undefined && epoch + 1 - progress.best.epoch >= options.patience) {
        context.log(`no better score for ${options.patience} epochs: stopped after epoch ${epoch + 1}`);
        break;
      }
    }
    const best = buffers.best ?? buffers.weights();
    return { model: withWeights(context.result ?? model, best), records: progress.records, best: progress.best };
  } finally {
    await session.release();
  }
}

async function countSamples(data: Dataset, split: string | undefined): Promise<number> {
  let count = 0;
  for await (const { size } of data.batches({ batch: 256, ...(split !== undefined && { split }) })) count += size;
  return count;
}

function stepOptions(options: TrainOptions, context: TrainContext): StepOptions {
  return {
    objective: context.objective,
    optimizer: options,
    extraInputs: context.extraInputs.map((name) => ({ name })),
    ...(context.trains && { trains: context.trains }),
    ...(context.batchStatistics !== undefined && { batchStatistics: context.batchStatistics }),
    ...(options.clipNorm !== undefined && { clipNorm: options.clipNorm }),
    ...(options.average !== undefined && { average: options.average }),
    accumulate: options.accumulate,
  };
}

async function firstFeeds(context: TrainContext, { batch }: TrainOptions): Promise<Tensors> {
  const split = context.trainSplit === undefined ? {} : { split: context.trainSplit };
  for await (const first of context.data.batches({ batch, limit: batch, ...split })) return context.feeds(first);
  return fail(context.data.name, "holds no samples to train on");
}

/** Feeds of one step, everything random in them drawn from the seed and the step alone. */
async function prepared(
  batch: Batch,
  at: number,
  step: TrainingStep,
  options: TrainOptions,
  context: TrainContext,
): Promise<Tensors> {
  const feeds: Record<string, Tensor> = { ...(await context.feeds(batch)) };
  const r = random(context.seed).fork(`step ${at}`);
  const { images } = context;
  if (images) {
    const labels = images.labels === undefined ? undefined : feeds[images.labels];
    const changed = augment({ images: feeds[images.input]!, ...(labels && { labels }) }, options, r);
    feeds[images.input] = changed.images;
    if (images.labels !== undefined && changed.labels) feeds[images.labels] = changed.labels;
  }
  for (const [name, { shape, keep }] of step.masks) {
    const size = shape.reduce((a, b) => a * b, 1);
    feeds[name] = float32(
      shape,
      Float32Array.from({ length: size }, () => (r.next() < keep ? 1 / keep : 0)),
    );
  }
  return feeds;
}

interface EpochEnd {
  readonly model: Graph;
  readonly buffers: StateBuffers;
  readonly progress: Progress;
  readonly context: TrainContext;
  readonly epoch: number;
  readonly done: number;
  readonly started: number;
  readonly rate: number;
}

async function endEpoch({ model, buffers, progress, context, epoch, done, started, rate }: EpochEnd): Promise<void> {
  const { metric, validationSplit } = context;
  const weights = buffers.weights();
  const score =
    metric && validationSplit !== undefined
      ? await scoreOf(withWeights(context.result ?? model, weights), context)
      : undefined;
  const { best } = progress;
  const better =
    score === undefined ||
    best.score === undefined ||
    (metric!.better === "higher" ? score > best.score : score < best.score);
  if (better) {
    progress.best = { epoch: epoch + 1, ...(score !== undefined && { score }) };
    buffers.best = score === undefined ? undefined : weights;
    if (score !== undefined)
      await context.store?.write(
        bestName,
        encodeCheckpoint({ run: context.run ?? "", step: done, state: weights, progress: {} }),
      );
  }
  const entry: TrainRecord = {
    epoch: epoch + 1,
    step: done,
    loss: progress.lossSum / Math.max(1, progress.lossCount),
    rate,
    ...(score !== undefined && { score }),
    seconds: (performance.now() - started) / 1000,
  };
  progress.records.push(entry);
  progress.lossSum = 0;
  progress.lossCount = 0;
  context.record?.(entry);
}

/** The metric over the validation split. */
async function scoreOf(
  model: Graph,
  { runtime, data, metric, validationSplit, signal }: TrainContext,
): Promise<number> {
  const session = await runtime.open(model);
  const rows: Row[] = [];
  try {
    for await (const batch of data.batches({
      batch: 128,
      ...(validationSplit !== undefined && { split: validationSplit }),
    })) {
      signal.throwIfAborted();
      const outputs = await session.run(batch.inputs);
      const judged = {
        outputs,
        size: batch.size,
        ...(batch.labels && { labels: batch.labels }),
        ...(batch.truth && { truth: batch.truth }),
      };
      rows.push(...metric!.rows(judged));
    }
  } finally {
    await session.release();
  }
  return metric!.value(rows);
}

async function resume(
  store: CheckpointStore | undefined,
  run: string,
  buffers: StateBuffers,
  progress: Progress,
  steps: number,
): Promise<number> {
  const bytes = await store?.read(lastName);
  if (!bytes) return 0;
  const last = decodeCheckpoint(bytes, lastName);
  if (last.run !== run)
    fail(lastName, "is the checkpoint of another run", "Choose another folder, or remove it to start anew");
  buffers.restore(last.state);
  Object.assign(progress, last.progress as Progress);
  const best = progress.best.score === undefined ? undefined : await store?.read(bestName);
  if (best) buffers.best = decodeCheckpoint(best, bestName).state;
  return Math.min(last.step, steps);
}

async function saveLast(
  store: CheckpointStore | undefined,
  run: string,
  step: number,
  buffers: StateBuffers,
  progress: Progress,
): Promise<void> {
  await store?.write(lastName, encodeCheckpoint({ run, step, state: buffers.state(), progress }));
}

/** Names the first node of the step whose output is not finite. */
async function notANumber(
  step: TrainingStep,
  runtime: Runtime,
  feeds: Tensors,
  buffers: StateBuffers,
  at: number,
  loss: number,
): Promise<never> {
  const node = await firstBad(step.graph, runtime, { ...feeds, ...step.hyper(at, 0), ...buffers.before() });
  const where = node ? `; the first value that is not finite comes from '${node}'` : "";
  return fail(
    "train",
    `the loss is ${loss} at step ${at}${where}`,
    "Lower the rate, clip the gradients, or check the data",
  );
}

async function firstBad(graph: Graph, runtime: Runtime, feeds: Tensors): Promise<string | undefined> {
  const bad = new Set<string>();
  const names = graph.nodes.flatMap((node) => node.outputs.filter((name) => name !== ""));
  await observeValues(graph, runtime, names, [feeds], (name, value) => {
    if (value.dtype === "float32" && !toFloat32(value).every(Number.isFinite)) bad.add(name);
  });
  const node = graph.nodes.find(({ outputs }) => outputs.some((name) => bad.has(name)));
  return node?.name;
}
