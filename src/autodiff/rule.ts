import type { Node } from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Writer } from "./writer.ts";

/** Element type and concrete shape of a value. */
export interface ValueType {
  readonly dtype: DType;
  readonly shape: readonly number[];
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
  /** The one node that reads a value, with its first output's gradient; undefined where that is not all that reads it. */
  reader(name: string): { readonly node: Node; readonly dy: string | undefined } | undefined;
  /**
   * States that the backward pass computes the node's first output once more, and under which name: whatever of it reads
   * that output takes this one, and the first need not be kept.
   */
  again(y: string): void;
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
