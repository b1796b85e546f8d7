import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { metricOf } from "../../metrics/index.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { keepZeros } from "../../training/keep-zeros.ts";
import { Snapshot } from "../../training/snapshot.ts";
import { withWeights } from "../../training/state.ts";
import type { TrainResult } from "../../training/train.ts";
import { recover, withHeldOut } from "../recovery.ts";
import type { Context } from "../technique.ts";
import { type Layer, surveyLayers } from "./layers.ts";
import { maskedTensor } from "./masked.ts";
import type { PruneWeightsOptions } from "./options.ts";
import { pruneOnce } from "./prune.ts";
import type { Plan } from "./targets.ts";
import { sparsityOf } from "./zeros.ts";

/** A round: how much is zero, and what came of training. */
interface Round {
  readonly sparsity: number;
  readonly trained: TrainResult;
}

/**
 * Prunes and trains in turn, what is zero staying zero: of the weights left each round takes the same share (Han et al.
 * 2015). With `rewind` the model is trained first, and every round's training begins with the weights that it had at an
 * early step, pruned: lottery tickets (Frankle and Carbin 2019; not from the first step: Frankle et al. 2020). Each round
 * runs the whole schedule of the learning rate, which is what rewinding the rate means (Renda et al. 2020).
 */
export async function pruneInRounds(graph: Graph, plan: Plan, given: Context): Promise<Graph> {
  const { options, pattern, goalAt } = plan;
  const context = withHeldOut(given, options);
  const { early, original } = await beginning(graph, options, context);
  const rounds: Round[] = [];
  let current = original;
  for (let round = 1; round <= options.rounds; round++) {
    const { layers } = surveyLayers(current, options, pattern);
    const goal = goalAt((share) => 1 - (1 - share) ** (round / options.rounds));
    const pruned = await pruneOnce(current, layers, goal, pattern, options, context);
    const start = early ? withZerosOf(pruned, early, layers) : pruned;
    const names = layers.map(({ target }) => target.name);
    const constraints = [keepZeros(start, { least: 0, names })];
    const trained = await recover(start, options, { ...context, original, constraints, name: `round${round}` });
    current = trained.model;
    rounds.push({ sparsity: sparsityOf(current, layers), trained });
    if (options.rounds > 1) context.log(roundLine(rounds.at(-1)!, round, options.rounds));
  }
  show(rounds, context);
  return current;
}

/** The model to prune first, which is the teacher too, and the weights to begin every training with, if not its own. */
async function beginning(
  graph: Graph,
  options: PruneWeightsOptions,
  context: Context,
): Promise<{ readonly original: Graph; readonly early?: Graph }> {
  if (options.rewind === undefined) return { original: graph };
  const snapshot = new Snapshot(options.rewind);
  const plain = { ...options, distill: false };
  const { model } = await recover(graph, plain, {
    ...context,
    original: graph,
    constraints: [snapshot],
    name: "dense",
  });
  if (snapshot.weights.size === 0) {
    fail("prune-weights", `training ends before step ${options.rewind}`, "Lower --rewind, or give more --epochs");
  }
  return { original: model, early: withWeights(graph, snapshot.weights) };
}

/** The zeros of a pruned model in the weights that another has. */
function withZerosOf(pruned: Graph, weights: Graph, layers: readonly Layer[]): Graph {
  const masked = layers.map(({ target: { name } }): [string, Tensor] => {
    const mask = Uint8Array.from(toFloat32(pruned.weights.get(name)!), (v) => Number(v === 0));
    return [name, maskedTensor(weights.weights.get(name)!, mask, undefined)];
  });
  return withWeights(weights, new Map(masked));
}

function roundLine({ sparsity, trained: { best, records } }: Round, round: number, rounds: number): string {
  const score = best.score === undefined ? "" : `, ${records.at(-1)?.metric} ${best.score.toPrecision(4)}`;
  return `round ${round} of ${rounds}: ${(100 * sparsity).toFixed(1)} % zeros${score}`;
}

/** Shows the scores of the rounds, and how the last one's training went. */
function show(rounds: readonly Round[], context: Context): void {
  const { curve, best, records } = rounds.at(-1)!.trained;
  context.show({ kind: "training", curve, best, epochs: records, ...(rounds.length > 1 && { name: "last round" }) });
  const scored = rounds.flatMap(({ sparsity, trained }) =>
    trained.best.score === undefined ? [] : [{ amount: sparsity, quality: trained.best.score }],
  );
  const metric = records.at(-1)?.metric;
  if (metric === undefined || scored.length < 2) return;
  const { better, unit } = metricOf(metric);
  context.show({
    kind: "progress",
    amount: { name: "sparsity", unit: "%" },
    quality: { name: metric, better, ...(unit !== undefined && { unit }) },
    rounds: [...scored.slice(0, -1), { ...scored.at(-1)!, kept: true }],
  });
}
