import { augmentOptions } from "../data/augment.ts";
import type { Batch, Dataset } from "../data/dataset.ts";
import type { TokenMasking } from "../data/mask-tokens.ts";
import { type BatchPlan, type ImageInput, plannedBatches } from "../data/plan.ts";
import { fail } from "../errors.ts";
import type { Graph, Node } from "../graph/graph.ts";
import type { Metric, Row } from "../metrics/index.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type CheckpointStore, decodeCheckpoint, encodeCheckpoint } from "./checkpoint.ts";
import { type Constraint, Constraints } from "./constraint.ts";
import { lossNotFinite } from "./not-finite.ts";
import type { TrainOptions } from "./options.ts";
import { Pace } from "./pace.ts";
import {
  addStep,
  type EpochRecord,
  meansOf,
  noSums,
  type Progress,
  type StepsRecord,
  startOfRun,
  stepRecords,
  type TrainRecord,
} from "./progress.ts";
import { clearlyBetter, validationRows } from "./score.ts";
import { StateBuffers, withWeights } from "./state.ts";
import { type StepOptions, type TrainingStep, trainingStep } from "./step.ts";

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
  /** The input that holds images to augment. */
  readonly images?: ImageInput;
  /** The input that holds tokens to hide, and how. */
  readonly tokens?: TokenMasking;
  readonly trains?: (node: Node) => boolean;
  /** Weights that learn otherwise than the rest, by name. */
  readonly settings?: StepOptions["settings"];
  /** What acts on the weights before the first step and after every update, in this order. */
  readonly constraints?: readonly Constraint[];
  /** The model as it is counts as the best, until an epoch is clearly better on the validation split. */
  readonly judgeStart?: boolean;
  readonly batchStatistics?: boolean;
  /** The part of the schedule of the learning rate that these steps are, as shares of it; the whole if absent. */
  readonly part?: readonly [from: number, until: number];
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

export type { EpochRecord, StepsRecord, TrainRecord } from "./progress.ts";

/** Where a run is. */
export interface StepProgress {
  readonly step: number;
  readonly steps: number;
  readonly epoch: number;
  /** Mean of the loss since the epoch began. */
  readonly loss: number;
  /** Share of right classes since the epoch began, where there are classes. */
  readonly accuracy?: number;
  readonly samplesPerSecond: number;
}

/** What came of a run. */
export interface TrainResult {
  /** The model with the weights of the best epoch by the validation score, or of the last one. */
  readonly model: Graph;
  readonly records: readonly EpochRecord[];
  /** Loss, accuracy and rate over the steps. */
  readonly curve: readonly StepsRecord[];
  readonly best: { readonly epoch: number; readonly score?: number };
}

/** Milliseconds between checkpoints inside an epoch. */
const saveEvery = 60_000;

const lastName = "last.onnx";
/** Two files for the best weights by turns: the last checkpoint goes with the one that it names, until the next is there. */
const bestNames = ["best.onnx", "best-other.onnx"] as const;

/**
 * Trains a model: batches shuffled anew each epoch by the seed, augmented, one step each, validation after every epoch,
 * checkpoints every minute, after every epoch and on abort. A run that is killed and started again continues where its
 * last checkpoint was, to bit-identical weights. Batches are made ahead where the dataset has a thread for that.
 *
 * @throws PareError where the data has fewer samples than one batch, or the loss is not a number (naming the step)
 */
export async function train(model: Graph, options: TrainOptions, context: TrainContext): Promise<TrainResult> {
  const { runtime, data } = context;
  const available = data.size(context.trainSplit) ?? (await countSamples(data, context.trainSplit));
  const samples = Math.min(available, options.samples ?? available);
  const perEpoch = Math.floor(samples / options.batch);
  if (perEpoch === 0)
    fail(data.name, `has ${samples} samples to train on, a batch takes ${options.batch}`, "Make the batch smaller");
  const steps = Math.max(1, Math.round(perEpoch * options.epochs));
  const first = await firstFeeds(planOf(options, context, perEpoch, { from: 0, until: 1 }), context);
  const step = await trainingStep(model, runtime, first, stepOptions(options, context));
  // a plan of memory would hold the first step's chunks beside the plan's own block: half as much again
  const session = await runtime.open(step.graph, { memoryPattern: false });
  try {
    const run = new Run(model, options, context, { step, steps, perEpoch, session });
    await run.finish();
    return run.result();
  } finally {
    await session.release();
  }
}

/** A run on its way. */
class Run {
  readonly #model: Graph;
  readonly #options: TrainOptions;
  readonly #context: TrainContext;
  readonly #parts: { step: TrainingStep; steps: number; perEpoch: number; session: Session };
  readonly #pace: Pace;
  readonly #buffers: StateBuffers;
  readonly #constraints: Constraints;
  /** What the model scored as it was, where that counts. */
  #start: readonly Row[] | undefined;
  #progress = startOfRun();
  /** The file of the best weights that the last checkpoint names. */
  #named: string | undefined;
  #done = 0;
  #saved = performance.now();

