import type { Graph, Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { Options } from "./options.ts";
import type { Plan } from "./plan.ts";
import { activations } from "./rules.ts";

/** Bits of integers. */
export interface Widths {
  /** Of a weight, by name. */
  weight(name: string): number;
  /** Of a value's grid, by the name of the value that the grid was made for. */
  value(source: string): number;
}

/**
 * The bits that options ask for; with `keepEnds`, 8 for the weights and inputs of the first and last layers, and for what
 * comes before and behind all layers.
 */
export function widthsOf(graph: Graph, plan: Plan, options: Options): Widths {
  const { weightBits, activationBits, activationType, keepEnds } = options;
  const own = activationType.endsWith("16") ? 16 : 8;
  const ends = keepEnds && Math.min(weightBits, activationBits) < 8 ? endsOf(graph, plan) : undefined;
  return {
    weight: (name) => (ends?.weights.has(name) ? 8 : weightBits),
    value: (source) => (own === 16 ? own : ends?.values.has(source) ? 8 : activationBits),
  };
}

function endsOf(graph: Graph, plan: Plan): { weights: ReadonlySet<string>; values: ReadonlySet<string> } {
  const above = reach(graph.nodes, plan, (node) => [node.inputs, node.outputs]);
  const below = reach(graph.nodes.toReversed(), plan, (node) => [node.outputs, node.inputs]);
  const weights = new Set<string>();
  const values = new Set<string>();
  for (const node of plan.compute) {
    const inputs = activations(node, graph);
    const isLast = !node.outputs.some((name) => below.has(name));
    if (!isLast && inputs.some((name) => above.has(name))) continue;
    weights.add(node.inputs[1]!);
    for (const name of inputs) values.add(plan.values.get(name) ?? name);
  }
  const { producer } = links(graph);
  for (const [name, source] of plan.values) {
    if (!above.has(name) || (producer.has(name) && !below.has(name))) values.add(source);
  }
  return { weights, values };
}

/** Values that a compute node lies before, in the order and direction of the nodes given. */
function reach(
  nodes: readonly Node[],
  plan: Plan,
  sides: (node: Node) => readonly [from: readonly string[], to: readonly string[]],
): ReadonlySet<string> {
  const reached = new Set<string>();
  for (const node of nodes) {
    const [from, to] = sides(node);
    if (plan.compute.has(node) || from.some((name) => reached.has(name))) for (const name of to) reached.add(name);
  }
  return reached;
}
