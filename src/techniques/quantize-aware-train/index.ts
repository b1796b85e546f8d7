import { fail } from "../../errors.ts";
import { kindOf, neverInteger, obstacle, weightOf } from "../quantize-static/rules.ts";
import { technique } from "../technique.ts";
import { type Options, options } from "./options.ts";
import { outcomeOf, withData } from "./outcome.ts";
import { report } from "./report.ts";

const who = "quantize-aware-train";

/**
 * Trains a model with the rounding of its integers in it, and hands out these integers:
 * `Conv(x, w, b) -> Conv(fake(x), fake(w), b)`, trained, `-> DQ(Q(Conv(DQ(Q(x)), DQ(wq), DQ(bq))))`, with
 * fake(x) = s round(clamp(x / s)). Gradients pass rounding as if it were not there, and steps s are learned too.
 * Esser et al., "Learned Step Size Quantization", 2020 (LSQ); Bhalgat et al. 2020 (LSQ+); Choi et al. 2018 (PACT);
 * Krishnamoorthi 2018 (batch normalization).
 *
 * What is an integer, and where, is planned by quantize-static; without activations by quantize-weights.
 */
export const quantizeAwareTrain = technique({
  name: who,
  summary: "Train with the rounding to 8 to 1 bits in the model, step sizes learned, and write the integers.",
  options,
  data: "required",
  identity: { exclude: ["*"] },
  applies: (node, graph) =>
    kindOf(node, graph) === "compute"
      ? (obstacle(node, graph) ?? (weightOf(node, graph) ? true : "both of its operands are activations"))
      : (neverInteger(node) ?? "it does not multiply with a weight"),
  async apply(input, options, given) {
    checkOptions(options);
    const outcome = await outcomeOf(input, options, given);
    if (!outcome) return input;
    await report(outcome, options, withData(given));
    return outcome.written;
  },
});

function checkOptions({ format, activationBits, weightBits, layerBits, layerActivationBits, steps }: Options): void {
  const weightsOnly = activationBits === 32;
  const forWeights = format === "storage" || format === "dequantize" || format === "matmulnbits";
  if (forWeights && !weightsOnly)
    fail(
      who,
      `format ${format} computes in float, and activations have ${activationBits} bits`,
      "Use --activation-bits 32, or format qdq",
    );
  if ((format === "qdq" || format === "packed") && weightsOnly)
    fail(who, `format ${format} has integer activations`, "Use format storage, or fewer --activation-bits");
  if (weightsOnly && (steps === "lsq+" || steps === "pact"))
    fail(who, `steps ${steps} are learned of activations, and these stay in float`, "Use --steps lsq");
  if (weightsOnly && Object.keys(layerActivationBits).length > 0)
    fail(
      who,
      "activations of single layers have bits, and all activations stay in float",
      "Use fewer --activation-bits",
    );
  if (format === "matmulnbits" && [weightBits, ...Object.values(layerBits)].includes(3))
    fail(who, "nothing computes on 3-bit weights", "Use format storage, or 4 bits");
}
