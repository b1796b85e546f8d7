import { z } from "zod";
import { selectionOptions } from "../selection.ts";

/** Options of equalize-layers. */
export const equalizeLayersOptions = z.object({
  clips: z
    .enum(["keep", "min"])
    .default("keep")
    .describe(
      "a Clip from 0 (Relu6) between two layers; keep: they stay as they are, since a scaled channel would be clipped elsewhere; min: each channel gets a bound of its own, by a Relu and a Min, which integer kernels do not take in",
    ),
  mostScale: z
    .number()
    .min(1)
    .default(32)
    .describe("no channel is multiplied or divided by more: what is far beyond is nearly dead"),
  simplify: z.boolean().default(true).describe("simplify first: batch normalization must be folded"),
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type EqualizeLayersOptions = z.output<typeof equalizeLayersOptions>;
