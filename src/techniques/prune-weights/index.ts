import { fail } from "../../errors.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { withFoldedWeights } from "../quantize-weights/folded.ts";
import { nodeVerdicts } from "../quantize-weights/targets.ts";
import { type Context, technique } from "../technique.ts";
import { checkOptions } from "./check.ts";
import { pruneGradually } from "./gradual.ts";
import { surveyLayers } from "./layers.ts";
import { pruneWeightsOptions } from "./options.ts";
import { parsePattern } from "./patterns.ts";
import { pruneOnce } from "./prune.ts";
import { pruneInRounds } from "./rounds.ts";
import { goals, type Plan } from "./targets.ts";
import { reportZeros } from "./zeros.ts";

/**
 * Sets weights to zero: single ones, N of M neighbours, or blocks; before training, in rounds with training in between, or
 * while it runs.
 *
 *     w -> w * mask        (sparsegpt: the weights that stay make up for those that go)
 *
 * Zeros bring bytes once the file is compressed, not milliseconds: ONNX Runtime has no kernels for sparse weights. What is
 * quantized afterwards keeps them, since all grids of this package hold zero exactly.
 * Scores: scores.ts; shares of layers: densities.ts, sensitivity.ts; training: rounds.ts, gradual.ts.
 */
export const pruneWeights = technique({
  name: "prune-weights",
  summary: "Set the least important weights to zero: smaller once compressed, no faster on this runtime.",
  options: pruneWeightsOptions,
  data: "optional",
  identity: { sparsity: 0 },
  applies: nodeVerdicts(
    (graph) => {
      const { layers, skipped } = surveyLayers(graph, pruneWeightsOptions.parse({}), parsePattern("unstructured")!);
      return { targets: layers.map(({ target }) => target), skipped };
    },
    () => true,
  ),
  async apply(graph, options, context) {
    const pattern = parsePattern(options.pattern) ?? badPattern(options.pattern);
    if (pattern.kind === "blocks" && options.sparsity === 0 && Object.keys(options.layerSparsity).length === 0)
      return graph;
    checkOptions(options, pattern, context);
    const seen = hoistConstants(graph, Math.max(1, options.minElements));
    const hoisted = options.simplify ? await withFoldedWeights(seen, context) : seen;
    const { layers, skipped } = surveyLayers(hoisted, options, pattern);
    for (const { node, reason } of skipped) context.skip(nodeLabel(node), reason);
    if (layers.length === 0) return graph;
    const plan = { layers, pattern, options, goalAt: await goals(hoisted, layers, pattern, options, context) };
    const pruned = await prune(hoisted, plan, context);
    reportZeros(pruned, layers, context);
    return pruned;
  },
});

function prune(graph: Graph, plan: Plan, context: Context): Promise<Graph> {
  const { options, layers, pattern, goalAt } = plan;
  if (options.epochs === 0) return pruneOnce(graph, layers, goalAt(), pattern, options, context);
  return options.pruningSchedule === "one-shot"
    ? pruneInRounds(graph, plan, context)
    : pruneGradually(graph, plan, context);
}

function badPattern(pattern: string): never {
  return fail(
    "prune-weights",
    `pattern '${pattern}' prunes nothing`,
    "N:M keeps N of M, with 0 < N < M; RxC are at least 1",
  );
}
