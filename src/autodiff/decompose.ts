import { fail } from "../errors.ts";
import { type Draft, edit } from "../graph/edit.ts";
import { type Graph, makeNode, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { contribDecompositions } from "./decompositions/contrib.ts";
import { gruDecomposition, lstmDecomposition, rnnDecomposition } from "./decompositions/recurrent.ts";
import type { ValueType } from "./rule.ts";
import type { Writer } from "./writer.ts";

/** Writes one node as others; the node's outputs are made by {@link Emitter.give}. */
export interface Emitter extends Writer {
  readonly node: Node;
  /** Type and concrete shape of one of the node's inputs or outputs. */
  type(name: string): ValueType;
  /** The value of a constant input, undefined where it is computed or absent. */
  constantInput(i: number): Tensor | undefined;
  /** Name of input `i`, undefined where it is left out. */
  input(i: number): string | undefined;
  /** Makes output `i` of the node equal to a value; does nothing where that output is left out. */
  give(i: number, value: string): void;
}

/** Writes a node as others, or returns why it can't. */
export type Decomposition = (e: Emitter) => string | undefined;

/** Operators that are differentiated through an equal graph of simpler ones. */
export const decompositions: Readonly<Record<string, Decomposition>> = {
  GRU: gruDecomposition,
  LSTM: lstmDecomposition,
  RNN: rnnDecomposition,
  ...contribDecompositions,
};

/**
 * The graph with recurrent layers unrolled over their steps and fused operators written out, so that every part has a
 * gradient rule. Its outputs are the same up to rounding.
 *
 * @param types types and concrete shapes of the graph's values: the number of steps is fixed by them
 * @param leave called with a node that stays as it is and the reason
 * @param keep nodes that stay as they are for another reason
 */
export function decompose(
  graph: Graph,
  types: ReadonlyMap<string, ValueType>,
  leave: (node: Node, reason: string) => void = () => {},
  keep: (node: Node) => boolean = () => false,
): Graph {
  const rows = graph.nodes.flatMap((node) => {
    const rule = keep(node) ? undefined : decompositions[opKey(node)];
    return rule ? [{ node, rule }] : [];
  });
  if (rows.length === 0) return graph;
  return edit(graph, (draft) => {
    for (const { node, rule } of rows) {
      const { emitter, made } = emitterFor(graph, node, types, draft);
      const reason = rule(emitter);
      if (reason === undefined) draft.replace(node, ...made);
      else leave(node, reason);
    }
  });
}

function emitterFor(
  graph: Graph,
  node: Node,
  types: ReadonlyMap<string, ValueType>,
  draft: Draft,
): { emitter: Emitter; made: readonly Node[] } {
  const made: Node[] = [];
  const stem = node.name || node.op;
  const ops: Emitter["ops"] = (op, inputs, attributes, count) => {
    const outputs = Array.from({ length: count }, () => draft.fresh(`${node.outputs[0]}/${op.toLowerCase()}`));
    made.push(makeNode(op, inputs, outputs, attributes, draft.fresh(`${stem}/${op.slice(op.lastIndexOf(":") + 1)}`)));
    return outputs;
  };
  const emitter: Emitter = {
    node,
    type: (name) => types.get(name) ?? fail(nodeLabel(node), `the shape of '${name}' is unknown`),
    constantInput: (i) => graph.weights.get(node.inputs[i] ?? ""),
    input: (i) => node.inputs[i] || undefined,
    op: (op, inputs, attributes = {}) => ops(op, inputs, attributes, 1)[0]!,
    ops,
    constant: (value) => draft.constant(`${node.outputs[0]}/const`, value),
    give(i, value) {
      const name = node.outputs[i];
      if (name) made.push(makeNode("Identity", [value], [name], {}, draft.fresh(`${stem}/Identity`)));
    },
  };
  return { emitter, made };
}
