import { type Graph, isNode } from "../../graph/graph.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import type { Constraint } from "../../training/constraint.ts";
import { smallestBatch } from "../../training/finetune.ts";
import { finetuneDefaults } from "../../training/finetune-defaults.ts";
import type { OptimizerOptions } from "../../training/optimizers.ts";
import { withOwnOperators } from "../../training/own-operators.ts";
import type { WeightSettings } from "../../training/parameters.ts";
import { recover, withHeldOut } from "../recovery.ts";
import type { Context } from "../technique.ts";
import type { Simulation } from "./insert.ts";
import type { Options } from "./options.ts";

/**
 * Trains a model with fake quantization in it; batch normalization keeps its statistics in the last part, so that weights
 * settle on what inference will do (Krishnamoorthi 2018, section 3.2.3). The model before is the teacher.
 *
 * @param constraints what else holds the weights
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
  let graph = simulation.graph;
  for (const { name, part, batchNorm } of phasesOf(graph, options)) {
    const [from, until] = part;
    const { model, curve, best, records } = await recover(
      graph,
      // what was put back is there by now
      { ...chosen, batchNorm, unfoldBatchNorm: false, epochs: options.epochs * (until - from) },
      { ...held, original, constraints: all, settings, part, name },
    );
    graph = model;
    const title = name === "training" ? {} : { name };
    context.show({ kind: "training", curve, best, epochs: records, ...title });
  }
  return graph;
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

/** The options with optimizer and rate chosen. */
function withRates(graph: Graph, options: Options): Options & { readonly optimizer: OptimizerOptions["optimizer"] } {
  const { weightBits, activationBits, batch, batchNorm } = options;
  const statistics = batchNorm === "batch" || (batchNorm === "auto" && batch >= smallestBatch);
  const found = finetuneDefaults(graph, statistics, { optimizer: options.optimizer });
  const few = typeof weightBits === "string" || weightBits < fewBits || activationBits < fewBits;
  return {
    ...options,
    optimizer: found.optimizer,
    rate: options.rate ?? found.rate * (few ? fewBitsRate : 1),
    decay: options.decay ?? found.decay,
  };
}

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
  for (const { scale } of weights.values()) if (scale) add(scale, relative ? meanOf(graph, scale) : 1);
  for (const { grid, names } of activations.values()) {
    add(names.scale, relative ? grid.scale : 1);
    if (names.offset) add(names.offset, relative ? grid.qmax : 1 / grid.scale ** 2);
  }
  return settings;
}

function meanOf(graph: Graph, name: string): number {
  const values = toFloat32(graph.weights.get(name)!);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** A step falls no lower than this share of what it was. */
const leastShare = 2 ** -8;

/** Keeps steps positive, and offsets among the integers. */
function soundGrids({ graph, activations, weights }: Simulation): Constraint {
  const bounds = new Map<string, { readonly low: (i: number) => number; readonly high: number }>();
  const step = (name: string): void => {
    const start = toFloat32(graph.weights.get(name)!).slice();
    bounds.set(name, { low: (i) => start[i]! * leastShare, high: Number.POSITIVE_INFINITY });
  };
  for (const { scale } of weights.values()) if (scale) step(scale);
  for (const { grid, names } of activations.values()) {
    step(names.scale);
    if (names.offset) bounds.set(names.offset, { low: () => grid.qmin, high: grid.qmax });
  }
  return {
    apply(_, learning) {
      for (const [name, { low, high }] of bounds) {
        const { value, average } = learning.get(name) ?? {};
        for (const held of [value, average]) {
          if (held) for (let i = 0; i < held.length; i++) held[i] = Math.min(Math.max(held[i]!, low(i)), high);
        }
      }
    },
  };
}
