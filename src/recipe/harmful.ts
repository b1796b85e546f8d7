import { reference, signalToNoise } from "../analysis/output-error.ts";
import { PareError } from "../errors.ts";
import { type Graph, type Node, nodeLabel } from "../graph/graph.ts";
import { ambiguity } from "../graph/select.ts";
import type { Tensors } from "../platform/runtime.ts";
import { calibrationBatches } from "../techniques/calibration-batches.ts";
import type { Context } from "../techniques/technique.ts";
import { bindPlan, type Plan } from "./plans.ts";

/** Samples whose outputs are compared: errors of single layers differ by orders of magnitude, so few are enough. */
const samples = 32;

/**
 * The nodes that a plan changes, the most harmful first: each is changed alone, and what that does to the outputs is
 * measured on calibration samples, as the ratio of signal to noise. Nodes whose names fit others too can't be excluded and
 * are left out.
 *
 * @param start the graph before the plan
 * @param changed the graph after it
 * @param timeLeft asked before every node; what was not measured by then comes last
 * @throws the signal's reason once it is aborted
 */
export async function harmfulNodes(
  start: Graph,
  changed: Graph,
  plan: Plan,
  context: Context,
  timeLeft: () => boolean,
): Promise<string[]> {
  const names = changedNodes(start, changed);
  const wanted = await reference(start, context.runtime, await someFeeds(start, context));
  const scores = new Map<string, number>();
  for (const [done, name] of names.entries()) {
    context.signal.throwIfAborted();
    if (!timeLeft()) break;
    context.progress(done, names.length, "layers' sensitivities");
    const alone = await applyAlone(start, plan, name, context);
    if (alone) scores.set(name, await signalToNoise(alone, context.runtime, wanted));
  }
  context.progress(names.length, names.length, "layers' sensitivities");
  const rank = (name: string): number => scores.get(name) ?? Number.POSITIVE_INFINITY;
  return [...names].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}

/** Labels, as patterns choosing nothing else, of nodes with weights that are no longer the same objects, or read other weights. */
function changedNodes(start: Graph, changed: Graph): string[] {
  const kept = new Set(changed.nodes);
  const touched = (node: Node): boolean =>
    !kept.has(node) || node.inputs.some((input) => start.weights.get(input) !== changed.weights.get(input));
  return start.nodes
    .filter((node) => node.inputs.some((input) => start.weights.has(input)) && touched(node))
    .filter((node) => ambiguity(start, node) === undefined)
    .map(nodeLabel);
}

async function applyAlone(start: Graph, plan: Plan, name: string, context: Context): Promise<Graph | undefined> {
  const quiet: Context = { ...context, log() {}, skip() {}, show() {} };
  let graph = start;
  try {
    for (const step of bindPlan(plan, [], [name])) graph = await step.apply(graph, quiet);
  } catch (error) {
    if (context.signal.aborted || !(error instanceof PareError)) throw error;
    return undefined;
  }
  return graph === start ? undefined : graph;
}

async function someFeeds(graph: Graph, context: Context): Promise<Tensors[]> {
  const feeds: Tensors[] = [];
  if (!context.data) return feeds;
  for await (const { inputs } of calibrationBatches(graph, context, samples, 1, "compress")) feeds.push(inputs);
  return feeds;
}
