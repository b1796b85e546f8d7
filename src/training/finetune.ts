import { z } from "zod";
import { type AugmentOptions, augmentOptions } from "../data/augment.ts";
import { type Batch, type Dataset, ignoredLabel } from "../data/dataset.ts";
import { fittingFeeds } from "../data/fixed-batch.ts";
import { withValidation } from "../data/hold-out.ts";
import { hideTokens, type TokenMasking } from "../data/mask-tokens.ts";
import { fail } from "../errors.ts";
import { type Graph, isNode, type Node } from "../graph/graph.ts";
import { selector } from "../graph/select.ts";
import { defaultMetrics, type Metric } from "../metrics/index.ts";
import type { Runtime } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { CheckpointStore } from "./checkpoint.ts";
import type { Constraint } from "./constraint.ts";
import { type FinetuneDefaults, finetuneDefaults } from "./finetune-defaults.ts";
import { keepZeros } from "./keep-zeros.ts";
import { type Objective, objectiveFor, objectiveOptions } from "./objective.ts";
import { trainOptions } from "./options.ts";
import { groupOptions, type WeightSettings, weightSettings } from "./parameters.ts";
import type { TrainRecord } from "./progress.ts";
import { type StepProgress, type TrainContext, type TrainResult, train } from "./train.ts";
import { unfoldBatchNorm } from "./unfold-batch-norm.ts";

const { optimizer, rate, decay, epochs, batch } = trainOptions.shape;

/**
 * Options of {@link finetune}. Defaults suit a model that is trained already: a small rate that falls by half a cosine,
 * few epochs, little decay; {@link finetuneDefaults} chooses what is left open.
 */
