import { type Graph, isNode } from "../../graph/graph.ts";
import { reestimateBatchNorm } from "../../pruning/repair-batch-norm.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import type { Constraint } from "../../training/constraint.ts";
import { smallestBatch } from "../../training/finetune.ts";
import { finetuneDefaults } from "../../training/finetune-defaults.ts";
import type { OptimizerOptions } from "../../training/optimizers.ts";
import { withOwnOperators } from "../../training/own-operators.ts";
import type { WeightSettings } from "../../training/parameters.ts";
import { withWeights } from "../../training/state.ts";
import { recover, withHeldOut } from "../recovery.ts";
import type { Context } from "../technique.ts";
import type { Simulation } from "./insert.ts";
import { withFoldedBiases } from "./layers.ts";
import { bitsOf, type Options } from "./options.ts";
import { soundGrids } from "./sound-grids.ts";

/**
 * Trains a model with fake quantization in it; batch normalization keeps its statistics in the last part, so that weights
 * settle on what inference will do (Krishnamoorthi 2018, section 3.2.3), its offsets rounded as the biases that they become.
 * The model before is the teacher.
 *
 * @param constraints what else holds the weights
 * @returns the model as inference will have it: statistics given, offsets rounded
 */
export async function train(
  simulation: Simulation,
  original: Graph,
  constraints: readonly Constraint[],
  options: Options,
  context: Context,
): Promise<Graph> {
  const held = { ...withHeldOut(context, options), runtime: withOwnOperators(context.runtime) };
  const chosen = withRates(simulation.graph, options);
  const settings = stepSettings(simulation, chosen);
  const all = [...constraints, soundGrids(simulation)];
  const settled = withFoldedBiases(simulation).graph;
  let graph = simulation.graph;
  for (const { name, part, batchNorm } of phasesOf(graph, options)) {
    const [from, until] = part;
    if (batchNorm === "frozen") graph = withWeights(settled, graph.weights);
    const { model, curve, best, records } = await recover(
      graph,
      // what was put back is there by now
      { ...chosen, batchNorm, unfoldBatchNorm: false, epochs: options.epochs * (until - from) },
      { ...held, original, constraints: all, settings, part, name },
    );
    // averages that lag behind weights on the move would be frozen as they are
    graph = batchNorm === "frozen" ? model : await settleStatistics(model, chosen, held);
    const title = name === "training" ? {} : { name };
    context.show({ kind: "training", curve, best, epochs: records, ...title });
  }
  return withWeights(settled, graph.weights);
}

/** Samples that statistics of batch normalization are taken on, at most. */
const statisticsSamples = 2048;

/** The model with the statistics of batch normalization that its weights, as they are by now, give on training data. */
async function settleStatistics(graph: Graph, { batch }: Options, context: Context): Promise<Graph> {
  const data = context.training?.data ?? context.data;
  if (!data || !graph.nodes.some((node) => isNode(node, "BatchNormalization"))) return graph;
  const limit = Math.max(batch, statisticsSamples - (statisticsSamples % batch));
  const seed = context.random.fork("statistics").int(2 ** 31);
  const feeds = {
    async *[Symbol.asyncIterator]() {
      for await (const { inputs, size } of data.batches({ batch, limit, seed })) if (size === batch) yield inputs;
    },
  };
  return (await reestimateBatchNorm(graph, { ...context, feeds })).graph;
}

interface Phase {
  readonly name: string;
  /** Shares of the whole training. */
  readonly part: readonly [number, number];
  readonly batchNorm: Options["batchNorm"];
}

function phasesOf(graph: Graph, { batchNorm, freezeBatchNorm, batch }: Options): readonly Phase[] {
  const normalized = graph.nodes.some((node) => isNode(node, "BatchNormalization"));
  const frozen = batchNorm === "frozen" || (batchNorm === "auto" && batch < smallestBatch) || freezeBatchNorm === 1;
  if (!normalized || frozen || freezeBatchNorm === 0) {
    return [{ name: "training", part: [0, 1], batchNorm: normalized && frozen ? "frozen" : batchNorm }];
  }
  const turn = 1 - freezeBatchNorm;
  return [
    { name: "statistics of batches", part: [0, turn], batchNorm },
    { name: "frozen statistics", part: [turn, 1], batchNorm: "frozen" },
  ];
}

/** With fewer bits than these, weights have to move further than fine-tuning moves them. */
const fewBits = 8;
const fewBitsRate = 5;

/**
 * The options with optimizer and rate chosen: AdamW, for networks with batch normalization too. ResNet-8 in 4 bits came to a
 * loss of 0.35 in 105 steps with it, to 0.45 with SGD at the best of two rates.
 */
function withRates(graph: Graph, options: Options): Options & { readonly optimizer: OptimizerOptions["optimizer"] } {
  const { weightBits, activationBits, layerBits, layerActivationBits, batch, batchNorm } = options;
  const statistics = batchNorm === "batch" || (batchNorm === "auto" && batch >= smallestBatch);
  const optimizer = options.optimizer ?? "adamw";
  const found = finetuneDefaults(graph, statistics, { optimizer });
  const widths = [weightBits, activationBits, ...Object.values(layerBits), ...Object.values(layerActivationBits)];
  const few = widths.some((width) => bitsOf(width) < fewBits);
  const factor = few && optimizer !== "sgd" ? fewBitsRate : 1;
  return {
    ...options,
    optimizer,
    rate: options.rate ?? found.rate * factor,
    decay: options.decay ?? found.decay,
  };
}

/** Mean magnitude of a weight that Adam's rates are meant for; smaller ones, as behind large inputs, move less. */
const usualMagnitude = 0.05;

/**
 * Steps and offsets do not decay. For Adam, whose updates have the size of the rate, rates are relative to what they
 * start from; SGD moves steps as LSQ's gradients say, and offsets as if they were counted in the values' unit.
 */
function stepSettings(
  { graph, activations, weights }: Simulation,
  { optimizer, scaleRate }: Pick<Options, "scaleRate"> & { readonly optimizer: string },
): ReadonlyMap<string, WeightSettings> {
  const settings = new Map<string, WeightSettings>();
  const add = (name: string, rateFactor: number): void =>
    void settings.set(name, { frozen: scaleRate === 0, rateFactor: scaleRate * rateFactor, decay: 0 });
  const relative = optimizer !== "sgd";
  for (const [name, { scale }] of weights) {
    const rateFactor = relative ? Math.min(1, meanOf(graph, name) / usualMagnitude) : 1;
    settings.set(name, { frozen: false, rateFactor, decay: undefined });
    if (scale) add(scale, relative ? meanOf(graph, scale) : 1);
  }
  for (const { grid, names } of activations.values()) {
    add(names.scale, relative ? grid.scale : 1);
    if (names.offset) add(names.offset, relative ? grid.qmax : 1 / grid.scale ** 2);
  }
  return settings;
}

/** Mean magnitude. */
function meanOf(graph: Graph, name: string): number {
  const values = toFloat32(graph.weights.get(name)!);
  return values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
}
