import { z } from "zod";
import { fail } from "../errors.ts";

/** Options of a pruning schedule, with the meaning and the defaults that TensorFlow Model Optimization gives them. */
export const pruningScheduleOptions = z.object({
  pruningSchedule: z
    .enum(["constant", "polynomial"])
    .default("polynomial")
    .describe("sparsity from the first pruning step on: constant, or rising from the initial to the final one"),
  initialSparsity: z.number().min(0).lt(1).default(0).describe("sparsity at the begin step (polynomial)"),
  finalSparsity: z
    .number()
    .min(0)
    .lt(1)
    .default(0.9)
    .describe("sparsity at the end step; the constant schedule's only one"),
  beginStep: z.number().int().min(0).default(0).describe("first step at which weights are pruned"),
  endStep: z.number().int().min(-1).default(-1).describe("last such step; -1: no end (constant only)"),
  frequency: z.number().int().min(1).default(100).describe("steps between prunings"),
  power: z.number().positive().default(3).describe("exponent of the polynomial"),
});

/** Options of a pruning schedule, defaults filled in. */
export type PruningScheduleOptions = z.output<typeof pruningScheduleOptions>;

/** What a schedule says of a training step, steps counted from 0: whether masks are made anew, and for which sparsity. */
export type PruningSchedule = (step: number) => { readonly prune: boolean; readonly sparsity: number };

/**
 * A pruning schedule. Polynomial (Zhu and Gupta 2017): s(t) = f + (i - f) (1 - p)^power, where p is the share of the way
 * from the begin to the end step that is done, held to [0, 1]. Masks are made anew at begin, begin + frequency, ..., up
 * to the end step, itself included.
 *
 * @throws PareError where the end does not lie behind the beginning
 */
export function pruningSchedule(options: PruningScheduleOptions): PruningSchedule {
  const { pruningSchedule: kind, initialSparsity, finalSparsity, beginStep, endStep, frequency, power } = options;
  if (endStep < beginStep && (endStep >= 0 || kind === "polynomial")) {
    fail("pruning schedule", `begins at step ${beginStep}, got end step ${endStep}`, "Give an end step behind it");
  }
  const ends = endStep < 0 ? Number.POSITIVE_INFINITY : endStep;
  const sparsityAt = (step: number): number => {
    if (kind === "constant") return finalSparsity;
    const done = endStep === beginStep ? Number(step >= endStep) : (step - beginStep) / (endStep - beginStep);
    return finalSparsity + (initialSparsity - finalSparsity) * (1 - Math.min(1, Math.max(0, done))) ** power;
  };
  return (step) => ({
    prune: step >= beginStep && step <= ends && (step - beginStep) % frequency === 0,
    sparsity: sparsityAt(step),
  });
}
