import type { Technique } from "../techniques/technique.ts";

/** A technique's command: what the help says, and the technique, imported alone and only when asked for. */
interface TechniqueRow {
  readonly summary: string;
  load(): Promise<Technique>;
}

/**
 * Every technique by name. Summaries are repeated from the declarations so that `pare --help` need not import them; a
 * test holds both equal.
 */
export const techniqueRows: Readonly<Record<string, TechniqueRow>> = {
  simplify: {
    summary: "Fold, merge and remove what changes no result: constants, batch normalization, dead code, duplicates.",
    load: async () => (await import("../techniques/simplify/index.ts")).simplify as Technique,
  },
  "prune-weights": {
    summary: "Set the least important weights to zero: smaller once compressed, no faster on this runtime.",
    load: async () => (await import("../techniques/prune-weights/index.ts")).pruneWeights as Technique,
  },
  "prune-channels": {
    summary: "Remove whole channels, neurons and heads, least important first: smaller and faster everywhere.",
    load: async () => (await import("../techniques/prune-channels/index.ts")).pruneChannels as Technique,
  },
  "prune-layers": {
    summary: "Remove whole residual blocks, those first that matter least.",
    load: async () => (await import("../techniques/prune-layers/index.ts")).pruneLayers as Technique,
  },
  "rotate-residual": {
    summary: "Spread outliers of a transformer's residual stream over its channels by a rotation; changes no result.",
    load: async () => (await import("../techniques/rotate-residual/index.ts")).rotateResidual as Technique,
  },
  "smooth-activations": {
    summary: "Move outliers of activations into the weights before 8-bit quantization; changes no result.",
    load: async () => (await import("../techniques/smooth-activations/index.ts")).smoothActivations as Technique,
  },
  "equalize-layers": {
    summary: "Even out channels between layers before quantization, without data; changes no result.",
    load: async () => (await import("../techniques/equalize-layers/index.ts")).equalizeLayers as Technique,
  },
  "quantize-dynamic": {
    summary: "Compute matrix products in 8-bit integers, activations rounded at run time; needs no data.",
    load: async () => (await import("../techniques/quantize-dynamic/index.ts")).quantizeDynamic as Technique,
  },
  "quantize-static": {
    summary: "Run convolutions and matrix products on 8-bit integers, with activation ranges found on sample data.",
    load: async () => (await import("../techniques/quantize-static/index.ts")).quantizeStatic as Technique,
  },
  "quantize-weights": {
    summary: "Store weights in 8, 4, 3, 2 bits, ternary or binary; activations stay in floating point.",
    load: async () => (await import("../techniques/quantize-weights/index.ts")).quantizeWeights as Technique,
  },
  "quantize-aware-train": {
    summary: "Train with the rounding to 8 to 1 bits in the model, step sizes learned, and write the integers.",
    load: async () => (await import("../techniques/quantize-aware-train/index.ts")).quantizeAwareTrain as Technique,
  },
  "convert-float": {
    summary: "Convert weights and arithmetic to float16 or bfloat16, or back to float32, with range checks.",
    load: async () => (await import("../techniques/convert-float/index.ts")).convertFloat as Technique,
  },
};
