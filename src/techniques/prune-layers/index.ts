import { z } from "zod";
import type { Batch } from "../../data/dataset.ts";
import { feedsOf } from "../../data/feeds.ts";
import { edit } from "../../graph/edit.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { observeTypes, observeValues } from "../../platform/observe.ts";
import { type ResidualBlock, residualBlocks } from "../../pruning/residual-blocks.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { selectionOptions, selector } from "../selection.ts";
import { type Context, technique } from "../technique.ts";

/**
 * Removes residual branches, and with them their layers.
 *
 *     y = x + f(x) -> y = x
 *
 * The first to go is the one of least influence, 1 - E[cos(x, y)] over positions (samples' pixels, tokens), measured anew
 * after each (block influence, Men et al. 2024). In a transformer attention and feed-forward are branches of their own.
 */
export const pruneLayers = technique({
  name: "prune-layers",
  summary: "Remove whole residual blocks, those first that change what passes through them least.",
  options: z.object({
    count: z.number().int().min(0).default(1).describe("residual branches to remove"),
    samples: z.number().int().min(1).default(128).describe("samples of the data to measure influence on"),
    ...selectionOptions,
  }),
  data: "required",
  identity: { count: 0 },
  async apply(graph, options, context) {
    if (options.count === 0) return graph;
    const batches = calibrationBatches(graph, context, options.samples, 16, "prune-layers");
    const selected = selector(options);
    let current = graph;
    for (let done = 0; done < options.count; done++) {
      context.progress(done, options.count, "blocks");
      const blocks = (await blocksOf(current, batches, context)).filter(
        ({ node, branch }) => selected(node) && branch.every(selected),
      );
      if (done === 0) for (const { node, kept } of blocks) if (kept) context.skip(nodeLabel(node), kept);
      const free = blocks.filter(({ kept }) => kept === undefined);
      const least = await leastInfluence(current, free, batches, context);
      if (!least) {
        context.log(`no residual block is left to remove after ${done}`);
        break;
      }
      const { block, influence } = least;
      context.log(`${nodeLabel(block.node)}: ${block.branch.length} nodes removed, influence ${influence.toFixed(4)}`);
      current = withoutBlock(current, block);
    }
    return current;
  },
});

async function blocksOf(
  graph: Graph,
  batches: AsyncIterable<Batch>,
  { runtime }: Context,
): Promise<readonly ResidualBlock[]> {
  for await (const { inputs } of batches) return residualBlocks(graph, await observeTypes(graph, runtime, inputs));
  return [];
}

async function leastInfluence(
  graph: Graph,
  blocks: readonly ResidualBlock[],
  batches: AsyncIterable<Batch>,
  { runtime, signal }: Context,
): Promise<{ block: ResidualBlock; influence: number } | undefined> {
  const influences: { block: ResidualBlock; influence: number }[] = [];
  const sums = new Map(blocks.map((block) => [block, { cosines: 0, positions: 0 }]));
  const byY = new Map(blocks.map((block) => [block.y, block]));
  const names = [...new Set(blocks.flatMap(({ x, y }) => [x, y]))];
  if (blocks.length === 0) return undefined;
  const held = new Map<string, Tensor>();
  const visit = (name: string, value: Tensor): void => {
    held.set(name, value);
    const block = byY.get(name);
    const x = block && held.get(block.x);
    if (block && x) addCosines(sums.get(block)!, x, value);
  };
  // x comes before y in the order of names: it is made first
  await observeValues(graph, runtime, names, feedsOf(batches), visit, { signal, budget: Number.POSITIVE_INFINITY });
  for (const [block, { cosines, positions }] of sums) {
    if (positions > 0 && Number.isFinite(cosines)) influences.push({ block, influence: 1 - cosines / positions });
  }
  return influences.sort((a, b) => a.influence - b.influence)[0];
}

/** Adds the cosines of two values position by position: over channels of images (second axis), else over the last axis. */
function addCosines(sums: { cosines: number; positions: number }, x: Tensor, y: Tensor): void {
  const { shape } = x;
  const axis = shape.length >= 4 ? 1 : shape.length - 1;
  const size = shape[axis] ?? 1;
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const [a, b] = [toFloat32(x), toFloat32(y)];
  for (let start = 0; start < a.length; start += size * inner) {
    for (let offset = 0; offset < inner; offset++) {
      let [dot, aa, bb] = [0, 0, 0];
      for (let c = 0; c < size; c++) {
        const at = start + c * inner + offset;
        dot += a[at]! * b[at]!;
        aa += a[at]! * a[at]!;
        bb += b[at]! * b[at]!;
      }
      sums.cosines += aa === 0 || bb === 0 ? Number(aa === bb) : dot / Math.sqrt(aa * bb);
      sums.positions++;
    }
  }
}

/** The graph with a residual branch, and what only it needs, taken out. */
function withoutBlock(graph: Graph, { node, branch, x, y }: ResidualBlock): Graph {
  return edit(graph, (draft) => {
    for (const member of branch) draft.replace(member);
    draft.replace(node);
    draft.rewire(y, x);
  });
}
