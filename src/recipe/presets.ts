/** Ready recipes by name, as data for {@link parseRecipe}. */
export const presets: Readonly<Record<string, { readonly description: string; readonly steps: readonly unknown[] }>> = {
  clean: { description: "Only what changes no result: folded constants, dead code, duplicates.", steps: ["simplify"] },
  int8: {
    description: "Static int8 for convolutions and matrix products; needs data to calibrate with.",
    steps: ["simplify", "quantize-static"],
  },
  "int8-dynamic": {
    description: "Dynamic int8 for matrix products and recurrent layers; needs no data.",
    steps: ["simplify", "quantize-dynamic"],
  },
  "weights-8": {
    description: "Weights in 8 bits, arithmetic in float; needs no data.",
    steps: ["simplify", { "quantize-weights": { bits: 8 } }],
  },
  "weights-4": {
    description: "Weights in 4 bits, arithmetic in float; needs no data.",
    steps: ["simplify", { "quantize-weights": { bits: 4 } }],
  },
  fp16: {
    description: "Half-precision floats; needs no data.",
    steps: ["simplify", { "convert-float": { to: "float16" } }],
  },
};
