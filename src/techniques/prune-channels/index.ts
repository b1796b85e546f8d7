import type { Batch } from "../../data/dataset.ts";
import { feedsOf } from "../../data/feeds.ts";
import { syntheticFeeds } from "../../data/synthetic.ts";
import { fail, messageOf } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import type { KnownTypes } from "../../ops/lookup.ts";
import { observeTypes } from "../../platform/observe.ts";
import { type Allocation, allocate } from "../../pruning/allocation.ts";
import { needsData, needsGradients, unitScores } from "../../pruning/importance.ts";
import { type Couplings, type Cuts, couplings, cutUnits, type Group } from "../../pruning/index.ts";
import { reestimateBatchNorm } from "../../pruning/repair-batch-norm.ts";
import { compensate } from "../../pruning/repair-inputs.ts";
import { refitLayers } from "../../pruning/repair-outputs.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { recover } from "../recovery.ts";
import { type Context, technique } from "../technique.ts";
import { type Chosen, chosenGroups } from "./groups.ts";
import { type PruneChannelsOptions, pruneChannelsOptions } from "./options.ts";
import { regularized } from "./regularize.ts";
import { report } from "./report.ts";
import { keptTimes } from "./times.ts";

const who = "prune-channels";

/** Samples a batch, where the model leaves that free: batch statistics want many. */
const usualBatch = 32;

/** Samples a batch for importances from gradients, which are one draw a batch. */
const gradientBatch = 8;

/**
 * Removes whole channels, neurons, attention heads and hidden units: tensors become smaller, so that the model does.
 *
 *     w[units] -> w[units that stay], in every weight that the units tie together
 *
 * Which weights those are is found from what the operators mean (pruning/couplings.ts). Scores: pruning/importance.ts;
 * shares of groups: pruning/allocation.ts; training before: pruning/group-penalty.ts; repair without training:
 * pruning/repair-*.ts, then with it: recovery.ts.
 */
export const pruneChannels = technique({
  name: who,
  summary: "Remove whole channels, neurons and heads, least important first: smaller and faster everywhere.",
  options: pruneChannelsOptions,
  data: "optional",
  identity: { ratio: 0 },
  async apply(graph, options, context) {
    if (options.ratio === 0 && Object.keys(options.groupRatio).length === 0) return graph;
    checkData(options, context);
    const types = await typesOf(graph, context);
    const asGiven = couplings(graph, types);
    const chosen = chosenGroups(asGiven, options, context);
    if (chosen.groups.length === 0) return graph;
    let plan: Plan = { found: asGiven, chosen };
    const train = async (kind: "group-lasso" | "growing", cuts: Cuts): Promise<Plan> => {
      const trained = await regularized(plan.found, plan.chosen.groups, cuts, kind, options, context);
      return planOn(couplings(trained, types), plan);
    };
    if (options.regularize === "group-lasso") plan = await train("group-lasso", new Map());
    const allocation = await allocated(plan, options, context);
    if (allocation.cuts.size === 0) {
      context.log("nothing is cut: the groups are too small for this ratio");
      return graph;
    }
    report(plan.found, allocation, options, context);
    let { cuts } = allocation;
    if (options.regularize === "growing") {
      const before = plan.found;
      plan = await train("growing", cuts);
      cuts = new Map([...cuts].map(([group, kept]) => [sameGroup(before, plan.found)(group), kept]));
    }
    const repaired = await repair(plan.found, cuts, options, context);
    if (options.epochs === 0) return repaired;
    const { model, curve, best, records } = await recover(repaired, options, { ...context, original: graph });
    context.show({ kind: "training", curve, best, epochs: records });
    return model;
  },
});

/** The couplings of the graph as it is by now, and what of them may be cut. */
interface Plan {
  readonly found: Couplings;
  readonly chosen: Chosen;
}

/** The group of another graph of the same structure. */
function sameGroup(from: Couplings, to: Couplings): (group: Group) => Group {
  return (group) => to.groups[from.groups.indexOf(group)]!;
}

