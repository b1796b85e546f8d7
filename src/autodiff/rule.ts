import type { Draft } from "../graph/edit.ts";
import { makeNode, type Node, type PlainAttribute } from "../graph/graph.ts";
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

/**
 * A writer that keeps its nodes in a list; equal constants are stored once.
 *
 * @param stem what the names of new values begin with
 */
export function recorder(draft: Draft, stem: string): Writer & { readonly nodes: Node[] } {
  const nodes: Node[] = [];
  const constants = new Map<string, string>();
  const ops: Writer["ops"] = (op, inputs, attributes, count) => {
    const outputs = Array.from({ length: count }, () => draft.fresh(stem));
    nodes.push(makeNode(op, inputs, outputs, attributes));
    return outputs;
  };
  return {
    nodes,
    ops,
    op: (op, inputs, attributes = {}) => ops(op, inputs, attributes, 1)[0]!,
    constant(value) {
      if (value.size > 64) return draft.constant(`${stem}_const`, value);
      const key = `${value.dtype}[${value.shape.join()}]${value.bytes().join()}`;
      const known = constants.get(key) ?? draft.constant(`${stem}_const`, value);
      constants.set(key, known);
      return known;
    },
  };
}

/** Writes the backward pass of one node. */
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
