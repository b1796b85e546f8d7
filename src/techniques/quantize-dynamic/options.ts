import { z } from "zod";
import { selectionOptions } from "../selection.ts";

/** Options of quantize-dynamic. */
export const quantizeDynamicOptions = z.object({
  perChannel: z.boolean().default(true).describe("a scale for each output channel instead of one for the whole weight"),
  portable: z
    .boolean()
    .default(false)
    .describe("7-bit weights, so that sums of products fit processors without VNNI (x86 before 2019) exactly"),
  conv: z
    .enum(["float", "integer", "storage"])
    .default("float")
    .describe(
      "convolutions: leave in float, compute in integers (ConvInteger: often slower than float), or store in 8 bits and unfold at load",
    ),
  recurrent: z
    .enum(["integer", "float", "storage"])
    .default("integer")
    .describe("LSTM layers likewise; GRU and RNN have no integer kernel and stay in float unless 'storage' is chosen"),
  tied: z
    .enum(["float", "integer"])
    .default("float")
    .describe(
      "an output layer that shares its weight with a lookup table: store in 8 bits and unfold at load, more exact, or compute in integers, faster and with less memory",
    ),
  embeddings: z.boolean().default(true).describe("store lookup tables (Gather) in 8 bits, one scale a row"),
  simplify: z
    .boolean()
    .default(true)
    .describe("simplify first if weights stand behind nodes that compute them from constants"),
  minElements: z.number().int().min(0).default(1024).describe("leave weights with fewer elements in float"),
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type QuantizeDynamicOptions = z.output<typeof quantizeDynamicOptions>;
