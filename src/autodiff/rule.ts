import type { Node, PlainAttribute } from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { float32, int64, type Tensor } from "../tensor/tensor.ts";

/** Element type and concrete shape of a value. */
export interface ValueType {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Adds nodes to a graph. Values are named by strings, as in the graph. */
export interface Writer {
  /** Adds a node and returns its first output. */
  op(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, PlainAttribute>>): string;
  /** Adds a node with `count` outputs. */
  ops(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, PlainAttribute>>,
    count: number,
  ): readonly string[];
  constant(value: Tensor): string;
}

/** Writes the backward pass of one node. Equal constants are stored once. */
export interface Backward extends Writer {
  readonly node: Node;
  /** Gradient of each output; undefined where nothing depends on it. At least one is there. */
  readonly dys: readonly (string | undefined)[];
  /** Whether the gradient of input `i` is wanted. */
  wants(i: number): boolean;
  /** Type and shape of one of the node's inputs or outputs. */
  type(name: string): ValueType;
  /** The value of a constant input, undefined where it is computed. */
  constantInput(i: number): Tensor | undefined;
}

/** Gradients of a node's inputs, in their order; undefined where not wanted or zero. */
export type Rule = (g: Backward) => readonly (string | undefined)[];

/** Why an operator has no rule. */
export interface NoRule {
  /** "none": the derivative is zero everywhere or does not exist. "unsupported": it exists, and is not written yet. */
  readonly kind: "none" | "unsupported";
  readonly reason: string;
}

/** The operator's derivative is zero or undefined everywhere: gradients end here. */
export function none(reason: string): NoRule {
  return { kind: "none", reason };
}

/** A derivative exists, but pare has no rule for it: asking for it is an error. */
export function unsupported(reason: string): NoRule {
  return { kind: "unsupported", reason };
}

/** A float32 scalar constant. */
export function scalar(g: Writer, value: number): string {
  return g.constant(float32([], [value]));
}

/** An int64 vector constant. */
export function ints(g: Writer, values: readonly number[]): string {
  return g.constant(int64(values));
}
