import type { Draft } from "../../graph/edit.ts";
import {
  attributesOf,
  intsAttribute,
  isNode,
  makeNode,
  type Node,
  type PlainAttribute,
  type Subgraph,
  type Value,
} from "../../graph/graph.ts";
import { consumersOf, links } from "../../graph/walk.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import { sameShape } from "../rules/helpers.ts";
import { ints, type Writer } from "../writer.ts";
import { type Axes, type Axis, areaOf, type Band } from "./bands.ts";

/** What a thread takes of the scores at a time, bytes, if a matrix is not larger: it stays in the processor's cache. */
const threadBytes = 2 ** 18;

/** With fewer slices too little would be gained. */
const leastSlices = 4;

/** Shapes of float values. */
export type Shapes = (name: string) => readonly number[] | undefined;

/** How the scores are cut: so many slices of so many matrices, each in bands. */
export interface Cut {
  /** Their shape: [..., rows, columns]. */
  readonly scores: readonly number[];
  readonly slices: number;
  readonly perSlice: number;
  readonly bands: readonly Band[];
}

/** The slices of scores [..., rows, columns], with matrices for all threads; undefined where there are too few. */
export function cutOf(scores: readonly number[], bands: readonly Band[], threads: number): Cut | undefined {
  const matrices = leadingSize(scores);
  if (matrices < leastSlices) return undefined;
  const perThread = Math.max(1, Math.floor(threadBytes / (4 * Math.max(...bands.map(areaOf)))));
  let perSlice = Math.min(threads * perThread, Math.floor(matrices / leastSlices));
  while (matrices % perSlice !== 0) perSlice--;
  return { scores, slices: matrices / perSlice, perSlice, bands };
}

/** What is written as a Scan. */
export interface Sliced {
  readonly nodes: readonly Node[];
  /** Names of what they give. */
  readonly results: readonly string[];
  readonly cut: Cut;
  /** Rows and columns among the axes of what the nodes read and make; not needed where there is one band. */
  readonly axes: Axes;
}

/** The body of a Scan while it is written: copies of nodes for each band, with what they read. */
class Body {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  /** What is cut to be the inputs. */
  readonly cut: string[] = [];
  /** Transpositions outside that the body does itself. */
  readonly turns: Node[] = [];
  readonly #whole = new Map<string, string>();
  readonly #sliced: Sliced;
  readonly #shapes: Shapes;
  readonly #draft: Draft;
  readonly #g: Writer;

  constructor(sliced: Sliced, shapes: Shapes, draft: Draft, g: Writer) {
    this.#sliced = sliced;
    this.#shapes = shapes;
    this.#draft = draft;
    this.#g = g;
  }

  /** Copies the nodes for each band; gives the names of the results, whole again. */
  write(): readonly string[] {
    const { nodes, results, cut, axes } = this.#sliced;
    const parts = cut.bands.map((band) => {
      const names = new Map<string, string>();
      for (const node of nodes) this.#put(node, band, names);
      return results.map((name) => names.get(name)!);
    });
    if (parts.length === 1) return parts[0]!;
    return results.map((name, i) => {
      const own = parts.map((part) => part[i]!);
      const axis = axes.get(name)!.findIndex((each) => each !== undefined);
      return axes.get(name)![axis] === "rows" ? this.#op("Concat", own, { axis: axis + 1 }) : this.#sum(own, axis + 1);
    });
  }

