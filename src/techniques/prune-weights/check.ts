import { fail } from "../../errors.ts";
import { kebabCase } from "../../options.ts";
import type { Context } from "../technique.ts";
import { type PruneWeightsOptions, pruneWeightsOptions } from "./options.ts";
import type { Pattern } from "./patterns.ts";
import { scoreNeeds } from "./scores.ts";

const who = "prune-weights";

/** Scores that can be computed between the steps of training. */
const inTraining = ["magnitude", "movement", "random"] as const;

/** A score that can be computed between the steps of training. */
export type TrainingScore = (typeof inTraining)[number];

/** Whether a score can be computed between the steps of training. */
export function scoresInTraining(score: PruneWeightsOptions["score"]): score is TrainingScore {
  return (inTraining as readonly string[]).includes(score);
}

/**
 * Refuses options that do not go together.
 *
 * @throws PareError naming the option
 */
export function checkOptions(options: PruneWeightsOptions, pattern: Pattern, { data }: Context): void {
  const { score, density, pruningSchedule, rounds, rewind, epochs, initialSparsity, sparsity } = options;
  const gradual = pruningSchedule !== "one-shot";
  if (!data && density === "sensitivity")
    fail(who, "density sensitivity needs data", "Give --data, or another --density");
  const needs = gradual ? "nothing" : scoreNeeds(score);
  if (!data && needs !== "nothing") {
    fail(
      who,
      `score ${score} needs ${needs === "labels" ? "data with labels" : "data"}`,
      "Give --data, or --score magnitude",
    );
  }
  if (density !== "uniform" && pattern.kind === "n:m") {
    fail(who, `pattern ${options.pattern} gives every layer the same sparsity`, `Leave out --density ${density}`);
  }
  checkSchedule(options);
  if (epochs === 0) {
    const idle = gradual ? `--pruning-schedule ${pruningSchedule}` : rounds > 1 ? `--rounds ${rounds}` : undefined;
    const needing = idle ?? (rewind === undefined ? undefined : `--rewind ${rewind}`);
    if (needing) fail(who, `${needing} prunes while training, but epochs is 0`, "Give --epochs and --data");
  }
  if (!gradual) return;
  if (!scoresInTraining(score)) {
    fail(who, `score ${score} can't be computed while training`, `Use ${inTraining.join(", ")}, or --rounds`);
  }
  if (rounds > 1 || rewind !== undefined) {
    fail(who, `--pruning-schedule ${pruningSchedule} does not go with --rounds or --rewind`, "Leave out one of them");
  }
  if (pruningSchedule === "polynomial" && pattern.kind === "n:m") {
    fail(who, `pattern ${options.pattern} has one sparsity`, "Use --pruning-schedule constant");
  }
  if (pruningSchedule === "polynomial" && initialSparsity > sparsity) {
    fail(
      who,
      `the initial sparsity ${initialSparsity} is above the final one, ${sparsity}`,
      "Lower --initial-sparsity",
    );
  }
}

const risingOnly = ["polynomial"] as const;
const trainingOnly = ["constant", "polynomial"] as const;

/** The schedules under which an option does something. */
const schedulesOf = {
  initialSparsity: risingOnly,
  beginStep: trainingOnly,
  endStep: trainingOnly,
  frequency: trainingOnly,
  pruningPower: risingOnly,
} as const;

/** Refuses options of a schedule that is not chosen. */
function checkSchedule(options: PruneWeightsOptions): void {
  const usual = pruneWeightsOptions.parse({});
  const { pruningSchedule } = options;
  for (const key of Object.keys(schedulesOf) as (keyof typeof schedulesOf)[]) {
    const schedules: readonly string[] = schedulesOf[key];
    if (schedules.includes(pruningSchedule) || options[key] === usual[key]) continue;
    const what = `--${kebabCase(key)} does nothing with --pruning-schedule ${pruningSchedule}`;
    fail(who, what, `Leave it out, or give --pruning-schedule ${schedules.join(" or ")}`);
  }
}
