import { z } from "zod";
import { pruningScheduleOptions } from "../../pruning/schedules.ts";
import { recoveryOptions } from "../recovery.ts";
import { selectionOptions } from "../selection.ts";

/** Options of prune-weights. */
export const pruneWeightsOptions = z.object({
  sparsity: z
    .number()
    .min(0)
    .lt(1)
    .default(0.5)
    .describe("share of the weights that become zero, in the end; N:M patterns have their own"),
  score: z
    .enum(["magnitude", "wanda", "sparsegpt", "taylor", "snip", "movement", "random"])
    .default("magnitude")
    .describe(
      "what goes first: small weights; small weight x norm of its input (wanda); least error after the other weights made up for it (sparsegpt); small weight^2 x mean gradient^2 (taylor) or |mean gradient x weight| (snip); weights that move towards zero (movement); any",
    ),
  density: z
    .enum(["uniform", "global", "lamp", "erdos-renyi", "sensitivity"])
    .default("uniform")
    .describe(
      "how zeros are shared out among layers: alike; by one threshold for all; by one threshold on layer-adaptive scores; by the sizes of kernels; by what pruning each layer alone does to the outputs on the data",
    ),
  pattern: z
    .string()
    .regex(/^(unstructured|\d+:\d+|\d+x\d+)$/, "must be 'unstructured', N:M as in 2:4, or blocks as in 4x1")
    .default("unstructured")
    .describe("unstructured; N:M: N of M neighbouring inputs stay; RxC: blocks of R outputs by C inputs go together"),
  layerSparsity: z
    .record(z.string(), z.number().min(0).lt(1))
    .default({})
    .describe(
      "sparsity of what a pattern fits, as 'features*=0.5,head=0.9', first and last layers too; the last fit counts",
    ),
  ends: z
    .enum(["auto", "keep", "prune"])
    .default("auto")
    .describe("first and last layers; auto: keep those that hold at most 5 % of the weights"),
  embeddings: z.boolean().default(false).describe("prune lookup tables (Gather) too"),
  simplify: z
    .boolean()
    .default(true)
    .describe("simplify first if weights stand behind nodes that compute them from constants"),
  minElements: z.number().int().min(0).default(1024).describe("leave weights with fewer elements dense"),
  samples: z.number().int().min(1).default(128).describe("samples of the data that the scores are computed on"),
  damping: z
    .number()
    .positive()
    .default(0.01)
    .describe("share of the mean added to the Hessian's diagonal (sparsegpt, taylor)"),
  ...pruningScheduleOptions,
  rounds: z
    .number()
    .int()
    .min(1)
    .default(1)
    .describe("prune so many times, a like share of what is left each time, and train after each"),
  rewind: z
    .number()
    .int()
    .min(0)
    .optional()
    .describe(
      "train the model first, and begin every round's training with the weights that it had after so many steps; 0: those it came with",
    ),
  ...recoveryOptions.shape,
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type PruneWeightsOptions = z.output<typeof pruneWeightsOptions>;