  constructor(
    model: Graph,
    options: TrainOptions,
    context: TrainContext,
    parts: { step: TrainingStep; steps: number; perEpoch: number; session: Session },
  ) {
    this.#model = model;
    this.#options = options;
    this.#context = context;
    this.#parts = parts;
    this.#pace = new Pace(options, parts.steps, context.part);
    this.#buffers = new StateBuffers(parts.step);
    this.#constraints = new Constraints(context.constraints ?? []);
  }

  result(): TrainResult {
    const { epochs, curve, best } = this.#progress;
    return { model: this.#withWeights(this.#buffers.best ?? this.#buffers.weights()), records: epochs, curve, best };
  }

  /** Runs what is left of the steps. */
  async finish(): Promise<void> {
    await this.#resume();
    if (this.#done === 0) this.#constrain(this.#pace.rate(0));
    await this.#judgeStart();
    const { signal } = this.#context;
    try {
      await this.#endEpoch();
      if (!this.#outOfPatience()) await this.#runSteps();
    } catch (error) {
      // nothing else leaves a state worth keeping
      if (signal.aborted && error === signal.reason) await this.#save();
      throw error;
    }
  }

  async #runSteps(): Promise<void> {
    const { steps, perEpoch, step } = this.#parts;
    const { data, signal } = this.#context;
    if (this.#done >= steps) return;
    const masks = [...step.masks].map(([name, mask]) => ({ name, ...mask }));
    const plan = planOf(this.#options, this.#context, perEpoch, { from: this.#done, until: steps, masks });
    let before = performance.now();
    for await (const batch of batchesOf(data, plan)) {
      signal.throwIfAborted();
      await this.#step(batch, before);
      const ended = await this.#endEpoch();
      if (ended || performance.now() - this.#saved > saveEvery) await this.#save();
      if (ended && this.#outOfPatience()) return;
      before = performance.now();
    }
  }

  async #step(batch: Batch, before: number): Promise<void> {
    const { step, steps, perEpoch, session } = this.#parts;
    const { runtime, feeds: feedsOf } = this.#context;
    const at = this.#done;
    const rate = this.#pace.rate(at);
    const feeds = { ...(await feedsOf(batch)), ...step.hyper(at, rate, at + 1 === steps) };
    const { loss, report } = await this.#buffers.run(session, feeds);
    if (!Number.isFinite(loss)) {
      await lossNotFinite(step.graph, runtime, { ...feeds, ...this.#buffers.before() }, at, loss);
    }
    const seconds = (performance.now() - before) / 1000;
    const progress = this.#progress;
    for (const sums of [progress.epoch, progress.window]) addStep(sums, { loss, ...report }, seconds);
    this.#done++;
    if (this.#pace.updated(this.#done)) this.#constrain(rate);
    const where = { step: this.#done, epoch: Math.floor(at / perEpoch) + 1 };
    if (progress.window.steps >= steps / stepRecords) {
      const means = meansOf(progress.window, this.#options.batch);
      progress.window = noSums();
      const summaries = this.#constraints.summaries();
      const record: StepsRecord = { kind: "steps", ...where, ...means, rate, ...(summaries && { summaries }) };
      progress.curve.push(record);
      this.#context.record?.(record);
    }
    this.#context.progress?.({ ...where, steps, ...meansOf(progress.epoch, this.#options.batch) });
  }

  #constrain(rate: number): void {
    this.#constraints.apply({ ...this.#pace.updates(this.#done), rate }, this.#buffers.learning());
  }

  /** Whether the weights as they are may be the result. */
  #ready(): boolean {
    return this.#done >= this.#parts.steps || this.#constraints.ready(this.#pace.updates(this.#done));
  }

  /** At the end of an epoch: validates, keeps the best weights and writes the record; gives whether it was one. */
  async #endEpoch(): Promise<boolean> {
    const { steps, perEpoch } = this.#parts;
    const progress = this.#progress;
    if (progress.epoch.steps === 0 || (this.#done % perEpoch !== 0 && this.#done < steps)) return false;
    const { metric, validationSplit } = this.#context;
    const started = performance.now();
    const epoch = Math.ceil(this.#done / perEpoch);
    const weights = this.#buffers.weights();
    const judged = metric && validationSplit !== undefined;
    const rows = judged ? await validationRows(this.#withWeights(weights), this.#context) : undefined;
    const score = rows && metric!.value(rows);
    await this.#keepBest(epoch, rows, weights);
    const record: EpochRecord = {
      kind: "epoch",
      step: this.#done,
      epoch,
      ...meansOf(progress.epoch, this.#options.batch),
      rate: this.#pace.rate(this.#done - 1),
      ...(judged && score !== undefined && { score, metric: metric.name }),
      seconds: progress.epoch.seconds + (performance.now() - started) / 1000,
    };
    progress.epochs.push(record);
    progress.epoch = noSums();
    this.#context.record?.(record);
    return true;
  }

  #outOfPatience(): boolean {
    const { patience } = this.#options;
    const { epochs, best, epoch } = this.#progress;
    const last = epochs.at(-1)?.epoch ?? 0;
    if (patience === undefined || epoch.steps > 0 || last - best.epoch < patience) return false;
    this.#context.log(`no better score for ${patience} epochs: stopped after epoch ${last}`);
    return true;
  }

  /**
   * Keeps the weights where their score is the best so far, or where there is none. What the model scored as it was is
   * beaten only by what is clearly better.
   */
  async #keepBest(
    epoch: number,
    rows: readonly Row[] | undefined,
    weights: ReadonlyMap<string, Tensor>,
  ): Promise<void> {
    const { metric, store, run = "" } = this.#context;
    const { best } = this.#progress;
    if (!this.#ready()) {
      this.#progress.best = { epoch };
      return;
    }
    const score = rows && metric!.value(rows);
    const higher = metric?.better === "higher";
    const better =
      score === undefined || best.score === undefined || (higher ? score > best.score : score < best.score);
    if (!better || (rows && this.#start && best.epoch === 0 && !clearlyBetter(metric!, rows, this.#start))) return;
    this.#progress.best = { epoch, ...(score !== undefined && { score }) };
    if (score === undefined) return;
    const file = bestNames.find((name) => name !== this.#named)!;
    await store?.write(file, encodeCheckpoint({ run, step: this.#done, state: weights, progress: {} }));
    this.#progress.bestFile = file;
    this.#buffers.best = weights;
  }

  /** Scores the model as it was; of a run that goes on, where nothing has beaten it yet. */
  async #judgeStart(): Promise<void> {
    const { judgeStart, metric, validationSplit, log } = this.#context;
    const { best } = this.#progress;
    if (!judgeStart || !metric || validationSplit === undefined) return;
    if (this.#done > 0) {
      const kept = best.epoch === 0 && best.score !== undefined ? this.#buffers.best : undefined;
      if (kept) this.#start = await validationRows(this.#withWeights(kept), this.#context);
    } else if (this.#ready()) {
      const weights = this.#buffers.weights();
      const rows = await validationRows(this.#withWeights(weights), this.#context);
      log(`${metric.name} before: ${metric.value(rows).toPrecision(4)}`);
      await this.#keepBest(0, rows, weights);
      this.#start = rows;
    }
  }

  async #resume(): Promise<void> {
    const { store, run = "" } = this.#context;
    const bytes = await store?.read(lastName);
    if (!bytes) return;
    const last = decodeCheckpoint(bytes, lastName);
    if (last.run !== run) {
      const who = store?.name === undefined ? lastName : `${store.name}/${lastName}`;
      fail(who, "is the checkpoint of another run", "Choose another folder, or remove it to start anew");
    }
    this.#buffers.restore(last.state);
    this.#constraints.restore(last.state);
    this.#progress = last.progress as Progress;
    this.#done = last.step;
    this.#named = this.#progress.bestFile;
    const best = this.#named === undefined ? undefined : await store?.read(this.#named);
    if (best) this.#buffers.best = decodeCheckpoint(best, this.#named!).state;
    if (last.step < this.#parts.steps) this.#context.log(`continuing after step ${last.step}`);
  }

  async #save(): Promise<void> {
    const { store, run = "" } = this.#context;
    const [state, progress] = [new Map([...this.#buffers.state(), ...this.#constraints.state()]), this.#progress];
    await store?.write(lastName, encodeCheckpoint({ run, step: this.#done, state, progress }));
    this.#named = progress.bestFile;
    this.#saved = performance.now();
  }

  #withWeights(weights: ReadonlyMap<string, Tensor>): Graph {
    return withWeights(this.#context.result ?? this.#model, weights);
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
    extraInputs: context.extraInputs,
    ...(context.trains && { trains: context.trains }),
    ...(context.settings && { settings: context.settings }),
    ...(context.batchStatistics !== undefined && { batchStatistics: context.batchStatistics }),
    ...(options.clipNorm !== undefined && { clipNorm: options.clipNorm }),
    ...(options.average !== undefined && { average: options.average }),
    accumulate: options.accumulate,
  };
}

function planOf(
  options: TrainOptions,
  { trainSplit, images, tokens, seed }: TrainContext,
  perEpoch: number,
  range: Pick<BatchPlan, "from" | "until"> & Partial<Pick<BatchPlan, "masks">>,
): BatchPlan {
  return {
    ...(trainSplit !== undefined && { split: trainSplit }),
    batch: options.batch,
    perEpoch,
    seed,
    ...(images && { images: { ...images, options: augmentOptions.parse(options) } }),
    ...(tokens && { tokens }),
    masks: [],
    ...range,
  };
}

function batchesOf(data: Dataset, plan: BatchPlan): AsyncIterable<Batch> {
  return data.planned?.(plan) ?? plannedBatches(data, plan);
}

async function firstFeeds(plan: BatchPlan, { data, feeds }: TrainContext): Promise<Tensors> {
  for await (const first of batchesOf(data, plan)) return feeds(first);
  return fail(data.name, "holds no samples to train on");
}
