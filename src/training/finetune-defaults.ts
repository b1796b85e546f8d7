import { type Graph, opKey } from "../graph/graph.ts";
import type { OptimizerOptions } from "./optimizers.ts";

/** What {@link finetuneDefaults} chooses. */
export type FinetuneDefaults = Pick<OptimizerOptions, "optimizer" | "rate" | "decay">;

/** Layers whose gradients differ in size so much that each weight needs a rate of its own. */
const uneven = new Set([
  ...["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Attention", "LSTM", "GRU", "RNN"],
  ...["SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "MultiHeadAttention"].map(
    (op) => `com.microsoft:${op}`,
  ),
]);

/**
 * Optimizer, rate and decay that suit a trained model: SGD for convolutional networks with batch normalization, which
 * takes up the scale of the weights; AdamW, whose steps do not depend on the size of gradients, for all others.
 *
 * @param batchStatistics whether batch normalization uses the statistics of the batch
 */
export function finetuneDefaults(
  model: Graph,
  batchStatistics: boolean,
  given: { readonly optimizer?: OptimizerOptions["optimizer"] | undefined } = {},
): FinetuneDefaults {
  const count = (fits: (op: string) => boolean): number => model.nodes.filter((node) => fits(opKey(node))).length;
  const convolutions = count((op) => op === "Conv" || op === "ConvTranspose" || op === "com.microsoft:FusedConv");
  const products = count((op) => op === "MatMul" || op === "Gemm");
  const normalized = batchStatistics && count((op) => op === "BatchNormalization") > 0;
  const even = normalized && convolutions > products && count((op) => uneven.has(op)) === 0;
  const optimizer = given.optimizer ?? (even ? "sgd" : "adamw");
  if (optimizer === "sgd") return { optimizer, rate: normalized ? 0.002 : 0.0005, decay: 1e-4 };
  return { optimizer, rate: 1e-4, decay: optimizer === "adam" ? 0 : 0.01 };
}
