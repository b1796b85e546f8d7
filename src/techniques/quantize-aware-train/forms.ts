import { fittingFeeds } from "../../data/fixed-batch.ts";
import { type Graph, isNode } from "../../graph/graph.ts";
import { unfoldBatchNorm } from "../../training/unfold-batch-norm.ts";
import { simplify } from "../simplify/index.ts";
import type { Context } from "../technique.ts";
import type { Options } from "./options.ts";

/** A model in two forms, whose values have the same names. */
export interface Forms {
  /** As it will run: batch normalization is in the weights before it. */
  readonly folded: Graph;
  /** As it is trained: with batch normalization on its own, where that is wanted and there is some. */
  readonly trained: Graph;
}

const normalization = "BatchNormalization";

/** Weights that are equal before training, as fresh ones are, learn apart. */
const sharing = ["duplicate-weights"];

/** Both forms of a model. */
export async function formsOf(graph: Graph, options: Options, context: Context): Promise<Forms> {
  const quiet = { ...context, skip: () => {} };
  // a normalization in front of a layer scales its inputs, which no scale of an output channel can take up later
  const preceding = await simplify({ off: [...sharing, "fold-following"] }).apply(graph, quiet);
  const unfolded = await simplify({ off: sharing, exclude: [normalization] }).apply(preceding, quiet);
  const folded = await fold(unfolded, context);
  if (!foldsLater(options)) return { folded, trained: folded };
  if (options.unfoldBatchNorm && !unfolded.nodes.some((node) => isNode(node, normalization))) {
    const { runtime, data, random, skip, signal } = context;
    const seed = random.fork("unfold").int(2 ** 31);
    const feeds = data ? fittingFeeds(folded, data, { batch: 32, limit: unfoldSamples, seed }) : [];
    const trained = await unfoldBatchNorm(folded, runtime, feeds, { skip, signal });
    return { folded, trained };
  }
  return { folded, trained: unfolded };
}

/** The form that runs. */
export function fold(graph: Graph, context: Context): Promise<Graph> {
  return simplify({ off: sharing }).apply(graph, { ...context, skip: () => {} });
}

/** Whether batch normalization is folded after quantization: a scale of each channel takes up its factor. */
function foldsLater({ perChannel, foldBatchNorm, epochs }: Options): boolean {
  return perChannel && !foldBatchNorm && epochs > 0;
}

/** Samples that the statistics of batch normalization put back are measured on. */
const unfoldSamples = 1024;
