/**
 * The techniques' names and summaries, repeated from their declarations so that `pare --help` need not import them. A
 * test holds both equal.
 */
export const techniqueSummaries: Readonly<Record<string, string>> = {
  simplify: "Fold, merge and remove what changes no result: constants, batch normalization, dead code, duplicates.",
  "quantize-dynamic": "Compute matrix products in 8-bit integers, activations rounded at run time; needs no data.",
  "quantize-static":
    "Run convolutions and matrix products on 8-bit integers, with activation ranges found on sample data.",
  "quantize-weights": "Store weights in 8, 4, 3, 2 bits, ternary or binary; activations stay in floating point.",
  "convert-float": "Convert weights and arithmetic to float16 or bfloat16, or back to float32, with range checks.",
};
