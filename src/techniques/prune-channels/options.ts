import { z } from "zod";
import { importances, normalizations } from "../../pruning/importance.ts";
import { selectionOptions } from "../selection.ts";

/** Options of prune-channels. */
export const pruneChannelsOptions = z.object({
  ratio: z.number().min(0).lt(1).default(0.3).describe("share to remove"),
  of: z
    .enum(["macs", "parameters", "units"])
    .default("macs")
    .describe(
      "what the ratio is a share of: multiply-accumulates or parameters of the whole model, or units of a group",
    ),
  importance: z
    .enum(importances)
    .default("l2")
    .describe(
      "what goes first: small weights (l1, l2); small scales of batch normalization; filters near the others (fpgm); small or steady activations (activation, variance) and small effect on the loss (taylor) on the data; any",
    ),
  normalization: z
    .enum(normalizations)
    .default("mean")
    .describe("what a group's scores are divided by before groups are compared (allocation global, efficient)"),
  allocation: z
    .enum(["uniform", "global", "efficient"])
    .default("uniform")
    .describe(
      "how groups share the cut: alike; by one threshold on scores for all; by one threshold on scores for what a unit saves",
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
    .describe("round widths down to multiples of this, where a group has at least four times as many units"),
  repair: z
    .enum(["auto", "none", "mean", "regression", "batch-norm"])
    .default("auto")
    .describe(
      "without training, on the data: put the means of what was cut into biases (mean), or what can be told of it from what is left into weights and biases (regression); measure batch normalization's statistics anew; auto: regression, then batch-norm",
    ),
  samples: z.number().int().min(1).default(256).describe("samples of the data to score and repair with"),
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type PruneChannelsOptions = z.output<typeof pruneChannelsOptions>;
