import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { recover, withHeldOut } from "../recovery.ts";
import type { Context } from "../technique.ts";
import { scoresInTraining } from "./check.ts";
import { GradualPruning } from "./gradual-pruning.ts";
import type { Plan } from "./targets.ts";

/** Prunes while the model trains, on the schedule of the options. */
export async function pruneGradually(graph: Graph, plan: Plan, context: Context): Promise<Graph> {
  const { options } = plan;
  const { score, density, sparsity } = options;
  if (!scoresInTraining(score)) throw new Error(`score ${score} got past the check of options`);
  const random = context.random.fork("gradual");
  const pruning = new GradualPruning({ ...plan, score, density, sparsity, schedule: options, random });
  const trained = await recover(graph, options, {
    ...withHeldOut(context, options),
    original: graph,
    constraints: [pruning],
  });
  const learning = new Set(pruning.layers);
  for (const { target, use } of plan.layers.filter((layer) => !learning.has(layer))) {
    context.skip(nodeLabel(use.node), `its weight '${target.name}' does not learn: it is not pruned while training`);
  }
  const { curve, best, records } = trained;
  context.show({ kind: "training", curve, best, epochs: records });
  return trained.model;
}
