import { z } from "zod";
import type { Dataset } from "../data/dataset.ts";
import { withValidation } from "../data/hold-out.ts";
import { fail } from "../errors.ts";
import { graphDigest } from "../formats/digest.ts";
import type { Graph } from "../graph/graph.ts";
import { within } from "../training/checkpoint.ts";
import type { Constraint } from "../training/constraint.ts";
import { type FinetuneContext, finetune, finetuneOptions } from "../training/finetune.ts";
import type { EpochRecord } from "../training/progress.ts";
import type { TrainResult } from "../training/train.ts";
import type { Context } from "./technique.ts";

/**
 * Options of techniques that train: those of {@link finetune}, but no training unless epochs are asked for, and the
 * model as it was before the technique as a teacher.
 */
export const recoveryOptions = z.object({
  ...finetuneOptions.omit({ samples: true }).shape,
  epochs: z
    .number()
    .min(0)
    .default(0)
    .describe("passes over the training data to win back what was lost; fractions are allowed, 0 is no training"),
  distill: z
    .boolean()
    .default(true)
    .describe("learn from the soft targets of the model as it was, beside the labels or in place of missing ones"),
});

/** Options of {@link recover}, defaults filled in. */
export type RecoveryOptions = z.output<typeof recoveryOptions>;

/** Whether a step of a technique with these options trains: after its change, or before it under a penalty. */
export function trains({ epochs = 0, regularize = "none" }: Readonly<Record<string, unknown>>): boolean {
  return Number(epochs) > 0 || regularize !== "none";
}

/** What {@link recover} needs beside the model and its options. */
export interface RecoveryContext extends Pick<Context, "runtime" | "random" | "signal" | "log" | "progress"> {
  /** Samples to score with: those to learn from too, where there are no others. */
  readonly data?: Dataset;
  readonly training?: Context["training"];
  /** The model before the technique: the teacher, where there is no other. */
  readonly original: Graph;
  /** What acts on the weights before the first step and after every update. */
  readonly constraints?: readonly Constraint[];
  /** Weights that learn otherwise than the rest, where the options say nothing else of them. */
  readonly settings?: FinetuneContext["settings"];
  /** The part of the schedule of the learning rate that this training is, as shares of it; the whole if absent. */
  readonly part?: FinetuneContext["part"];
  /** Sets this training apart from others of the same step: its checkpoints are kept under this name. */
  readonly name?: string;
}

/**
 * Trains a model that a technique has changed, to win back what was lost: {@link finetune} with the model before as a
 * teacher. Continues from its last checkpoint where there is a store.
 *
 * @throws PareError where there is no data, or it does not fit the model
 */
export async function recover(graph: Graph, options: RecoveryOptions, context: RecoveryContext): Promise<TrainResult> {
  const { runtime, random, signal, log, progress, training, original, constraints, settings, part } = context;
  const { name = "training" } = context;
  const data = training?.data ?? context.data ?? fail("retraining", "needs data", "Give --data, or --epochs 0");
  // a technique's own options stay out: its samples are not those of an epoch
  const { distill, ...rest } = recoveryOptions.parse(options);
  const store = training?.store && within(training.store, name);
  const teacher = distill ? (training?.teacher ?? original) : undefined;
  return finetune(graph, rest, {
    runtime,
    data,
    judgeStart: false,
    seed: random.fork(name).int(2 ** 31),
    signal,
    log,
    run: JSON.stringify([options, await graphDigest(graph), teacher ? await graphDigest(teacher) : ""]),
    progress: ({ step, steps, loss, samplesPerSecond }) =>
      progress(step, steps, "steps", `loss ${loss.toPrecision(3)}, ${samplesPerSecond.toFixed(0)} samples/s`),
    record(entry) {
      if (entry.kind === "epoch") log(epochLine(entry));
      training?.record?.({ ...entry, training: name });
    },
    ...(teacher && { teacher }),
    ...(constraints && { constraints }),
    ...(settings && { settings }),
    ...(part && { part }),
    ...(store && { store }),
  });
}

/** The context with one part of the training data held out: trainings of one step compare only on the same samples. */
export function withHeldOut(context: Context, { holdOut }: Pick<RecoveryOptions, "holdOut">): Context {
  const data = context.training?.data ?? context.data;
  if (!data) return context;
  const seed = context.random.fork("hold out").int(2 ** 31);
  const held = withValidation(data, data.splits[0]!, { share: holdOut, seed });
  return { ...context, training: { ...context.training, data: held } };
}

function epochLine({ epoch, loss, score, metric, seconds }: EpochRecord): string {
  const judged = score === undefined ? "" : `, ${metric} ${score.toPrecision(4)}`;
  return `epoch ${epoch}: loss ${loss.toPrecision(4)}${judged}, ${seconds.toFixed(1)} s`;
}
