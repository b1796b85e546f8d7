import { z } from "zod";
import { selectionOptions } from "../selection.ts";

/** Options of smooth-activations. */
export const smoothActivationsOptions = z.object({
  alpha: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      "how much of the outliers goes into the weights, from 0 (none) to 1 (all); if absent each layer's own, by the error of its products in 8 bits",
    ),
  samples: z
    .number()
    .int()
    .min(1)
    .default(128)
    .describe("samples of the data that the ranges of channels are found on"),
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type SmoothActivationsOptions = z.output<typeof smoothActivationsOptions>;
