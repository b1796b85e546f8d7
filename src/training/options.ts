import { z } from "zod";
import { augmentOptions } from "../data/augment.ts";
import { maskTokenOptions } from "../data/mask-tokens.ts";
import { optimizerOptions } from "./optimizers.ts";
import { scheduleOptions } from "./schedules.ts";

/** Options of the loop itself. */
export const loopOptions = z.object({
  epochs: z.number().positive().describe("passes over the training data; fractions are allowed").default(10),
  batch: z.number().int().positive().describe("samples a step").default(128),
  clipNorm: z.number().positive().optional().describe("largest norm of all gradients together"),
  accumulate: z.number().int().positive().default(1).describe("batches summed up for one update"),
  average: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe("share of the old that an average of the weights keeps at an update; the average is what is saved"),
  patience: z.number().int().positive().optional().describe("epochs without a better score after which to stop"),
  samples: z
    .number()
    .int()
    .positive()
    .optional()
    .describe("training samples an epoch, drawn anew for each; all if absent"),
});

/** All options of training, spread from the parts that understand them. */
export const trainOptions = z.object({
  ...loopOptions.shape,
  ...optimizerOptions.shape,
  ...scheduleOptions.shape,
  ...augmentOptions.shape,
  ...maskTokenOptions.shape,
});

/** Options of training, defaults filled in. */
export type TrainOptions = z.output<typeof trainOptions>;
