import { z } from "zod";
import { selectionOptions } from "../selection.ts";

/** Options of quantize-weights. */
export const quantizeWeightsOptions = z.object({
  bits: z
    .union([z.literal(8), z.literal(4), z.literal(3), z.literal(2), z.literal("ternary"), z.literal("binary")])
    .default(4)
    .describe(
      "bits a weight: 8, 4, 3, 2, 'ternary' (-1, 0, 1) or 'binary' (-1, 1); below 3 most models need retraining",
    ),
  granularity: z
    .enum(["block", "channel", "tensor"])
    .default("block")
    .describe("what has a scale of its own: blocks along the axis summed over, output channels, or whole tensors"),
  block: z
    .union([z.literal(16), z.literal(32), z.literal(64), z.literal(128), z.literal(256)])
    .default(32)
    .describe("weights a block"),
  symmetric: z
    .boolean()
    .default(false)
    .describe("zero in the middle of the codes; otherwise every block has a zero point too, for less error"),
  method: z
    .enum(["search", "rtn", "hqq", "gptq"])
    .default("search")
    .describe(
      "how codes are found: least squared error over a search of scales; round to nearest on the range; half-quadratic (least |error|^0.7); gptq: as search, and the weights of an output make up for each other's errors on the data, which it needs",
    ),
  format: z
    .enum(["auto", "matmulnbits", "dequantize", "storage"])
    .default("auto")
    .describe(
      "matmulnbits: kernels that compute on packed weights (MatMulNBits, GatherBlockQuantized); dequantize: DequantizeLinear in front of the operator; storage: small file, unpacked to float when the model is loaded; auto: what suits the target",
    ),
  target: z
    .enum(["auto", "cpu", "wasm", "webgpu"])
    .default("auto")
    .describe("where the model will run, for format auto; auto: the provider of the runtime at hand"),
  accuracyLevel: z
    .union([z.literal(0), z.literal(1), z.literal(4)])
    .default(4)
    .describe(
      "MatMulNBits arithmetic: 4 rounds activations to int8 (fast), 1 computes in float32, 0 leaves the choice",
    ),
  embeddings: z.boolean().default(true).describe("quantize lookup tables (Gather) too"),
  convolutions: z.boolean().default(true).describe("quantize convolution kernels too"),
  simplify: z
    .boolean()
    .default(true)
    .describe("simplify first if weights stand behind nodes that compute them from constants"),
  minElements: z.number().int().min(0).default(1024).describe("leave weights with fewer elements in float"),
  samples: z
    .number()
    .int()
    .min(1)
    .default(128)
    .describe(
      "samples of the data, if there are any, that weigh the input channels by their mean square; gptq: all it sees",
    ),
  awq: z
    .boolean()
    .default(false)
    .describe(
      "scale the channels in front of weights first, so that rounding them changes the products least; outputs stay the same, needs data; goes with every method",
    ),
  damping: z.number().positive().default(0.01).describe("share of the mean added to the Hessian's diagonal (gptq)"),
  actOrder: z.boolean().default(false).describe("round the weights of the largest inputs first (gptq)"),
  passes: z
    .number()
    .int()
    .min(1)
    .default(16)
    .describe(
      "runs over the samples at most, unless memory asks for more; each shows the next layers what the coded ones before them give (gptq)",
    ),
  ...selectionOptions,
});

/** Options with defaults filled in. */
export type QuantizeWeightsOptions = z.output<typeof quantizeWeightsOptions>;
