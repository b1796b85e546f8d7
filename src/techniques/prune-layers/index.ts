import { z } from "zod";
import { reference } from "../../analysis/output-error.ts";
import { fail } from "../../errors.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { withoutBlock } from "../../pruning/drop-residual-block.ts";
import type { ResidualBlock } from "../../pruning/residual-blocks.ts";
import { renumbered } from "../../pruning/residual-caches.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { type RecoveryOptions, recover, recoveryOptions } from "../recovery.ts";
import { selectionOptions } from "../selection.ts";
import { type Context, technique } from "../technique.ts";
import { chosenBlocks } from "./blocks.ts";
import { type BlockScores, divergences, influences } from "./scores.ts";

/** Samples a batch, where the model leaves that free. */
const usualBatch = 16;

/**
 * Removes residual branches, and with them their layers.
 *
 *     y = x + f(x) -> y = x
 *
 * The first to go is the one whose score is least, measured anew after each. In a transformer attention and feed-forward
 * are branches of their own; the keys and values that attention keeps between runs go with it.
 */
export const pruneLayers = technique({
  name: "prune-layers",
  summary: "Remove whole residual blocks, those first that matter least.",
  options: z.object({
    count: z.number().int().min(0).default(1).describe("residual branches to remove"),
    score: z
      .enum(["divergence", "influence"])
      .default("divergence")
      .describe(
        "what goes first: what changes the outputs least when it is left out, each measured (divergence), or what changes least of what passes through it, measured in one run for all (influence)",
      ),
    samples: z.number().int().min(1).default(128).describe("samples of the data to measure the score on"),
    ...selectionOptions,
    ...recoveryOptions.shape,
  }),
  data: "required",
  identity: { count: 0 },
  async apply(graph, options, context) {
    if (options.count === 0) return graph;
    const { runtime } = context;
    const feeds: Tensors[] = [];
    const batches = calibrationBatches(graph, context, options.samples, usualBatch, "prune-layers");
    for await (const { inputs } of batches) feeds.push(inputs);
    const [first] = feeds;
    if (!first)
      return fail("prune-layers", "there are no samples of the batch size that the model wants", "Give more data");
    const all = await chosenBlocks(graph, options, runtime, first);
    for (const { node, kept } of all) if (kept !== undefined) context.skip(nodeLabel(node), kept);
    const score = await scoring(graph, all, feeds, options.score, context);
    let current = graph;
    const caches: string[] = [];
    for (let done = 0; done < options.count; done++) {
      context.progress(done, options.count, "blocks");
      const blocks = done === 0 ? all : await chosenBlocks(current, options, runtime, first);
      const scores = await score(
        current,
        blocks.filter(({ kept }) => kept === undefined),
      );
      const [least] = [...scores].filter(([, value]) => Number.isFinite(value)).sort(([, a], [, b]) => a - b);
      if (!least) {
        context.log(`no residual block is left to remove after ${done}`);
        break;
      }
      const [block, value] = least;
      report(block, value, options.score, context);
      current = withoutBlock(current, block);
      caches.push(...block.cache.inputs, ...block.cache.outputs);
    }
    if (caches.length > 0) context.log(`without their caches, others numbered anew: ${caches.join(", ")}`);
    const pruned = renumbered(current, caches);
    return options.epochs > 0 && pruned !== graph ? retrained(pruned, graph, options, context) : pruned;
  },
});

type Scoring = (graph: Graph, blocks: readonly ResidualBlock[]) => Promise<BlockScores>;

/** How blocks are scored: by what the model gives now, or by what passes through them. */
async function scoring(
  graph: Graph,
  blocks: readonly ResidualBlock[],
  feeds: readonly Tensors[],
  kind: "divergence" | "influence",
  context: Context,
): Promise<Scoring> {
  if (kind === "influence") return (current, free) => influences(current, free, feeds, context);
  // caches may go, and say nothing that other outputs do not
  const caches = new Set(blocks.flatMap(({ cache }) => cache.outputs));
  const outputs = new Set(graph.outputs.map(({ name }) => name).filter((name) => !caches.has(name)));
  const judged = { ...graph, outputs: graph.outputs.filter(({ name }) => outputs.has(name)) };
  const original = await reference(judged, context.runtime, feeds);
  return (current, free) => divergences(current, free, original, outputs, context);
}

async function retrained(pruned: Graph, original: Graph, options: RecoveryOptions, context: Context): Promise<Graph> {
  const { model, curve, best, records } = await recover(pruned, options, { ...context, original });
  context.show({ kind: "training", curve, best, epochs: records });
  return model;
}

function report(
  { node, branch }: ResidualBlock,
  score: number,
  kind: "divergence" | "influence",
  { log }: Context,
): void {
  const found =
    kind === "influence" ? `influence ${score.toFixed(4)}` : `${score.toFixed(1)} dB of noise in the outputs`;
  log(`${nodeLabel(node)}: ${branch.length} nodes removed, ${found}`);
}