/** The same plan for the graph with other weights. */
function planOn(found: Couplings, { found: before, chosen }: Plan): Plan {
  const same = sameGroup(before, found);
  const own = new Map([...chosen.own].map(([group, ratio]) => [same(group), ratio]));
  return { found, chosen: { groups: chosen.groups.map(same), own } };
}

function checkData(options: PruneChannelsOptions, { data, training }: Context): void {
  const { importance, epochs, regularize, repair: method } = options;
  if (needsData(importance) && !data) {
    fail(who, `importance ${importance} needs data`, "Give --data, or use --importance l2");
  }
  if (method !== "auto" && method !== "none" && !data) {
    fail(who, `repair ${method} needs data`, "Give --data, or leave out --repair");
  }
  if (data ?? training?.data) return;
  if (epochs > 0) fail(who, "training needs data", "Give --data, or leave out --epochs");
  if (regularize !== "none") fail(who, `regularize ${regularize} needs data`, "Give --data, or leave it out");
}

/** Sizes that free dimensions beside the batch are tried with where there is no data. */
const freeSizes = [1, 16, 512];

/** Types of all values for one sample, so that costs are those of one, or for made-up feeds. */
async function typesOf(graph: Graph, context: Context): Promise<KnownTypes> {
  const { runtime, random } = context;
  if (context.data) {
    for await (const { inputs } of calibrationBatches(graph, context, 1, 1, who)) {
      return observeTypes(graph, runtime, inputs);
    }
    return fail(who, "there is no sample of the batch size that the model wants", "Give more data");
  }
  const free = graph.inputs.flatMap(({ type }) => (type?.kind === "tensor" ? (type.shape ?? []).slice(1) : []));
  const names = free.filter((dim) => typeof dim === "string");
  let why = "";
  for (const size of names.length > 0 ? freeSizes : [1]) {
    const dims = Object.fromEntries(names.map((name) => [name, size]));
    try {
      return await observeTypes(graph, runtime, syntheticFeeds(graph, random.fork(who), { dims }));
    } catch (error) {
      why = messageOf(error);
    }
  }
  return fail(who, `the model does not run on made-up inputs (${why})`, "Give --data");
}

async function allocated(
  { found, chosen: { groups, own } }: Plan,
  options: PruneChannelsOptions,
  context: Context,
): Promise<Allocation> {
  const { runtime, random, signal, log } = context;
  const batch = needsGradients(options.importance) ? gradientBatch : usualBatch;
  const batches = context.data && calibrationBatches(found.graph, context, options.samples, batch, who);
  const world = { runtime, random, signal, log, ...(batches && { batches }) };
  const scores = await unitScores(found, groups, options.importance, options.normalization, world);
  const timed = options.allocation === "latency" || options.of === "latency";
  const times = timed ? await keptTimes(found, groups, context) : undefined;
  return allocate(found, scores, { ...options, own }, times);
}

async function repair(found: Couplings, cuts: Cuts, options: PruneChannelsOptions, context: Context): Promise<Graph> {
  const cut = cutUnits(found, cuts);
  const { repair: method, samples } = options;
  if (!context.data || method === "none") return cut;
  const { runtime, signal, log, progress } = context;
  const batches: AsyncIterable<Batch> = calibrationBatches(found.graph, context, samples, usualBatch, who);
  const world = { runtime, feeds: feedsOf(batches), signal };
  if (method === "batch-norm") {
    const { graph, layers } = await reestimateBatchNorm(cut, world);
    log(`statistics of ${layers} batch normalizations were measured anew`);
    return graph;
  }
  const { graph, layers } =
    method === "mean" || method === "regression"
      ? await compensate(found, cuts, cut, method, world)
      : await refitLayers(found, cuts, cut, world, (done, total) => progress(done, total, "layers"));
  log(`${layers} layers make up for what they read no more`);
  return graph;
}
