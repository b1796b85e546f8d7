import { edit } from "../../graph/edit.ts";
import { type Graph, intAttribute, isNode, type Node } from "../../graph/graph.ts";
import { consumersOf, leadsBack, links, soleConsumer } from "../../graph/walk.ts";
import { sizeOf, toNumbers } from "../../tensor/tensor.ts";
import type { ValueType } from "../rule.ts";
import { sameShape } from "../rules/helpers.ts";
import { writer } from "../writer.ts";
import { axesByBand, bandsOf, everything } from "./bands.ts";
import { cutOf, isSliced, isTurn, leadingSize, remove, type Shapes, type Sliced, scan } from "./slices.ts";

/** Scores that take less than this stay whole, bytes. */
const leastBytes = 2 ** 22;

/**
 * One attention: its forward pass, from the product that makes the scores to that with the values, and its backward pass,
 * from the scores to the gradients of queries, keys and values.
 */
type Attention = readonly Sliced[];

const elementwise = new Set(["Add", "Div", "Mul", "Neg", "Sub"]);

/**
 * Computes attention a few heads at a time, softmax(q kᵀ + mask) v forward and the gradients of q, k and v backward, and
 * the softmax a second time for these (Dao et al. 2022 do so on accelerators): scores are the largest values of a
 * transformer, and none of their size is ever there as a whole. Each direction becomes a Scan whose slices are views.
 *
 * @param graph a graph with its backward pass
 * @param types shapes of its values; attention of unknown shapes, or whose scores are read otherwise, stays as it is
 * @param threads threads of the runtime
 */
export function attentionInSlices(graph: Graph, types: ReadonlyMap<string, ValueType>, threads: number): Graph {
  const shapes = shapesOf(graph, types);
  const found = graph.nodes
    .filter((node) => isNode(node, "Softmax"))
    .map((node) => attentionOf(graph, node, shapes, threads))
    .filter((attention) => attention !== undefined);
  if (found.length === 0) return graph;
  return edit(graph, (draft) => {
    const g = writer(draft, "slices", draft.add);
    for (const passes of found) {
      const turns = passes.flatMap((pass) => scan(pass, shapes, draft, g));
      remove(draft, new Set(passes.flatMap(({ nodes }) => nodes)), turns);
    }
  });
}

function attentionOf(graph: Graph, softmax: Node, shapes: Shapes, threads: number): Attention | undefined {
  const name = softmax.outputs[0]!;
  const scores = shapes(name) ?? [];
  const last = [-1, scores.length - 1].includes(intAttribute(softmax, "axis", -1));
  if (scores.length < 3 || !last || 4 * sizeOf(scores) < leastBytes) return undefined;
  const weights = weightsOf(graph, softmax, scores, shapes);
  const [mixture, ...others] = consumersOf(graph, name);
  if (!weights || !mixture || others.length === 0) return undefined;
  if (!isNode(mixture, "MatMul") || mixture.inputs[0] !== name || mixture.inputs[1] === name) return undefined;
  const read = readersOf(graph, name, mixture, scores, shapes);
  if (!read) return undefined;
  const passes = [
    { nodes: [...weights, mixture], results: mixture.outputs },
    { nodes: [...weights, ...read.backward], results: read.gradients },
  ];
  const taken = passes.every(({ nodes }) =>
    nodes.every((node) => node.inputs.every((x) => takes(nodes, x, scores, shapes))),
  );
  if (!taken || [passes[0]!.nodes, read.backward].some((nodes) => leadsBack(graph, new Set(nodes)))) return undefined;
  const bands = bandsOf(graph, softmax, scores);
  const sliced = passes.map((pass): Sliced | undefined => {
    const axes = bands.length > 1 ? axesByBand(pass.nodes, name, pass.results, shapes) : undefined;
    const cut = cutOf(scores, axes ? bands : [everything(scores)], threads);
    return cut && { ...pass, cut, axes: axes ?? new Map() };
  });
  return sliced.includes(undefined) ? undefined : (sliced as Sliced[]);
}

