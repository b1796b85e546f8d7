import { type Graph, type Node, nodeLabel, opKey, subgraphsOf } from "../graph/graph.ts";
import { reads } from "../graph/walk.ts";
import type { KnownTypes } from "../ops/lookup.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { AxisId, Freeze, PartRelation, ProductRelation, Relations } from "./couplings-relations.ts";
import { type ComputedSizes, computedSizes } from "./couplings-shapes.ts";
import { couplingRule } from "./rules/index.ts";
import type { Contraction, NodeView, Relating } from "./rules/rule.ts";

/** A sum that a node takes over axes of one of its inputs. */
export interface ContractionOf {
  readonly node: Node;
  readonly input: number;
  readonly axes: readonly number[];
  readonly how: Contraction;
}

/** All that the rules say of a graph. */
export interface GraphRelations {
  readonly relations: Relations;
  /** Axes of every value, in the order in which nodes read and make them. */
  readonly axesOf: ReadonlyMap<string, readonly AxisId[]>;
  readonly contractions: readonly ContractionOf[];
  readonly sizes: ComputedSizes;
}

/** What a node's rule sees of it. */
export function nodeView(
  graph: Graph,
  node: Node,
  types: KnownTypes,
  constantOf: (name: string) => Tensor | undefined,
): NodeView {
  const shape = (name: string | undefined): readonly number[] | undefined =>
    name ? types.get(name)?.shape : undefined;
  return {
    node,
    opset: graph.opsets[node.domain] ?? graph.opsets[""] ?? 1,
    shapeIn: (i) => shape(node.inputs[i]),
    shapeOut: (i) => shape(node.outputs[i]),
    constant: (i) => (node.inputs[i] ? constantOf(node.inputs[i]) : undefined),
  };
}

/** Asks the rule of every node for its relations, and freezes what the graph shows to the outside. */
export function relationsOf(
  graph: Graph,
  types: KnownTypes,
  constantOf: (name: string) => Tensor | undefined,
): GraphRelations {
  const computed = computedSizes(graph, types, constantOf);
  const sizes: number[] = [];
  const products: ProductRelation[] = [];
  const parts: PartRelation[] = [];
  const freezes: Freeze[] = [];
  const contractions: ContractionOf[] = [];
  const axesOf = new Map<string, readonly AxisId[]>();
  const virtual = (size: number): AxisId => sizes.push(size) - 1;
  const axes = (name: string | undefined): readonly AxisId[] | undefined => {
    if (!name) return undefined;
    const known = axesOf.get(name) ?? types.get(name)?.shape.map(virtual);
    if (known) axesOf.set(name, known);
    return known;
  };
  const freeze = (some: readonly AxisId[], reason: string, position = false, index?: number): void => {
    for (const axis of some) freezes.push({ axis, reason, position, ...(index !== undefined && { index }) });
  };
  const relating = (node: Node): Relating => {
    const by = nodeLabel(node);
    const all = (): readonly AxisId[] => [...reads(node), ...node.outputs].flatMap((name) => axes(name) ?? []);
    const product = (left: readonly AxisId[], right: readonly AxisId[]): void => {
      const size = (side: readonly AxisId[]): number => side.reduce((total, axis) => total * sizes[axis]!, 1);
      if (size(left) === size(right) && size(left) > 0) products.push({ left, right, by });
      else freeze([...left, ...right], `'${by}' relates sizes that do not fit`);
    };
    return {
      ...nodeView(graph, node, types, computed.constantOf),
      input: (i) => axes(node.inputs[i]),
      output: (i) => axes(node.outputs[i]),
      size: (axis) => sizes[axis]!,
      virtual,
      product,
      same: (a, b) => a !== undefined && b !== undefined && product([a], [b]),
      part: (part, whole, index) => parts.push({ part, whole, index: Int32Array.from(index), by }),
      freeze: (some, reason) => freeze(some, reason),
      freezeAll: (reason) => freeze(all(), reason),
      positions: (some, index) => freeze(some, `positions of '${by}'`, true, index),
      contract: (input, over, how) => contractions.push({ node, input, axes: over, how }),
    };
  };
  for (const node of graph.nodes) {
    const r = relating(node);
    const unknown = [...reads(node), ...node.outputs].find((name) => name !== "" && !types.has(name));
    if (subgraphsOf(node).length > 0) r.freezeAll(`'${nodeLabel(node)}' reads or makes it in a body of its own`);
    else if (unknown !== undefined) r.freezeAll(`the type of '${unknown}' is unknown`);
    else couplingRule(opKey(node)).relate(r);
  }
  for (const { name } of graph.inputs) if (!graph.weights.has(name)) freeze(axes(name) ?? [], `input '${name}'`);
  for (const { name } of graph.outputs) freeze(axes(name) ?? [], `output '${name}'`);
  for (const { value, axis, reason } of computed.used) freeze([axes(value)![axis]!], reason);
  return { relations: { sizes, products, parts, freezes }, axesOf, contractions, sizes: computed };
}
