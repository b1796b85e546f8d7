import type { Graph, Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { layerValue, type NamedLayer } from "../layer-values.ts";
import { narrowestActivation, narrowestWeight, type Options } from "./options.ts";
import type { Plan } from "./plan.ts";
import { activations, kindOf, weightOf } from "./rules.ts";

/** Bits of integers. */
export interface Widths {
  /** Of a weight, by name. */
  weight(name: string): number;
  /** Of a value's grid, by the name of the value that the grid was made for. */
  value(source: string): number;
}

/**
 * The bits that options ask for. Layers that are named have their own; with `keepEnds`, 8 for the weights and inputs of the
 * first and last layers, and for what comes before and behind all layers. What several layers read has the most that any
 * of them wants.
 */
export function widthsOf(graph: Graph, plan: Plan, options: Options): Widths {
  const { weightBits, activationBits, activationType, layerBits, layerActivationBits, keepEnds } = options;
  const fewer = Math.min(narrowestWeight(options), narrowestActivation(options)) < 8;
  const ends = keepEnds && fewer ? endsOf(graph, plan) : undefined;
  const usual = (source: string): number => (ends?.values.has(source) ? 8 : activationBits);
  const weights = new Map<string, number>();
  const values = new Map<string, number>();
  for (const layer of layersOf(graph, plan.compute)) {
    const own = layerValue(layerBits, layer);
    if (layer.weight !== undefined && own !== undefined) weights.set(layer.weight, own);
    const read = layerValue(layerActivationBits, layer);
    for (const name of layer.nodes.flatMap((node) => activations(node, graph))) {
      const source = plan.values.get(name) ?? name;
      values.set(source, Math.max(values.get(source) ?? 0, read ?? usual(source)));
    }
  }
  const wide = activationType.endsWith("16");
  return {
    weight: (name) => weights.get(name) ?? (ends?.weights.has(name) ? 8 : weightBits),
    value: (source) => (wide ? 16 : (values.get(source) ?? usual(source))),
  };
}

/** The layers of some nodes: those that multiply, together where they read the same weight. */
export function layersOf(graph: Graph, nodes: Iterable<Node>): readonly NamedLayer[] {
  const byWeight = new Map<string, Node[]>();
  const layers: NamedLayer[] = [];
  for (const node of nodes) {
    if (kindOf(node, graph) !== "compute") continue;
    const weight = weightOf(node, graph)?.name;
    const known = weight === undefined ? undefined : byWeight.get(weight);
    if (known) {
      known.push(node);
      continue;
    }
    const together = [node];
    layers.push({ ...(weight !== undefined && { weight }), nodes: together });
    if (weight !== undefined) byWeight.set(weight, together);
  }
  return layers;
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
