import type { Draft } from "../graph/edit.ts";
import { makeNode, type Node, type PlainAttribute } from "../graph/graph.ts";
import { float32, int64, type Tensor } from "../tensor/tensor.ts";

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

/** Constants of more elements than this are not compared with others. */
const compared = 64;

/**
 * A writer that hands its nodes on; equal small constants are stored once.
 *
 * @param stem what the names of new values begin with
 * @param put takes each node as it is made
 */
export function writer(draft: Draft, stem: string, put: (node: Node) => unknown): Writer {
  const constants = new Map<string, string>();
  const ops: Writer["ops"] = (op, inputs, attributes, count) => {
    const outputs = Array.from({ length: count }, () => draft.fresh(stem));
    put(makeNode(op, inputs, outputs, attributes));
    return outputs;
  };
  return {
    ops,
    op: (op, inputs, attributes = {}) => ops(op, inputs, attributes, 1)[0]!,
    constant(value) {
      if (value.size > compared) return draft.constant(`${stem}_const`, value);
      const key = `${value.dtype}[${value.shape.join()}]${value.bytes().join()}`;
      const known = constants.get(key) ?? draft.constant(`${stem}_const`, value);
      constants.set(key, known);
      return known;
    },
  };
}

/** A {@link writer} that keeps its nodes in a list, to be looked at and changed before they are added. */
export function recorder(draft: Draft, stem: string): Writer & { readonly nodes: Node[] } {
  const nodes: Node[] = [];
  return { nodes, ...writer(draft, stem, (node) => nodes.push(node)) };
}

/** A float32 scalar constant. */
export function scalar(g: Writer, value: number): string {
  return g.constant(float32([], [value]));
}

/** An int64 vector constant. */
export function ints(g: Writer, values: readonly number[]): string {
  return g.constant(int64(values));
}
