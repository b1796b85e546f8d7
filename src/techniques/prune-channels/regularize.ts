import type { Graph } from "../../graph/graph.ts";
import { groupLasso, growingPenalty } from "../../pruning/group-penalty.ts";
import type { Couplings, Cuts, Group } from "../../pruning/index.ts";
import { recover } from "../recovery.ts";
import type { Context } from "../technique.ts";
import type { PruneChannelsOptions } from "./options.ts";

const usualStrength = { "group-lasso": 1e-3, growing: 10 };

/**
 * Trains a graph whose units are about to be cut, under a penalty on whole units.
 *
 * @param groups those that may be cut: group lasso draws on all of them
 * @param cuts what will be cut, for the growing penalty
 */
export async function regularized(
  found: Couplings,
  groups: readonly Group[],
  cuts: Cuts,
  kind: "group-lasso" | "growing",
  options: PruneChannelsOptions,
  context: Context,
): Promise<Graph> {
  const strength = options.regularizeStrength ?? usualStrength[kind];
  const penalty = kind === "growing" ? growingPenalty(found, cuts, strength) : groupLasso(found, groups, strength);
  const { model, curve, best, records } = await recover(
    found.graph,
    { ...options, epochs: options.regularizeEpochs },
    { ...context, original: found.graph, constraints: [penalty], name: "regularization" },
  );
  context.show({ kind: "training", name: kind, curve, best, epochs: records });
  return model;
}
