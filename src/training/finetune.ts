import { z } from "zod";
import type { Dataset } from "../data/dataset.ts";
import { fail } from "../errors.ts";
import { type Graph, isNode, type Node } from "../graph/graph.ts";
import { selector } from "../graph/select.ts";
import { defaultMetrics, type Metric } from "../metrics/index.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { CheckpointStore } from "./checkpoint.ts";
import { objectiveFor, objectiveOptions } from "./objective.ts";
import { type StepProgress, type TrainRecord, type TrainResult, train, trainOptions } from "./train.ts";

/**
 * Options of {@link finetune}. Defaults suit a model that is trained already: a small rate that falls by half a cosine,
 * few epochs, little decay.
 */
export const finetuneOptions = z.object({
  ...trainOptions.shape,
  ...objectiveOptions.shape,
  epochs: trainOptions.shape.epochs.unwrap().default(3),
  batch: trainOptions.shape.batch.unwrap().default(64),
  rate: trainOptions.shape.rate.unwrap().default(0.005),
  decay: trainOptions.shape.decay.unwrap().default(1e-4),
  freeze: z.array(z.string()).default([]).describe("nodes that do not learn: names, operators, globs or /patterns/"),
  batchNorm: z
    .enum(["auto", "batch", "frozen"])
    .default("auto")
    .describe(
      "batch normalization: statistics of the batch, or frozen; auto: of the batch where batches are large enough",
    ),
});

/** Options of {@link finetune}. */
export type FinetuneOptions = z.input<typeof finetuneOptions>;

/** What {@link finetune} needs beside the model and its options. */
export interface FinetuneContext {
  readonly runtime: Runtime;
  readonly data: Dataset;
  /** A model whose outputs are soft targets. */
  readonly teacher?: Graph;
  readonly trainSplit?: string;
  /** Split to choose the best epoch by; "val" where there is one, else the last epoch is taken. */
  readonly validationSplit?: string;
  readonly metric?: Metric;
  readonly seed?: number;
  readonly store?: CheckpointStore;
  readonly run?: string;
  readonly signal?: AbortSignal;
  /** Which nodes may learn, beyond what `freeze` holds back. */
  readonly trains?: (node: Node) => boolean;
  log?(message: string): void;
  progress?(state: StepProgress): void;
  record?(entry: TrainRecord): void;
}

/** Batch statistics of fewer samples than this are too noisy to train by. */
const smallestBatch = 16;

/**
 * Trains a model further on data: loss, metric and form of the labels are found from both.
 *
 * @throws PareError where data and model do not fit, or nothing can learn
 */
export async function finetune(
  model: Graph,
  given: FinetuneOptions,
  context: FinetuneContext,
): Promise<TrainResult & { readonly summary: string }> {
  const options = finetuneOptions.parse(given);
  const { runtime, data, teacher, seed = 0, log = () => {} } = context;
  const split = context.trainSplit ?? data.splits[0]!;
  const sample = await firstBatch(data, split, options.batch);
  const objective = await objectiveFor(model, runtime, sample, options, {
    ...(teacher && { teacher }),
    softLabels: options.mixup > 0,
  });
  const validationSplit =
    context.validationSplit ?? (data.splits.includes("val") && split !== "val" ? "val" : undefined);
  const metric = context.metric ?? defaultMetrics(model.outputs, sample.labels)[0];
  const judged = validationSplit !== undefined && metric !== undefined && metric.needs !== "reference";
  const frozen = options.batchNorm === "frozen" || (options.batchNorm === "auto" && options.batch < smallestBatch);
  if (model.nodes.some((node) => isNode(node, "BatchNormalization"))) {
    log(`batch normalization: ${frozen ? "frozen" : "statistics of the batch"}`);
  }
  log(`loss: ${objective.summary}`);
  const mayLearn = context.trains ?? (() => true);
  const held = selector({ include: options.freeze, exclude: [] });
  const isFrozen = (node: Node): boolean => options.freeze.length > 0 && held(node);
  const result = await train(objective.model, options, {
    runtime,
    data,
    trainSplit: split,
    ...(judged && { validationSplit, metric }),
    objective: objective.objective,
    feeds: objective.feeds,
    extraInputs: objective.extraInputs,
    ...(objective.images && { images: objective.images }),
    trains: (node) => objective.own(node) && mayLearn(node) && !isFrozen(node),
    batchStatistics: !frozen,
    seed,
    ...(context.store && { store: context.store }),
    ...(context.run !== undefined && { run: context.run }),
    signal: context.signal ?? new AbortController().signal,
    log,
    ...(context.progress && { progress: context.progress }),
    ...(context.record && { record: context.record }),
    result: model,
  });
  return { ...result, summary: objective.summary };
}

async function firstBatch(data: Dataset, split: string, batch: number) {
  for await (const first of data.batches({ batch, limit: batch, split })) return first;
  return fail(data.name, `its split '${split}' holds no samples to train on`);
}
