import type { Graph } from "../../graph/graph.ts";
import type { Context } from "../technique.ts";
import type { Goal } from "./densities.ts";
import type { Layer } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";
import type { Pattern } from "./patterns.ts";
import { scorerFor } from "./scores.ts";
import { proposeSparsities, scanSensitivity, showSensitivity } from "./sensitivity.ts";

/** What is to be pruned. */
export interface Plan {
  readonly layers: readonly Layer[];
  readonly pattern: Pattern;
  readonly options: PruneWeightsOptions;
  readonly goalAt: GoalAt;
}

/** The goal on the way to the final one: `part` says what becomes of each final share. */
export type GoalAt = (part?: (share: number) => number) => Goal;

/** The shares of layers that were given by name or that a scan proposes, and the share of all others. */
export async function goals(
  graph: Graph,
  layers: readonly Layer[],
  pattern: Pattern,
  options: PruneWeightsOptions,
  context: Context,
): Promise<GoalAt> {
  const own = new Map(
    layers.flatMap(({ target, wanted }): [string, number][] => (wanted === undefined ? [] : [[target.name, wanted]])),
  );
  if (options.density === "sensitivity" && pattern.kind === "blocks") {
    const free = layers.filter(({ wanted }) => wanted === undefined);
    const scores = await scorerFor(graph, free, options, context);
    const curves = await scanSensitivity(graph, free, scores, pattern, options.samples, context);
    const proposed = proposeSparsities(curves, options.sparsity);
    showSensitivity(curves, proposed, context);
    for (const [layer, share] of proposed) own.set(layer.target.name, share);
  }
  return (part = (share) => share) => ({
    sparsity: part(options.sparsity),
    own: new Map([...own].map(([name, share]) => [name, part(share)])),
  });
}
