import type { Draft } from "../../graph/edit.ts";
import {
  attributesOf,
  intsAttribute,
  isNode,
  makeNode,
  type Node,
  type Subgraph,
  type Value,
} from "../../graph/graph.ts";
import { consumersOf, links } from "../../graph/walk.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import { sameShape } from "../rules/helpers.ts";
import { ints, type Writer } from "../writer.ts";

/** What a thread takes of the scores at a time, bytes, if a matrix is not larger: it stays in the processor's cache. */
const threadBytes = 2 ** 18;

/** With fewer slices too little would be gained. */
const leastSlices = 4;

/** Shapes of float values. */
export type Shapes = (name: string) => readonly number[] | undefined;

/** How the scores are cut: so many slices of so many matrices. */
export interface Cut {
  /** Their shape: [..., rows, columns]. */
  readonly scores: readonly number[];
  readonly slices: number;
  readonly perSlice: number;
}

/** The slices of scores [..., rows, columns], with matrices for all threads; undefined where there are too few. */
export function cutOf(scores: readonly number[], threads: number): Cut | undefined {
  const matrices = leadingSize(scores);
  if (matrices < leastSlices) return undefined;
  const perThread = Math.max(1, Math.floor(threadBytes / (4 * sizeOf(scores.slice(-2)))));
  let perSlice = Math.min(threads * perThread, Math.floor(matrices / leastSlices));
  while (matrices % perSlice !== 0) perSlice--;
  return { scores, slices: matrices / perSlice, perSlice };
}

/** Copies of nodes in the body of a Scan, with what they read. */
interface Body {
  readonly nodes: readonly Node[];
  readonly inputs: readonly Value[];
  /** What is cut to be the inputs. */
  readonly cut: readonly string[];
  /** A value's name in the body. */
  readonly names: ReadonlyMap<string, string>;
  /** Transpositions outside that the body does itself. */
  readonly turns: readonly Node[];
}

function bodyOf(nodes: readonly Node[], { scores, perSlice }: Cut, shapes: Shapes, draft: Draft, g: Writer): Body {
  const { producer } = links(draft.before);
  const body = { nodes: [] as Node[], inputs: [] as Value[], cut: [] as string[], turns: [] as Node[] };
  const names = new Map<string, string>();
  const put = (node: Node): void => {
    const inputs = node.inputs.map(inside);
    const outputs = node.outputs.map((name) => draft.fresh(`${name}_slice`));
    for (const [i, name] of node.outputs.entries()) names.set(name, outputs[i]!);
    const { axis, perm } = node.attributes;
    const attributes = attributesOf({ axis: axis && -1, perm: perm && [0, 2, 1] });
    body.nodes.push({ ...node, inputs, outputs, attributes });
  };
  const inside = (name: string): string => {
    if (names.has(name)) return names.get(name)!;
    const shape = shapes(name)!;
    const maker = producer.get(name);
    if (!isSliced(shape, scores)) {
      names.set(name, shape.length > 2 ? g.op("Reshape", [name, ints(g, shape.slice(-2))]) : name);
    } else if (maker && isTurn(maker) && shapes(maker.inputs[0]!)) {
      // the runtime's products turn their operands at no cost
      body.turns.push(maker);
      put(maker);
    } else {
      const value = sliceOf(draft.fresh(`${name}_slice`), shape, perSlice);
      body.inputs.push(value);
      body.cut.push(name);
      names.set(name, value.name);
    }
    return names.get(name)!;
  };
  for (const node of nodes) put(node);
  return { ...body, names };
}

const sliceOf = (name: string, shape: readonly number[], perSlice: number): Value => ({
  name,
  type: { kind: "tensor", dtype: "float32", shape: [perSlice, ...shape.slice(-2)] },
});

/**
 * Writes nodes as a Scan over the leading axes that gives the results under their names.
 *
 * @returns transpositions before the nodes that the Scan does itself
 */
export function scan(
  nodes: readonly Node[],
  results: readonly string[],
  cut: Cut,
  shapes: Shapes,
  draft: Draft,
  g: Writer,
): readonly Node[] {
  const body = bodyOf(nodes, cut, shapes, draft, g);
  const slice: Subgraph = {
    name: "slice",
    nodes: body.nodes,
    inputs: body.inputs,
    outputs: results.map((name) => sliceOf(body.names.get(name)!, shapes(name)!, cut.perSlice)),
    weights: new Map(),
    sparse: new Map(),
    declared: new Map(),
  };
  const inputs = body.cut.map((name) =>
    g.op("Reshape", [name, ints(g, [cut.slices, cut.perSlice, ...shapes(name)!.slice(-2)])]),
  );
  const attributes = { num_scan_inputs: inputs.length, body: { type: "graph", value: slice } } as const;
  const made = g.ops("Scan", inputs, attributes, results.length);
  for (const [i, name] of results.entries()) draft.add(makeNode("Reshape", [made[i]!, ints(g, shapes(name)!)], [name]));
  return body.turns;
}

/** Removes nodes, and those of the transpositions that nothing else reads. */
export function remove(draft: Draft, nodes: readonly Node[], turns: readonly Node[]): void {
  const { outputs } = links(draft.before);
  const gone = new Set(nodes);
  for (const node of draft.before.nodes.toReversed()) {
    const name = node.outputs[0]!;
    const read = outputs.has(name) || consumersOf(draft.before, name).some((reader) => !gone.has(reader));
    if (turns.includes(node) && !read) gone.add(node);
  }
  for (const node of gone) draft.replace(node);
}

/** Whether a value of a shape has a matrix for every one of the scores. */
export const isSliced = (shape: readonly number[], scores: readonly number[]): boolean =>
  shape.length === scores.length && sameShape(shape.slice(0, -2), scores.slice(0, -2));

/** How many matrices a shape has. */
export const leadingSize = (shape: readonly number[]): number => sizeOf(shape.slice(0, -2));

/** A transposition of matrices. */
export function isTurn(node: Node): boolean {
  const perm = intsAttribute(node, "perm");
  if (!isNode(node, "Transpose") || !perm || perm.length < 3) return false;
  return perm.every((axis, i) => axis === (i < perm.length - 2 ? i : 2 * perm.length - 3 - i));
}
