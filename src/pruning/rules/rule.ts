import type { Draft } from "../../graph/edit.ts";
import type { Node } from "../../graph/graph.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { AxisId } from "../couplings-relations.ts";

/** What an operator means for the axes of its inputs and outputs. */
export interface CouplingRule {
  /** States how the axes depend on each other. Axes of which nothing is said are free. */
  relate(r: Relating): void;
  /** Adapts attributes and constants to fewer indices; absent where the operator adapts by itself. */
  cut?(c: Cutting): void;
  /** Rewrites the node to ignore the cut indices, for nodes that compute statistics over them. */
  mask?(m: Masking): void;
}

/** The values of one node. */
export interface NodeView {
  readonly node: Node;
  /** Version of the operator set of the node's domain. */
  readonly opset: number;
  /** Shape of an input; undefined where it is left out. */
  shapeIn(i: number): readonly number[] | undefined;
  shapeOut(i: number): readonly number[] | undefined;
  /** The data of a constant input; undefined where it is computed or left out. */
  constant(i: number): Tensor | undefined;
}

/** How a sum over an axis is taken: what a masked index must be, and whether the count matters. */
export type Contraction = "sum" | "mean" | "max" | "min" | "product";

/** States relations for one node. */
export interface Relating extends NodeView {
  /** Axes of an input by position; undefined where it is left out. */
  input(i: number): readonly AxisId[] | undefined;
  output(i: number): readonly AxisId[] | undefined;
  size(axis: AxisId): number;
  /** An axis that no value has: the groups inside a channel axis, the gates of a recurrent layer. */
  virtual(size: number): AxisId;
  /** The two are cut alike; nothing is said where one of them is left out. */
  same(a: AxisId | undefined, b: AxisId | undefined): void;
  /** The elements numbered by `left` are in the same order those numbered by `right`. */
  product(left: readonly AxisId[], right: readonly AxisId[]): void;
  /** Index `i` of `part` is index `index[i]` of `whole`. */
  part(part: AxisId, whole: AxisId, index: ArrayLike<number>): void;
  /** These axes must stay. */
  freeze(axes: readonly AxisId[], reason: string): void;
  /** All axes of all inputs and outputs must stay. */
  freezeAll(reason: string): void;
  /** Axes of positions, or one index of one: they stay, and nobody would expect otherwise. */
  positions(axes: readonly AxisId[], index?: number): void;
  /** The node adds (or ...) up over these axes of an input. */
  contract(input: number, axes: readonly number[], how: Contraction): void;
}

/** An element of a vector of sizes that the graph computes, behind a cut. */
export interface CutSize {
  /** What it is where it is a constant all the same. */
  readonly constant?: number;
  /** It depends on the size of an axis that is cut. */
  readonly depends: boolean;
  /** It depends on the size of an axis that is not, which may be another in each run. */
  readonly varies: boolean;
  /** What it comes to with sizes as observed; absent where it is no product of sizes. */
  readonly product?: number;
}

/** Adapts one node to a cut. */
export interface Cutting extends NodeView {
  readonly draft: Draft;
  /** Indices kept of an axis of an input; undefined where it is not cut. */
  keptIn(i: number, axis: number): readonly number[] | undefined;
  keptOut(i: number, axis: number): readonly number[] | undefined;
  /** What a cut makes of element `at` of a computed vector of sizes. */
  sizeElement(i: number, at: number): CutSize;
  /** Gives the node other inputs or attributes. */
  become(change: Partial<Pick<Node, "inputs" | "outputs" | "attributes">>): void;
}

/** Rewrites one node for a mask. */
export interface Masking extends NodeView {
  readonly draft: Draft;
  /** Names a constant of the first input's element type. */
  scalar(value: number): string;
  /** Names a boolean constant, true where an input's indices are kept along these axes; broadcasts to the input. */
  keep(input: number, axes: readonly number[]): string;
  /** Size of the axes together over the number of indices kept of them. */
  ratio(input: number, axes: readonly number[]): number;
  keptIn(i: number, axis: number): readonly number[] | undefined;
  /** Removes the node: others were added that make its outputs. */
  replaced(): void;
}

/** An axis counted from the front. */
export function fromFront(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** The axes of one shape broadcast to another (numpy): equal sizes are cut alike, sizes of 1 stretch. */
export function broadcast(r: Relating, from: readonly AxisId[], to: readonly AxisId[]): void {
  for (let i = 1; i <= Math.min(from.length, to.length); i++) {
    const [a, b] = [from.at(-i)!, to.at(-i)!];
    if (r.size(a) === r.size(b)) r.same(a, b);
  }
}

/** The numbers 0 to n - 1, plus `start`. */
export function range(n: number, start = 0): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => start + i);
}

/** Why an operator's values stay as they are. */
export function frozen(reason: string): CouplingRule {
  return { relate: (r) => r.freezeAll(`${reason} (${r.node.op} '${r.node.name || r.node.outputs[0]}')`) };
}