export const finetuneOptions = z.object({
  ...trainOptions.shape,
  ...objectiveOptions.shape,
  epochs: epochs.unwrap().default(3),
  batch: batch.unwrap().default(64),
  optimizer: optimizer
    .unwrap()
    .optional()
    .describe("the update rule; sgd for convolutions with batch normalization and adamw for others if absent"),
  rate: rate.unwrap().optional().describe("base learning rate; chosen by the optimizer and the model if absent"),
  decay: decay.unwrap().optional(),
  ...groupOptions.shape,
  holdOut: z
    .number()
    .min(0)
    .max(0.9)
    .describe("share of the training samples that chooses the best epoch where there is no split for that; 0 is none")
    .default(0.1),
  unfoldBatchNorm: z
    .boolean()
    .default(false)
    .describe("put batch normalization behind layers with a bias and none, first as the identity on the data"),
  batchNorm: z
    .enum(["auto", "batch", "frozen"])
    .default("auto")
    .describe(
      "batch normalization: statistics of the batch, or frozen; auto: of the batch where batches are large enough",
    ),
  keepZeros: z
    .enum(["auto", "always", "never"])
    .default("auto")
    .describe(
      "weights that are zero stay zero; auto: those of matrices and kernels that have a tenth of zeros or more",
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
  /**
   * A loss in place of the named ones: a graph of "labels" and of outputs and inputs of the model, by their names; its
   * first output, or that one's mean, is the loss.
   */
  readonly loss?: Graph;
  /** Split to choose the best epoch by; "val" where there is one or can be made, else the last epoch is taken. */
  readonly validationSplit?: string;
  readonly metric?: Metric;
  /** The model has not learned anything yet: neither it nor its zeros are worth keeping. */
  readonly untrained?: boolean;
  /** The model as it is counts as the best, until an epoch is clearly better; unless it is untrained, if absent. */
  readonly judgeStart?: boolean;
  readonly seed?: number;
  readonly store?: CheckpointStore;
  readonly run?: string;
  readonly signal?: AbortSignal;
  /** What acts on the weights before the first step and after every update. */
  readonly constraints?: readonly Constraint[];
  /** Weights that learn otherwise than the rest, where the options say nothing else of them. */
  readonly settings?: ReadonlyMap<string, WeightSettings>;
  /** The part of the schedule of the learning rate that this run is, as shares of it; the whole if absent. */
  readonly part?: TrainContext["part"];
  /** Which nodes may learn, beyond what `freeze` holds back. */
  readonly trains?: (node: Node) => boolean;
  log?(message: string): void;
  progress?(state: StepProgress): void;
  record?(entry: TrainRecord): void;
}

/** Batch statistics of fewer samples than this are too noisy to train by. */
export const smallestBatch = 16;

/** A weight with fewer zeros than this was not pruned: they are chance. */
const prunedShare = 0.1;

/** Training samples that the statistics of batch normalization put back are measured on. */
const unfoldSamples = 1024;

/**
 * Trains a model further on data: loss, metric and form of the labels are found from both, and what of the rate is not
 * given from the model. The weights of the best epoch by the validation split are kept, or the model as it was,
 * where none is clearly better there: by the paired 95 % interval.
 *
 * @throws PareError where data and model do not fit, or nothing can learn
 */
export async function finetune(
  model: Graph,
  given: FinetuneOptions,
  context: FinetuneContext,
): Promise<TrainResult & { readonly summary: string }> {
  const plan = await planFor(model, finetuneOptions.parse(given), context);
  const { start, frozen, objective, options } = plan;
  const { log = () => {} } = context;
  if (start.nodes.some((node) => isNode(node, "BatchNormalization"))) {
    log(`batch normalization: ${frozen ? "frozen" : "statistics of the batch"}`);
  }
  const { optimizer, rate, decay } = options;
  log(`loss: ${objective.summary}; optimizer: ${optimizer}, rate ${rate}, decay ${decay}`);
  const result = await train(objective.model, options, trainContext(plan, context));
  return { ...result, summary: objective.summary };
}

type Options = z.output<typeof finetuneOptions>;

/** What was found out of model, data and options. */
interface Plan {
  /** The model to train. */
  readonly start: Graph;
  readonly data: Dataset;
  readonly split: string;
  readonly options: Options & FinetuneDefaults;
  readonly objective: Objective;
  readonly masking: TokenMasking | undefined;
  /** Where and by what epochs are judged, if at all. */
  readonly validation: { readonly validationSplit: string; readonly metric: Metric } | undefined;
  /** Batch normalization keeps its statistics. */
  readonly frozen: boolean;
  readonly mayLearn: (node: Node) => boolean;
}

async function planFor(model: Graph, parsed: Options, context: FinetuneContext): Promise<Plan> {
  const { runtime, teacher, loss, seed = 0 } = context;
  const split = context.trainSplit ?? context.data.splits[0]!;
  const data =
    context.validationSplit === undefined
      ? withValidation(context.data, split, { share: parsed.holdOut, seed })
      : context.data;
  const frozen = parsed.batchNorm === "frozen" || (parsed.batchNorm === "auto" && parsed.batch < smallestBatch);
  const held = selector({ include: parsed.freeze, exclude: [] });
  const mayLearn = (node: Node): boolean =>
    (context.trains?.(node) ?? true) && !(parsed.freeze.length > 0 && held(node));
  const start = parsed.unfoldBatchNorm ? await unfolded(model, data, split, context, mayLearn) : model;
  const options = { ...parsed, ...finetuneDefaults(start, !frozen, parsed), ...givenOf(parsed) };
  const read = await firstBatch(data, split, options.batch);
  const masking = maskingOf(read, options);
  const sample = masking ? hideTokens(read, masking, random(seed)) : read;
  const towards = masking ? { ...options, ignore: options.ignore ?? ignoredLabel } : options;
  const softLabels = options.mixup > 0;
  const objective = await objectiveFor(start, runtime, sample, towards, {
    ...(teacher && { teacher }),
    ...(loss && { loss }),
    softLabels,
  });
  const change = (Object.keys(augmentOptions.shape) as (keyof AugmentOptions)[]).find((name) => options[name]);
  if (change && !objective.images) {
    const known = "Images are float32, 1, 3 or 4 channels first or last";
    fail("train", `no input holds images for '${change}' to change`, known);
  }
  const validation = validationOf(model, sample, data, split, options, context);
  return { start, data, split, options, objective, masking, validation, frozen, mayLearn };
}

function validationOf(
  model: Graph,
  sample: Batch,
  data: Dataset,
  split: string,
  options: Options,
  context: FinetuneContext,
): Plan["validation"] {
  const validationSplit =
    context.validationSplit ?? (data.splits.includes("val") && split !== "val" ? "val" : undefined);
  // alignments have no metric yet
  const found = options.loss === "ctc" ? undefined : defaultMetrics(model.outputs, sample.labels)[0];
  const metric = context.metric ?? found;
  if (validationSplit === undefined || metric === undefined || metric.needs === "reference") return undefined;
  return { validationSplit, metric };
}

function trainContext(plan: Plan, context: FinetuneContext): TrainContext {
  const { start, data, split, options, objective, masking, validation, frozen, mayLearn } = plan;
  const { runtime, seed = 0, log = () => {}, signal = new AbortController().signal } = context;
  return {
    runtime,
    data,
    trainSplit: split,
    ...validation,
    judgeStart: context.judgeStart ?? !context.untrained,
    objective: objective.objective,
    feeds: objective.feeds,
    extraInputs: objective.extraInputs,
    ...(objective.images && { images: objective.images }),
    ...(masking && { tokens: { ...masking, vocabulary: objective.classes } }),
    trains: (node) => objective.own(node) && mayLearn(node),
    settings: together(context.settings ?? new Map(), weightSettings(start, options)),
    constraints: [...(context.constraints ?? []), ...zerosToKeep(start, options, context)],
    batchStatistics: !frozen,
    ...(context.part && { part: context.part }),
    seed,
    ...(context.store && { store: context.store }),
    ...(context.run !== undefined && { run: context.run }),
    signal,
    log,
    ...(context.progress && { progress: context.progress }),
    ...(context.record && { record: context.record }),
    result: start,
  };
}

/** Holds the zeros of a model that was pruned. */
function zerosToKeep(
  model: Graph,
  { keepZeros: which }: Options,
  { untrained, log }: FinetuneContext,
): readonly Constraint[] {
  if (which === "never" || (which === "auto" && untrained)) return [];
  const kept = keepZeros(model, { least: which === "auto" ? prunedShare : 0 });
  if (kept.zeros.size === 0) return [];
  const zeros = [...kept.zeros.values()].reduce((a, b) => a + b, 0);
  const all = [...kept.zeros.keys()].reduce((sum, name) => sum + model.weights.get(name)!.size, 0);
  const share = `${((100 * zeros) / all).toFixed(1)} %`;
  log?.(`zeros stay zero: ${share} of ${kept.zeros.size} weights with ${all} elements`);
  return [kept];
}

/** Settings with those of the options over them: rates multiply. */
function together(
  own: ReadonlyMap<string, WeightSettings>,
  given: ReadonlyMap<string, WeightSettings>,
): ReadonlyMap<string, WeightSettings> {
  const over = [...given].map(([name, { frozen, rateFactor, decay }]): [string, WeightSettings] => {
    const under = own.get(name);
    return [
      name,
      {
        frozen: frozen || (under?.frozen ?? false),
        rateFactor: rateFactor * (under?.rateFactor ?? 1),
        decay: decay ?? under?.decay,
      },
    ];
  });
  return new Map([...own, ...over]);
}

/** What was given of the options that have defaults by model. */
function givenOf({ optimizer, rate, decay }: Options): Partial<FinetuneDefaults> {
  return {
    ...(optimizer !== undefined && { optimizer }),
    ...(rate !== undefined && { rate }),
    ...(decay !== undefined && { decay }),
  };
}

/** The model with batch normalization put back, by the first of the training samples. */
async function unfolded(
  model: Graph,
  data: Dataset,
  split: string,
  { runtime, signal, seed = 0, log = () => {} }: FinetuneContext,
  selected: (node: Node) => boolean,
): Promise<Graph> {
  const range = { split, batch: 32, limit: unfoldSamples, seed };
  const made = await unfoldBatchNorm(model, runtime, fittingFeeds(model, data, range), {
    selected,
    ...(signal && { signal }),
  });
  const count = (graph: Graph): number => graph.nodes.filter((node) => isNode(node, "BatchNormalization")).length;
  log(`batch normalization put back: ${count(made) - count(model)}`);
  return made;
}

/** How tokens are hidden, if that was asked for; which vocabulary they are of is not known yet. */
function maskingOf(sample: Batch, options: Options): TokenMasking | undefined {
  const { maskToken, maskShare } = options;
  if (maskToken === undefined) return undefined;
  const input = Object.keys(sample.inputs).find((name) => /^u?int/.test(dtypes[sample.inputs[name]!.dtype].kind));
  if (input === undefined) fail("train", "the model takes no token ids that could be hidden", "Leave out maskToken");
  return { input, maskToken, maskShare, vocabulary: maskToken + 1 };
}

async function firstBatch(data: Dataset, split: string, batch: number): Promise<Batch> {
  for await (const first of data.batches({ batch, limit: batch, split })) return first;
  return fail(data.name, `its split '${split}' holds no samples to train on`);
}
