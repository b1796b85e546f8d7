import { z } from "zod";
import { fail } from "../errors.ts";

/** Options of pruning while training, with the meaning that TensorFlow Model Optimization gives them. */
export const pruningScheduleOptions = {
  pruningSchedule: z
    .enum(["one-shot", "constant", "polynomial"])
    .default("one-shot")
    .describe(
      "when weights go: before training; while it runs, all of them from the begin step on (constant); or ever more, from the initial sparsity to the full one (polynomial)",
    ),
  initialSparsity: z.number().min(0).lt(1).default(0).describe("sparsity at the begin step (polynomial)"),
  beginStep: z.number().int().min(0).default(0).describe("first step of training at which weights go"),
  endStep: z
    .number()
    .int()
    .min(-1)
    .optional()
    .describe("last such step; -1: no end (constant); if absent three quarters of the run (polynomial), or no end"),
  frequency: z
    .number()
    .int()
    .min(1)
    .optional()
    .describe("steps from one pruning to the next; if absent 100, fewer in runs of less than 2000 steps"),
  pruningPower: z.number().positive().default(3).describe("exponent of the polynomial"),
} as const;

const schema = z.object(pruningScheduleOptions);

/** Options of a pruning schedule, defaults filled in. */
export type PruningScheduleOptions = z.output<typeof schema>;

/** How sparsity rises over the steps of a run, which are counted from 0. */
export interface PruningSchedule {
  /** Whether weights are chosen anew before a step. */
  prunes(step: number): boolean;
  /** The sparsity that is wanted at a step. */
  sparsityAt(step: number): number;
  /** The step from which no more weights go. */
  readonly settled: number;
}

/** Prunings in a run that says nothing of its frequency, unless they would be more than 100 steps apart. */
const usualPrunings = 20;

/** Share of a run in which sparsity rises, where no end is given: the rest is for recovering. */
const risingShare = 0.75;

/**
 * A pruning schedule. Polynomial (Zhu and Gupta 2017): s(t) = f + (i - f) (1 - p)^power, where p is the share of the way
 * from the begin to the end step that is done, held to [0, 1]. Weights are chosen at begin, begin + frequency, ..., up
 * to the end step, itself included.
 *
 * @param sparsity the final one, f
 * @param steps of the run
 * @throws PareError where the end does not lie behind the beginning, or the run before it
 */
export function pruningSchedule(options: PruningScheduleOptions, sparsity: number, steps: number): PruningSchedule {
  const { pruningSchedule: kind, initialSparsity, beginStep, pruningPower } = options;
  const frequency = options.frequency ?? Math.max(1, Math.min(100, Math.floor(steps / usualPrunings)));
  if (beginStep >= steps) {
    fail("pruning schedule", `begins at step ${beginStep} of ${steps}`, "Lower --begin-step, or train for more epochs");
  }
  const rising = Math.max(0, Math.floor(risingShare * steps) - beginStep);
  const usualEnd = kind === "constant" ? -1 : beginStep + rising - (rising % frequency);
  const end = options.endStep ?? usualEnd;
  if (end < beginStep && (end >= 0 || kind === "polynomial")) {
    fail("pruning schedule", `begins at step ${beginStep}, got end step ${end}`, "Give an --end-step behind it");
  }
  const last = end < 0 ? Number.POSITIVE_INFINITY : end;
  return {
    prunes: (step) => step >= beginStep && step <= last && (step - beginStep) % frequency === 0,
    sparsityAt(step) {
      if (kind === "constant") return sparsity;
      const done = end === beginStep ? Number(step >= end) : (step - beginStep) / (end - beginStep);
      return sparsity + (initialSparsity - sparsity) * (1 - Math.min(1, Math.max(0, done))) ** pruningPower;
    },
    settled: kind === "constant" ? beginStep : end - ((end - beginStep) % frequency),
  };
}
