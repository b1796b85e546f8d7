import { z } from "zod";
import { rangeMethods } from "../../analysis/ranges.ts";
import { recoveryOptions } from "../recovery.ts";
import { selectionOptions } from "../selection.ts";

const bits = [8, 7, 6, 5, 4, 3, 2].map((n) => z.literal(n));
const weightWidth = z.union([...bits, z.literal("ternary"), z.literal("binary")]);

/** Options of quantize-aware-train. */
export const options = z.object({
  ...selectionOptions,
  weightBits: weightWidth.default(8).describe("bits a weight: 8 to 2, 'ternary' (-1, 0, 1) or 'binary' (-1, 1)"),
  activationBits: z
    .union([...bits, z.literal(32)])
    .default(8)
    .describe("bits of what layers read: 8 to 2, or 32 to leave activations in floating point"),
  endBits: z
    .union(bits)
    .default(8)
    .describe("bits of the first and last layer and of what they read, where the others have fewer"),
  layerBits: z
    .record(z.string(), weightWidth)
    .default({})
    .describe(
      "bits of the weights of what a pattern fits, as 'features*=4,head=ternary', first and last layers too; the last fit counts",
    ),
  layerActivationBits: z
    .record(z.string(), z.union(bits))
    .default({})
    .describe("bits of what these layers read, likewise; what several layers read has the most that any of them wants"),
  steps: z
    .enum(["lsq", "lsq+", "pact", "fixed"])
    .default("lsq")
    .describe(
      "what of the grids is learned: step sizes (lsq); offsets of activations too (lsq+); of activations the value they are clipped at (pact); nothing beyond calibration (fixed)",
    ),
  ternaryScale: z
    .enum(["lsq", "absmean"])
    .default("lsq")
    .describe("scale of ternary weights: learned, or always their mean magnitude"),
  range: z.enum(rangeMethods).default("mse").describe("how ranges of activations are calibrated, to start from"),
  percentile: z.number().min(50).max(100).default(99.999).describe("share of elements kept by range percentile"),
  weightRange: z
    .enum(["mse", "lsq", "max"])
    .default("mse")
    .describe("step sizes of weights to start from: least squared error, 2 mean|w| / sqrt(levels), or all fit"),
  perChannel: z.boolean().default(true).describe("one scale an output channel of a weight instead of one in all"),
  samples: z.number().int().min(1).default(128).describe("calibration samples"),
  target: z.enum(["latency", "size"]).default("latency").describe("leave float what would not get faster, or nothing"),
  depthwise: z
    .enum(["auto", "quantize", "float"])
    .default("auto")
    .describe("depthwise convolutions; auto: quantized where weights have a scale a channel, else they would collapse"),
  scaleRate: z.number().min(0).default(1).describe("factor on the learning rate of step sizes and offsets"),
  foldBatchNorm: z
    .boolean()
    .default(false)
    .describe("fold batch normalization before training, not after it; always where a weight has one scale"),
  freezeBatchNorm: z
    .number()
    .min(0)
    .max(1)
    .default(0.2)
    .describe("share of the training, its last, in which batch normalization keeps its statistics"),
  keepClusters: z
    .enum(["auto", "never"])
    .default("auto")
    .describe("weights whose elements share few values go on sharing them, and have one scale"),
  format: z
    .enum(["auto", "qdq", "packed", "storage", "dequantize", "matmulnbits"])
    .default("auto")
    .describe(
      "qdq: 8-bit integers for integer kernels, whatever the bits; packed: the same with weights stored in 4 bits, which computes in float; storage, dequantize, matmulnbits: forms of quantize-weights, for float activations; auto: qdq, or storage",
    ),
  ...recoveryOptions.shape,
});

/** Options with their defaults filled in. */
export type Options = z.output<typeof options>;

/** Bits that a weight takes, as a number. */
export function bitsOf(width: Options["weightBits"]): number {
  return width === "ternary" ? 2 : width === "binary" ? 1 : (width as number);
}
