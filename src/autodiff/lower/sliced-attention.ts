import { edit } from "../../graph/edit.ts";
import { type Graph, intAttribute, isNode, type Node } from "../../graph/graph.ts";
import { consumersOf, links, soleConsumer } from "../../graph/walk.ts";
import { sizeOf, toNumbers } from "../../tensor/tensor.ts";
import type { ValueType } from "../rule.ts";
import { sameShape } from "../rules/helpers.ts";
import { writer } from "../writer.ts";
import { type Cut, cutOf, isSliced, isTurn, leadingSize, remove, type Shapes, scan } from "./slices.ts";

/** Scores that take less than this stay whole, bytes. */
const leastBytes = 2 ** 22;

/** One attention and its backward pass. */
interface Attention {
  /** How its scores, [..., queries, keys], are cut. */
  readonly cut: Cut;
  /** From the product that makes the scores to the softmax. */
  readonly weights: readonly Node[];
  /** The product with the values. */
  readonly mixture: Node;
  /** All that reads the softmax besides, up to the gradients of queries, keys and values. */
  readonly backward: readonly Node[];
  /** What of the backward pass is read elsewhere. */
  readonly gradients: readonly string[];
}

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
  const found = graph.nodes.flatMap((node) =>
    isNode(node, "Softmax") ? (attentionOf(graph, node, shapes, threads) ?? []) : [],
  );
  if (found.length === 0) return graph;
  return edit(graph, (draft) => {
    const g = writer(draft, "slices", draft.add);
    for (const { cut, weights, mixture, backward, gradients } of found) {
      const turns = [
        ...scan([...weights, mixture], mixture.outputs, cut, shapes, draft, g),
        ...scan([...weights, ...backward], gradients, cut, shapes, draft, g),
      ];
      remove(draft, [...weights, mixture, ...backward], turns);
    }
  });
}

function attentionOf(graph: Graph, softmax: Node, shapes: Shapes, threads: number): Attention | undefined {
  const name = softmax.outputs[0]!;
  const scores = shapes(name) ?? [];
  const last = [-1, scores.length - 1].includes(intAttribute(softmax, "axis", -1));
  if (scores.length < 3 || !last || 4 * sizeOf(scores) < leastBytes) return undefined;
  const cut = cutOf(scores, threads);
  const weights = weightsOf(graph, softmax, scores, shapes);
  const [mixture, ...others] = consumersOf(graph, name);
  if (!cut || !weights || !mixture || others.length === 0) return undefined;
  if (!isNode(mixture, "MatMul") || mixture.inputs[0] !== name || mixture.inputs[1] === name) return undefined;
  const read = readersOf(graph, name, mixture, scores, shapes);
  if (!read) return undefined;
  const groups = [
    [...weights, mixture],
    [...weights, ...read.backward],
  ];
  const taken = groups.every((nodes) =>
    nodes.every((node) => node.inputs.every((x) => takes(nodes, x, scores, shapes))),
  );
  const whole = !returns(graph, groups[0]!) && !returns(graph, read.backward);
  return taken && whole ? { cut, weights, mixture, ...read } : undefined;
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

/** The nodes that read or make values as large as the scores; undefined where one of them can't be sliced. */
function readersOf(
  graph: Graph,
  softmax: string,
  mixture: Node,
  scores: readonly number[],
  shapes: Shapes,
): Pick<Attention, "backward" | "gradients"> | undefined {
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

/** Whether a way from some of the nodes to others of them leads over nodes that are not among them. */
function returns(graph: Graph, nodes: readonly Node[]): boolean {
  const own = new Set(nodes);
  const readers = (node: Node): readonly Node[] => node.outputs.flatMap((name) => consumersOf(graph, name));
  const outside = new Set(nodes.flatMap(readers).filter((node) => !own.has(node)));
  for (const node of outside) {
    for (const next of readers(node)) {
      if (own.has(next)) return true;
      outside.add(next);
    }
  }
  return false;
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
