import { measureLatency } from "../analysis/latency.ts";
import { syntheticFeeds } from "../data/synthetic.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import type { ObservedType } from "../platform/observe.ts";
import type { Context } from "../techniques/technique.ts";

/** Seconds that the old and the new form of a layer are timed for, each. */
const seconds = 0.05;

/**
 * How many milliseconds longer an inference takes by what was changed in a graph, on the runtime at hand, whichever its
 * provider: the nodes that were replaced and those that replaced them, each as a graph of its own, in runs that take
 * turns. Negative where it is faster; 0 where no node was replaced.
 *
 * @param types of the values of the graph before
 * @throws PareError where the runtime refuses a part
 */
export async function changeOfTime(
  before: Graph,
  after: Graph,
  types: ReadonlyMap<string, ObservedType>,
  { runtime, random, signal }: Pick<Context, "runtime" | "random" | "signal">,
): Promise<number> {
  const [old, fresh] = [new Set(before.nodes), new Set(after.nodes)];
  const parts = [partOf(before, (node) => !fresh.has(node)), partOf(after, (node) => !old.has(node))];
  if (parts.some(({ nodes }) => nodes.length === 0)) return 0;
  const names = new Set(parts.flatMap(({ inputs }) => inputs.map(({ name }) => name)));
  // what only one of the parts reads goes into both, so that they are fed alike
  const inputs = [...names].map((name): Value => ({ name, type: { kind: "tensor", ...types.get(name)! } }));
  const models = parts.map((part, i) => ({ name: `${i}`, graph: { ...part, inputs } }));
  const feeds = syntheticFeeds(models[0]!.graph, random.fork("time"));
  const { models: timed } = await measureLatency(models, runtime, feeds, { seconds, warmUp: 3, signal });
  return timed[0]!.median * (timed[1]!.ratio! - 1);
}

/** Some nodes of a graph as a graph: what they read of the others comes in, what others read of them goes out. */
function partOf(graph: Graph, taken: (node: Node) => boolean): Graph {
  const { producer, consumers, outputs } = links(graph);
  const nodes = graph.nodes.filter(taken);
  const inside = new Set(nodes);
  const read = [...new Set(nodes.flatMap((node) => [...reads(node)]))];
  const isRead = (name: string): boolean => (consumers.get(name) ?? []).some((node) => !inside.has(node));
  const made = nodes.flatMap((node) => node.outputs.filter((name) => name !== ""));
  return {
    ...graph,
    nodes,
    weights: new Map(read.flatMap((name) => (graph.weights.has(name) ? [[name, graph.weights.get(name)!]] : []))),
    inputs: read
      .filter((name) => !graph.weights.has(name) && !inside.has(producer.get(name)!))
      .map((name) => ({ name })),
    outputs: made.filter((name) => outputs.has(name) || isRead(name)).map((name) => ({ name })),
    declared: new Map(),
  };
}
