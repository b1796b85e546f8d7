import { z } from "zod";
import { rangeMethods } from "../../analysis/ranges.ts";
import { selectionOptions } from "../selection.ts";

const weightWidth = z.union([8, 6, 5, 4, 3, 2].map((bits) => z.literal(bits)));
const activationWidth = z.union([8, 6, 4].map((bits) => z.literal(bits)));

/** Options of quantize-static. */
export const options = z.object({
  ...selectionOptions,
  format: z.enum(["qdq", "qoperator"]).default("qdq").describe("qdq (portable) or qoperator (for old runtimes)"),
  activationType: z.enum(["uint8", "int8", "uint16", "int16"]).default("uint8").describe("type of activations"),
  weightType: z.enum(["int8", "uint8"]).default("int8").describe("type of weights"),
  weightBits: weightWidth
    .default(8)
    .describe("integers of a weight: 2 to the power of this; below 8 accuracy needs a rounding that is learned"),
  activationBits: activationWidth
    .default(8)
    .describe(
      "integers of an activation; below 8 they stay bytes, so that kernels still run, and are bounded by a Clip",
    ),
  layerBits: z
    .record(z.string(), weightWidth)
    .default({})
    .describe(
      "bits of the weights of what a pattern fits, as 'features*=4,head=8', first and last layers too; the last fit counts",
    ),
  layerActivationBits: z
    .record(z.string(), activationWidth)
    .default({})
    .describe("bits of what these layers read, likewise; what several layers read has the most that any of them wants"),
  keepEnds: z
    .boolean()
    .default(true)
    .describe("8 bits for weights and activations of the first and the last layer, where others have fewer"),
  weightScales: z
    .enum(["auto", "min-max", "mse", "weighted"])
    .default("auto")
    .describe(
      "how scales of weights are found: covering all, least squared error, or the same weighed by the inputs' mean squares; auto: mse where any weight has fewer than 8 bits, else min-max",
    ),
  rounding: z
    .enum(["nearest", "adaround", "block"])
    .default("nearest")
    .describe(
      "how weights are rounded: to nearest, or the way that was learned to change outputs least, layer by layer (adaround) or block by block with the steps of activations (block)",
    ),
  roundingSteps: z.number().int().min(1).default(1000).describe("steps of learning for each layer or block"),
  roundingSamples: z.number().int().min(1).default(256).describe("samples to learn the rounding from"),
  roundingRate: z.number().positive().default(0.01).describe("learning rate of the rounding"),
  roundingPenalty: z
    .number()
    .min(0)
    .default(1)
    .describe("strength that forces weights to either side in the end, against the error of rounding to nearest"),
  roundingDrop: z
    .boolean()
    .default(true)
    .describe(
      "with blocks: quantize each activation in half of the steps only, so that the rounding suits data not seen",
    ),
  packed: z
    .boolean()
    .default(false)
    .describe(
      "store weights of 4 bits or fewer as int4 or int2 (operator set 21 or 25), unpacked when the model is loaded",
    ),
  perChannel: z.boolean().default(true).describe("one scale an output channel of a weight instead of one in all"),
  symmetricActivations: z.boolean().default(false).describe("zero in the middle of the activations' integers"),
  symmetricWeights: z.boolean().default(true).describe("zero in the middle of the weights' integers"),
  portable: z.boolean().default(false).describe("7-bit weights: exact on processors without VNNI too"),
  portableLayers: z
    .enum(["all", "saturating"])
    .default("all")
    .describe(
      "with portable: 7 bits for all weights, which is exact whatever the data, or only where sums of two products come near the end of 16 bits on the samples",
    ),
  method: z
    .enum(["auto", ...rangeMethods])
    .default("auto")
    .describe("how activation ranges are chosen; auto tries all and keeps the one with the least output error"),
  percentile: z.number().min(50).max(100).default(99.999).describe("share of elements kept by method percentile"),
  samples: z.number().int().min(1).default(128).describe("calibration samples"),
  target: z.enum(["latency", "size"]).default("latency").describe("leave float what would not get faster, or nothing"),
  depthwise: z
    .enum(["auto", "quantize", "float"])
    .default("auto")
    .describe("depthwise convolutions; auto: quantized where weights have a scale a channel, else they would collapse"),
  activationProducts: z.boolean().default(false).describe("quantize products of two activations (attention) as well"),
  biasCorrection: z.boolean().default(true).describe("correct biases for the rounding of weights, where that helps"),
  equalize: z.boolean().default(true).describe("equalize channel ranges between convolutions, where that helps"),
  protect: z
    .boolean()
    .default(true)
    .describe(
      "leave the few layers float that make most of the output error, where it is large: up to a tenth of the work, and where outputs would hardly be the model's (below 20 dB) whatever they cost",
    ),
  simplify: z.boolean().default(true).describe("simplify first: batch normalization must be folded"),
});

/** Options with their defaults filled in. */
export type Options = ReturnType<typeof options.parse>;

/** The fewest bits that any weight may get. */
export function narrowestWeight({ weightBits, layerBits }: Options): number {
  return Math.min(weightBits, ...Object.values(layerBits));
}

/** The fewest bits that any activation may get. */
export function narrowestActivation({ activationBits, layerActivationBits }: Options): number {
  return Math.min(activationBits, ...Object.values(layerActivationBits));
}