/** The nodes from the product that makes the scores to the softmax, each of which only the next one reads. */
function weightsOf(graph: Graph, softmax: Node, scores: readonly number[], shapes: Shapes): Node[] | undefined {
  const chain = [softmax];
  for (let value = softmax.inputs[0]!; ; ) {
    const node = links(graph).producer.get(value);
    if (!node || soleConsumer(graph, value) !== chain[0]) return undefined;
    chain.unshift(node);
    if (isNode(node, "MatMul")) return chain;
    const whole = node.inputs.filter((name) => sameShape(shapes(name) ?? [], scores));
    if (!isElementwise(node) || whole.length !== 1) return undefined;
    value = whole[0]!;
  }
}

/** All that reads the softmax besides the product with the values, and what of it is read elsewhere; undefined where it can't be
 * sliced. */
function readersOf(
  graph: Graph,
  softmax: string,
  mixture: Node,
  scores: readonly number[],
  shapes: Shapes,
): { readonly backward: readonly Node[]; readonly gradients: readonly string[] } | undefined {
  const { producer, outputs } = links(graph);
  const large = new Set([softmax]);
  const nodes = new Set<Node>();
  for (const name of large) {
    if (outputs.has(name)) return undefined;
    const maker = name === softmax ? undefined : producer.get(name);
    for (const node of [...(maker ? [maker] : []), ...consumersOf(graph, name)]) {
      if (node === mixture && name === softmax) continue;
      nodes.add(node);
      if (isNode(node, "MatMul")) continue;
      if (isTurn(node)) for (const value of [node.inputs[0]!, node.outputs[0]!]) large.add(value);
      else if (isElementwise(node) && sameShape(shapes(node.outputs[0]!) ?? [], scores)) {
        const operands = node.inputs.filter((value) => sameShape(shapes(value) ?? [], scores));
        for (const value of [node.outputs[0]!, ...operands]) large.add(value);
      } else return undefined;
    }
  }
  const backward = graph.nodes.filter((node) => nodes.has(node));
  const gradients = backward.flatMap((node) => node.outputs.filter((name) => !large.has(name)));
  return { backward, gradients };
}

/** Whether a value can be handed to slices: made there, one for each, or the same small one for all. */
function takes(nodes: readonly Node[], name: string, scores: readonly number[], shapes: Shapes): boolean {
  if (nodes.some(({ outputs }) => outputs.includes(name))) return true;
  const shape = shapes(name);
  return shape !== undefined && (isSliced(shape, scores) || leadingSize(shape) === 1);
}

const isElementwise = ({ op, domain }: Node): boolean => domain === "" && elementwise.has(op);

/** Shapes of the graph's values, those that the operators of attention make of known ones too. */
function shapesOf(graph: Graph, types: ReadonlyMap<string, ValueType>): Shapes {
  const made = new Map<string, readonly number[]>();
  const known = (name: string): ValueType | undefined => types.get(name) ?? graph.weights.get(name);
  const shapes: Shapes = (name) =>
    made.get(name) ?? (known(name)?.dtype === "float32" ? known(name)!.shape : undefined);
  for (const node of graph.nodes) {
    const name = node.outputs[0]!;
    const inputs = node.inputs.map(shapes);
    if (known(name)) continue;
    const shape = shapeOf(node, inputs, graph);
    if (shape) made.set(name, shape);
  }
  return shapes;
}

function shapeOf(node: Node, inputs: readonly ReturnType<Shapes>[], graph: Graph): ReturnType<Shapes> {
  const [a, b] = inputs;
  if (!a) return undefined;
  if (isTurn(node)) return [...a.slice(0, -2), a.at(-1)!, a.at(-2)!];
  if (isNode(node, "ReduceSum")) {
    const axes = graph.weights.get(node.inputs[1] ?? "");
    if (!axes || intAttribute(node, "keepdims", 1) === 0) return undefined;
    const over = toNumbers(axes).map((axis) => (axis < 0 ? axis + a.length : axis));
    return a.map((dim, axis) => (over.includes(axis) ? 1 : dim));
  }
  const all = inputs.filter((shape) => shape !== undefined);
  if (all.length < inputs.length) return undefined;
  if (isElementwise(node)) return broadcast(all);
  if (!isNode(node, "MatMul") || a.length < 2 || b!.length < 2) return undefined;
  return [...broadcast(all.map((shape) => shape.slice(0, -2))), a.at(-2)!, b!.at(-1)!];
}

function broadcast(shapes: readonly (readonly number[])[]): readonly number[] {
  const rank = Math.max(...shapes.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) =>
    shapes.reduce((size, shape) => Math.max(size, shape[axis - rank + shape.length] ?? 1), 1),
  );
}
