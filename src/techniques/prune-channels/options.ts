import { z } from "zod";
import { allocations, targets } from "../../pruning/allocation.ts";
import { importances, normalizations } from "../../pruning/importance.ts";
import { recoveryOptions } from "../recovery.ts";
import { selectionOptions } from "../selection.ts";

/** Options of prune-channels. */
export const pruneChannelsOptions = z.object({
  ratio: z.number().min(0).lt(1).default(0.3).describe("share to remove"),
  of: z
    .enum(targets)
    .default("macs")
    .describe(
      "what the ratio is a share of: multiply-accumulates or parameters of the whole model; measured milliseconds of its layers; or units of each group",
    ),
  importance: z
    .enum(importances)
    .default("l2")
    .describe(
      "what goes first: small weights (l1, l2); small scales of batch normalization; filters near the others (fpgm); small or steady activations (activation, variance); small effect on the outputs by first or second derivatives (taylor, hessian), or on the next layers when the others make up for it (reconstruction), on the data; any",
    ),
  normalization: z
    .enum(normalizations)
    .default("auto")
    .describe(
      "what a group's scores are divided by before groups are compared (allocation global, efficient, latency); auto: none where scores are of effects, else mean",
    ),
  allocation: z
    .enum(allocations)
    .default("uniform")
    .describe(
      "how groups share the cut: alike; by one threshold on scores for all; by one threshold on scores for what a unit saves; by scores for the milliseconds saved, as measured at each width",
    ),
  groupRatio: z
    .record(z.string(), z.number().min(0).lt(1))
    .default({})
    .describe("share of units of the groups that a pattern fits, as 'layer1*=0.5,*fc1*=0'; the last fit counts"),
  keep: z.number().min(0).max(1).default(0.1).describe("share of its units that every group keeps; one at least"),
  roundTo: z
    .number()
    .int()
    .min(1)
    .default(8)
    .describe(
      "round widths to multiples of this, where a group has at least four times as many units and the target is not missed by much; allocation latency takes eighths, in whole blocks of channels first",
    ),
  repair: z
    .enum(["auto", "none", "mean", "regression", "refit", "batch-norm"])
    .default("auto")
    .describe(
      "without training, on the data: put the means of what was cut into biases (mean), or what can be told of it from what is left into weights and biases (regression); fit layer after layer to what it gave before (refit); measure batch normalization's statistics anew; auto: refit",
    ),
  samples: z.number().int().min(1).default(256).describe("samples of the data to score and repair with"),
  regularize: z
    .enum(["none", "group-lasso", "growing"])
    .default("none")
    .describe(
      "train before the cut: until whole units are near zero (group-lasso), or while those to be cut shrink (growing)",
    ),
  regularizeStrength: z
    .number()
    .positive()
    .optional()
    .describe("weight of that penalty; 0.001 (group-lasso) or 10 (growing, at its end) if absent"),
  regularizeEpochs: z.number().positive().default(3).describe("passes over the training data before the cut"),
  ...recoveryOptions.shape,
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type PruneChannelsOptions = z.output<typeof pruneChannelsOptions>;
