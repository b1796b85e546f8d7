import type { Batch } from "../../data/dataset.ts";
import { feedsOf } from "../../data/feeds.ts";
import { syntheticFeeds } from "../../data/synthetic.ts";
import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { observeTypes } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { type Allocation, allocate } from "../../pruning/allocation.ts";
import { needsData, unitScores } from "../../pruning/importance.ts";
import { type Couplings, couplings, cutUnits } from "../../pruning/index.ts";
import { reestimateBatchNorm } from "../../pruning/repair-batch-norm.ts";
import { compensate } from "../../pruning/repair-inputs.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { type Context, technique } from "../technique.ts";
import { chosenGroups } from "./groups.ts";
import { type PruneChannelsOptions, pruneChannelsOptions } from "./options.ts";

/** Samples a batch, where the model leaves that free: batch statistics want many. */
const usualBatch = 32;

/**
 * Removes whole channels, neurons, attention heads and hidden units: tensors become smaller, so that the model does.
 *
 *     w[units] -> w[units that stay], in every weight that the units tie together
 *
 * Which weights those are is found from what the operators mean (pruning/couplings.ts). Scores: pruning/importance.ts;
 * shares of groups: pruning/allocation.ts; repair without training: pruning/repair-*.ts.
 */
export const pruneChannels = technique({
  name: "prune-channels",
  summary: "Remove whole channels, neurons and heads, least important first: smaller and faster everywhere.",
  options: pruneChannelsOptions,
  data: "optional",
  identity: { ratio: 0 },
  async apply(graph, options, context) {
    if (options.ratio === 0 && Object.keys(options.groupRatio).length === 0) return graph;
    if (needsData(options.importance) && !context.data) {
      fail("prune-channels", `importance ${options.importance} needs data`, "Give --data, or use --importance l2");
    }
    const batches = context.data && calibrationBatches(graph, context, options.samples, usualBatch, "prune-channels");
    const found = couplings(graph, await observeTypes(graph, context.runtime, await sample(graph, context)));
    const { groups, own } = chosenGroups(found, options, context);
    if (groups.length === 0) return graph;
    const { runtime, random, signal } = context;
    const world = { runtime, random, signal, ...(batches && { batches }) };
    const scores = await unitScores(found, groups, options.importance, options.normalization, world);
    const allocation = allocate(found, scores, { ...options, own });
    if (allocation.cuts.size === 0) {
      context.log("nothing is cut: the groups are too small for this ratio");
      return graph;
    }
    const cut = cutUnits(found, allocation.cuts);
    report(allocation, options, context);
    return batches && options.repair !== "none" ? repaired(found, allocation, cut, batches, options, context) : cut;
  },
});

/** One sample, so that costs are those of one, or made-up feeds. */
async function sample(graph: Graph, context: Context): Promise<Tensors> {
  if (!context.data) return syntheticFeeds(graph, context.random.fork("prune-channels"));
  for await (const { inputs } of calibrationBatches(graph, context, 1, 1, "prune-channels")) return inputs;
  return fail("prune-channels", "there is no sample of the batch size that the model wants", "Give more data");
}

async function repaired(
  found: Couplings,
  { cuts }: Allocation,
  cut: Graph,
  batches: AsyncIterable<Batch>,
  { repair }: PruneChannelsOptions,
  { runtime, signal, log }: Context,
): Promise<Graph> {
  const world = { runtime, feeds: feedsOf(batches), signal };
  let current = cut;
  if (repair !== "batch-norm") {
    const method = repair === "mean" ? "mean" : "regression";
    const { graph, layers } = await compensate(found, cuts, current, method, world);
    if (layers > 0) log(`${layers} layers make up for what they read no more`);
    current = graph;
  }
  if (repair === "auto" || repair === "batch-norm") {
    const { graph, layers } = await reestimateBatchNorm(current, world);
    if (layers > 0) log(`statistics of ${layers} batch normalizations were measured anew`);
    current = graph;
  }
  return current;
}

function report(
  { cuts, before, after, reached }: Allocation,
  { of, ratio }: PruneChannelsOptions,
  context: Context,
): void {
  for (const [group, kept] of cuts) context.log(`${group.name}: ${group.units} -> ${kept.length}`);
  const change = (name: string, from: number, to: number): string =>
    `${name} ${thousands(from)} -> ${thousands(to)} (-${percent(from - to, from)})`;
  context.log(
    [change("MACs", before.macs, after.macs), change("parameters", before.parameters, after.parameters)].join(", "),
  );
  if (reached) return;
  const what = of === "macs" ? "MACs" : "parameters";
  context.log(
    `fewer ${what} go than the ${percent(ratio, 1)} asked for: every group keeps its share (--keep), and some must stay`,
  );
}

function thousands(value: number): string {
  return value.toLocaleString("en-US");
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;
}
