import { intAttribute, intsAttribute, type Node, stringAttribute } from "../graph/graph.ts";

/** Arithmetic of one node in one run. */
export interface Work {
  /** Multiply-accumulates: one multiplication and one addition, counted as one. */
  readonly macs: number;
  /** Floating-point or integer operations outside multiply-accumulates, each counted as one. */
  readonly flops: number;
}

/** Shapes of a node's inputs and outputs; undefined where an optional value is left out. Unknown shapes throw. */
export interface Shapes {
  input(index: number): readonly number[];
  output(index: number): readonly number[];
  has(index: number): boolean;
}

/** The arithmetic of a node, or why it is unknown. */
export type Rule = (node: Node, shapes: Shapes) => Work | string;

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const macs = (count: number, flops = 0): Work => ({ macs: count, flops });
const flops = (count: number): Work => ({ macs: 0, flops: count });

/** Moves, copies, renames or tests data: no arithmetic. */
export const none: Rule = () => ({ macs: 0, flops: 0 });

/** `factor` operations for each element of the output. */
export const perOutput =
  (factor: number): Rule =>
  (_, { output }) =>
    flops(factor * size(output(0)));

/** `factor` operations for each element of the input. */
export const perInput =
  (factor: number): Rule =>
  (_, { input }) =>
    flops(factor * size(input(0)));

/** y[n, o, ...] sums C/g x k products: |y| |w| / O; the weight is input `w`, of shape [O, C/g, k...]. */
export const convolution =
  (w: number, bias: number): Rule =>
  (_, { input, output, has }) => {
    const y = size(output(0));
    return macs((y * size(input(w))) / Math.max(1, input(w)[0] ?? 1), has(bias) ? y : 0);
  };

/** Each input element is spread over O/g x k outputs; the weight is [C, O/g, k...]. */
export const transposedConvolution: Rule = (_, { input, output, has }) =>
  macs(size(input(0)) * size(input(1).slice(1)), has(2) ? size(output(0)) : 0);

/** Each output element sums K products, K the last axis of input `a` (the one before it if transposed). */
export const product =
  (transposed = "", bias = Number.POSITIVE_INFINITY): Rule =>
  (node, { input, output, has }) => {
    const flip = transposed !== "" && intAttribute(node, transposed, 0) !== 0;
    const y = size(output(0));
    return macs(y * (input(0).at(flip ? -2 : -1) ?? 1), has(bias) ? y : 0);
  };

/** y = x W with W stored in blocks of few bits: K products for each output element. */
export const blockedProduct: Rule = (node, { output, has }) =>
  macs(size(output(0)) * intAttribute(node, "K", 0), has(5) ? size(output(0)) : 0);

/** T B (|W| + |R|): every step multiplies each row of the batch with the input and the recurrent matrices. */
export const recurrent: Rule = (node, { input, output, has }) => {
  const [steps = 1, batch = 1] = input(0);
  const gates = { LSTM: 4, GRU: 3, RNN: 1, DynamicQuantizeLSTM: 4 }[node.op] ?? 1;
  const hidden = intAttribute(node, "hidden_size", 0) * (input(1)[0] ?? 1);
  const y = has(0) && node.outputs[0] ? size(output(0)) : steps * batch * hidden;
  return macs(steps * batch * (size(input(1)) + size(input(2))), y * gates * 4);
};

/** Product over all index labels of the equation; an ellipsis counts with the output's leading sizes. */
export const einsum: Rule = (node, { input, output }) => {
  const [left = "", right = ""] = stringAttribute(node, "equation", "").replaceAll(" ", "").split("->");
  const labels = new Map<string, number>();
  const terms = left.split(",");
  terms.forEach((term, i) => {
    const shape = input(i);
    const [head = "", tail = ""] = term.includes("...") ? term.split("...") : [term, ""];
    [...head].forEach((label, axis) => {
      labels.set(label, Math.max(labels.get(label) ?? 1, shape[axis] ?? 1));
    });
    [...tail].forEach((label, axis) => {
      labels.set(label, Math.max(labels.get(label) ?? 1, shape[shape.length - tail.length + axis] ?? 1));
    });
  });
  const named = right.replace("...", "");
  const free = right.includes("...") ? size(output(0)) / size([...named].map((label) => labels.get(label) ?? 1)) : 1;
  const all = free * [...labels.values()].reduce((a, b) => a * b, 1);
  return terms.length > 1 ? macs(all * (terms.length - 1)) : flops(all);
};

/** The input with the keys of past steps, [B, h, steps, d]. */
const pastKeys: Readonly<Record<string, number>> = { Attention: 4, GroupQueryAttention: 3, MultiHeadAttention: 6 };

/**
 * Q K^T and its product with V, 2 B S L D, and a softmax over B h S L scores; q, k are inputs 0 and 1. Without k, input 0
 * holds q, k and v: side by side as [B, S, (h + 2 h_kv) d], or as [B, S, h, 3, d].
 */
export const attention: Rule = (node, { input, has }) => {
  const q = input(0);
  const k = has(1) ? input(1) : q;
  const heads = intAttribute(node, "num_heads", intAttribute(node, "q_num_heads", q.length === 4 ? (q[1] ?? 1) : 1));
  const own = has(1) ? 1 : heads / (heads + 2 * intAttribute(node, "kv_num_heads", heads));
  const [batch, steps, width] =
    q.length === 4
      ? [q[0] ?? 1, q[2] ?? 1, heads * (q[3] ?? 1)]
      : [q[0] ?? 1, q[1] ?? 1, q.length === 5 ? heads * (q[4] ?? 1) : (q[2] ?? 1) * own];
  const at = pastKeys[node.op];
  const past = at !== undefined && has(at) ? (input(at).at(-2) ?? 0) : 0;
  const keys = (k.length === 4 ? (k[2] ?? 1) : (k[1] ?? 1)) + past;
  return macs(2 * batch * steps * keys * width, 5 * batch * heads * steps * keys);
};

/** The contrib form projects its input to q, k and v first: B S |W|. */
export const projectedAttention: Rule = (node, { input }) => {
  const [batch = 1, steps = 1] = input(0);
  const width = (input(1)[1] ?? 3) / 3;
  const heads = intAttribute(node, "num_heads", 1);
  return macs(batch * steps * size(input(1)) + 2 * batch * steps * steps * width, 5 * batch * heads * steps * steps);
};

/** One operation for each element under the kernel, for each output element. */
export const pool: Rule = (node, { output }) =>
  flops(size(output(0)) * size(intsAttribute(node, "kernel_shape") ?? []));

/** An operator whose arithmetic pare does not count. */
export const unsupported =
  (reason: string): Rule =>
  () =>
    reason;