  #put(node: Node, band: Band, names: Map<string, string>): void {
    const inputs = node.inputs.map((name) => this.#inside(name, this.#axesOf(name), band, names));
    const outputs = node.outputs.map((name) => this.#draft.fresh(`${name}_slice`));
    for (const [i, name] of node.outputs.entries()) names.set(name, outputs[i]!);
    const { axis, perm } = node.attributes;
    const attributes = attributesOf({ axis: axis && -1, perm: perm && [0, 2, 1] });
    this.nodes.push(makeNode(node.op, inputs, outputs, attributes));
  }

  /** The name in the body of a band's part of a value. */
  #inside(name: string, axes: readonly Axis[], band: Band, names: Map<string, string>): string {
    const known = names.get(name);
    if (known !== undefined) return known;
    const shape = this.#shapes(name)!;
    const maker = links(this.#draft.before).producer.get(name);
    if (!isSliced(shape, this.#sliced.cut.scores)) {
      const matrix = shape.length > 2 ? this.#g.op("Reshape", [name, ints(this.#g, shape.slice(-2))]) : name;
      const part = this.#part(axes, shape, band, 0);
      names.set(name, part ? this.#g.op("Slice", [matrix, ...part]) : matrix);
    } else if (maker && isTurn(maker) && this.#shapes(maker.inputs[0]!)) {
      // the runtime's products turn their operands at no cost
      this.turns.push(maker);
      this.#inside(maker.inputs[0]!, axes.toReversed(), band, names);
      this.#put(maker, band, names);
    } else {
      const part = this.#part(axes, shape, band, 1);
      const whole = this.#input(name, shape);
      names.set(name, part ? this.#op("Slice", [whole, ...part]) : whole);
    }
    return names.get(name)!;
  }

  #axesOf(name: string): readonly Axis[] {
    return this.#sliced.axes.get(name) ?? [undefined, undefined];
  }

  /** Where a band's part of a matrix begins and ends and along which axes; undefined where that is all of it. */
  #part(axes: readonly Axis[], shape: readonly number[], band: Band, first: number): readonly string[] | undefined {
    const cut = axes.flatMap((axis, i) =>
      axis === undefined ? [] : [{ at: first + i, ends: band[axis], size: shape.at(i - 2)! }],
    );
    const real = cut.filter(({ ends: [from, to], size }) => to - from < size);
    if (real.length === 0) return undefined;
    const of = (values: readonly number[]): string => ints(this.#g, values);
    return [of(real.map(({ ends }) => ends[0])), of(real.map(({ ends }) => ends[1])), of(real.map(({ at }) => at))];
  }

  #input(name: string, shape: readonly number[]): string {
    const known = this.#whole.get(name);
    if (known !== undefined) return known;
    const value = sliceOf(this.#draft.fresh(`${name}_slice`), shape, this.#sliced.cut.perSlice);
    this.inputs.push(value);
    this.cut.push(name);
    this.#whole.set(name, value.name);
    return value.name;
  }

  /** Adds up what the bands give along an axis for their columns. */
  #sum(parts: readonly string[], axis: number): string {
    const { bands, scores } = this.#sliced.cut;
    const whole = parts.map((part, i) => {
      const [from, to] = bands[i]!.columns;
      const missing = scores.at(-1)! - to;
      if (from + missing === 0) return part;
      return this.#op("Pad", [part, ints(this.#g, [from, missing]), "", ints(this.#g, [axis])]);
    });
    return this.#op("Sum", whole);
  }

  #op(op: string, inputs: readonly string[], attributes: Readonly<Record<string, PlainAttribute>> = {}): string {
    const name = this.#draft.fresh("band");
    this.nodes.push(makeNode(op, inputs, [name], attributes));
    return name;
  }
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
export function scan(sliced: Sliced, shapes: Shapes, draft: Draft, g: Writer): readonly Node[] {
  const { results, cut } = sliced;
  const body = new Body(sliced, shapes, draft, g);
  const made = body.write();
  const slice: Subgraph = {
    name: "slice",
    nodes: body.nodes,
    inputs: body.inputs,
    outputs: results.map((name, i) => sliceOf(made[i]!, shapes(name)!, cut.perSlice)),
    weights: new Map(),
    sparse: new Map(),
    declared: new Map(),
  };
  const inputs = body.cut.map((name) =>
    g.op("Reshape", [name, ints(g, [cut.slices, cut.perSlice, ...shapes(name)!.slice(-2)])]),
  );
  const attributes = { num_scan_inputs: inputs.length, body: { type: "graph", value: slice } } as const;
  const stacked = g.ops("Scan", inputs, attributes, results.length);
  for (const [i, name] of results.entries())
    draft.add(makeNode("Reshape", [stacked[i]!, ints(g, shapes(name)!)], [name]));
  return body.turns;
}

/** Removes nodes, and those of the transpositions that nothing else reads. */
export function remove(draft: Draft, nodes: ReadonlySet<Node>, turns: readonly Node[]): void {
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
