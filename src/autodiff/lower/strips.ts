import { type Draft, edit } from "../../graph/edit.ts";
import { type Graph, isNode, makeNode, type Node, type Subgraph, type Value } from "../../graph/graph.ts";
import { consumersOf, leadsBack, links } from "../../graph/walk.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import type { ValueType } from "../rule.ts";
import { sameShape } from "../rules/helpers.ts";
import { ints, writer } from "../writer.ts";

/** What a thread takes of a value at a time, bytes: a few such strips stay in the processor's cache. */
const stripBytes = 2 ** 18;
/** Values of less than this stay whole, bytes. */
const leastBytes = 2 ** 22;
/** Nodes, fewest, of what is cut, and of its values those that are read elsewhere, at most, as a share. */
const [fewestNodes, mostRead] = [4, 0.5];

const elementwise = new Set(
  "Abs Add Clip Div Erf Exp Gelu HardSigmoid Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid Softplus Sqrt Sub Sum Tanh".split(
    " ",
  ),
);

/** Elementwise nodes that are computed strip by strip. */
interface Group {
  readonly nodes: Set<Node>;
  readonly shape: readonly number[];
}

/**
 * Computes stretches of elementwise nodes on large values a strip at a time: each node would read and write all of memory,
 * and a strip of what it makes is still in the cache when the next node reads it. Each stretch becomes a Scan whose slices
 * are views. The runtime has no kernel for such a stretch as a whole. The gradient of Gelu takes half the time so on one
 * thread; on two, which share out every node anew, a tenth less.
 *
 * @param types shapes of the graph's values; those of elementwise nodes follow from them
 * @param threads threads of the runtime
 */
export function elementwiseInStrips(graph: Graph, types: ReadonlyMap<string, ValueType>, threads: number): Graph {
  const shapes = shapesOf(graph, types);
  const groups = groupsOf(graph, shapes).filter((group) => pays(graph, group, threads));
  if (groups.length === 0) return graph;
  return edit(graph, (draft) => {
    for (const group of groups) writeScan(graph, group, shapes, threads, draft);
  });
}

type Shapes = ReadonlyMap<string, readonly number[]>;

/** Shapes of large float values, of elementwise results too. */
function shapesOf(graph: Graph, types: ReadonlyMap<string, ValueType>): Shapes {
  const shapes = new Map<string, readonly number[]>();
  for (const [name, { dtype, shape }] of [...graph.weights, ...types]) if (dtype === "float32") shapes.set(name, shape);
  for (const { name, type } of graph.inputs) {
    if (type?.kind !== "tensor" || type.dtype !== "float32") continue;
    if (type.shape?.every((dim) => typeof dim === "number")) shapes.set(name, type.shape as readonly number[]);
  }
  for (const node of graph.nodes) {
    const whole = node.inputs.map((name) => shapes.get(name)).find((shape) => shape && sizeOf(shape) > 1);
    if (whole && isElementwise(node) && !shapes.has(node.outputs[0]!) && fits(node, whole, shapes))
      shapes.set(node.outputs[0]!, whole);
  }
  return shapes;
}

/** Whether the operands are of one shape, or single numbers. */
function fits(node: Node, whole: readonly number[], shapes: Shapes): boolean {
  return node.inputs.every((name) => {
    const shape = name === "" ? [] : shapes.get(name);
    return shape !== undefined && (sameShape(shape, whole) || (shape.length < 2 && sizeOf(shape) === 1));
  });
}

/** Elementwise nodes that lead to each other, in groups each of which can become one node. */
function groupsOf(graph: Graph, shapes: Shapes): readonly Group[] {
  const { producer } = links(graph);
  const groupOf = new Map<Node, Group>();
  for (const node of graph.nodes) {
    const shape = shapes.get(node.outputs[0]!);
    if (!shape || !isElementwise(node) || 4 * sizeOf(shape) < leastBytes || !fits(node, shape, shapes)) continue;
    let own: Group = { nodes: new Set([node]), shape };
    for (const name of node.inputs) {
      const other = groupOf.get(producer.get(name)!);
      if (!other || !sameShape(other.shape, shape) || own.nodes.has(producer.get(name)!)) continue;
      const both = new Set([...other.nodes, ...own.nodes]);
      if (!leadsBack(graph, both, (each) => groupOf.get(each)?.nodes ?? [each])) own = { nodes: both, shape };
    }
    for (const each of own.nodes) groupOf.set(each, own);
  }
  return [...new Set(groupOf.values())];
}

const isElementwise = (node: Node): boolean => elementwise.has(node.op) && isNode(node, node.op);

function pays(graph: Graph, { nodes, shape }: Group, threads: number): boolean {
  const size = sizeOf(shape);
  if ((4 * size) / stripsOf(size, threads) < (stripBytes * threads) / 4) return false;
  return nodes.size >= fewestNodes && readElsewhere(graph, nodes).length <= mostRead * nodes.size;
}

function readElsewhere(graph: Graph, nodes: ReadonlySet<Node>): readonly string[] {
  const { outputs } = links(graph);
  return [...nodes]
    .map((node) => node.outputs[0]!)
    .filter((name) => outputs.has(name) || consumersOf(graph, name).some((reader) => !nodes.has(reader)));
}

/** Into how many equal strips a value is cut; more than would be best where that does not divide it. */
function stripsOf(size: number, threads: number): number {
  let strips = Math.ceil((4 * size) / (stripBytes * threads));
  while (size % strips !== 0) strips++;
  return strips;
}

function writeScan(graph: Graph, { nodes, shape }: Group, shapes: Shapes, threads: number, draft: Draft): void {
  const g = writer(draft, "strips", draft.add);
  const size = sizeOf(shape);
  const strips = stripsOf(size, threads);
  const results = readElsewhere(graph, nodes);
  const made = new Set([...nodes].map(({ outputs }) => outputs[0]!));
  const read = new Set([...nodes].flatMap(({ inputs }) => inputs).filter((name) => name !== "" && !made.has(name)));
  const whole = [...read].filter((name) => sizeOf(shapes.get(name)!) > 1);
  const names = new Map([...whole, ...made].map((name) => [name, draft.fresh(`${name}_strip`)]));
  const inside = (name: string): string => names.get(name) ?? name;
  const value = (name: string): Value => ({
    name: inside(name),
    type: { kind: "tensor", dtype: "float32", shape: [size / strips] },
  });
  const body: Subgraph = {
    name: "strip",
    nodes: graph.nodes
      .filter((node) => nodes.has(node))
      .map((node) => ({ ...node, inputs: node.inputs.map(inside), outputs: node.outputs.map(inside) })),
    inputs: whole.map(value),
    outputs: results.map(value),
    weights: new Map(),
    sparse: new Map(),
    declared: new Map(),
  };
  const views = whole.map((name) => g.op("Reshape", [name, ints(g, [strips, size / strips])]));
  const attributes = { num_scan_inputs: views.length, body: { type: "graph", value: body } } as const;
  const stacked = g.ops("Scan", views, attributes, results.length);
  for (const node of nodes) draft.replace(node);
  for (const [i, name] of results.entries()) draft.add(makeNode("Reshape", [stacked[i]!, ints(g, shape)], [name]));
}
