import type { Draft } from "../../graph/edit.ts";
import {
  floatAttribute,
  type Graph,
  intAttribute,
  intsAttribute,
  makeNode,
  type Node,
  nodeLabel,
  stringAttribute,
} from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { DType } from "../../tensor/dtype.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { readFloats } from "../../tensor/strips.ts";
import { type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { type Affine, isScalingOnly } from "./affine.ts";
import { constant } from "./pass.ts";

/** A node y = W x + b with constant weights, and how its weight is laid out. */
export interface Linear {
  readonly node: Node;
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  /** Output channels. */
  readonly channels: number;
  /** Rank of the output as far as the weight tells. */
  readonly rank: number;
  /** The output's channel axis for a given rank. */
  axis(rank: number): number;
  /** Output channel and input channel of the weight's element i... */
  output(i: number): number;
  input(i: number): number;
  /** ...and over how many elements in a row, from 0 on, they stay the same. */
  readonly outputRun: number;
  readonly inputRun: number;
}

/** A node as a linear map; undefined where it is none, or its weights are not constant 16- or 32-bit floats. */
export function linearOf(graph: Graph, node: Node): Linear | undefined {
  const weight = constant(graph, node.inputs[1]);
  const bias = constant(graph, node.inputs[2]);
  const given = (node.inputs[2] ?? "") !== "";
  if (node.domain !== "" || !weight || !isSupported(weight) || (given && (!bias || !isSupported(bias))))
    return undefined;
  const [first = 1, second = 1] = weight.shape;
  const common = { node, weight, bias };
  switch (node.op) {
    case "Conv": {
      if (weight.shape.length < 3) return undefined;
      const perOutput = weight.size / first;
      const kernel = perOutput / second;
      const perGroup = first / intAttribute(node, "group", 1);
      const output = (i: number): number => Math.floor(i / perOutput);
      const input = (i: number): number =>
        Math.floor(output(i) / perGroup) * second + (Math.floor(i / kernel) % second);
      const runs = { outputRun: perOutput, inputRun: kernel };
      return { ...common, ...runs, channels: first, rank: weight.shape.length, axis: () => 1, output, input };
    }
    case "ConvTranspose": {
      if (weight.shape.length < 3) return undefined;
      const groups = intAttribute(node, "group", 1);
      const kernel = weight.size / first / second;
      const input = (i: number): number => Math.floor(i / kernel / second);
      const output = (i: number): number =>
        Math.floor(input(i) / (first / groups)) * second + (Math.floor(i / kernel) % second);
      const rank = weight.shape.length;
      const runs = { outputRun: kernel, inputRun: kernel * second };
      return { ...common, ...runs, channels: second * groups, rank, axis: () => 1, output, input };
    }
    case "Gemm":
    case "MatMul": {
      if (weight.shape.length !== 2 || (node.op === "MatMul" && node.inputs.length > 2)) return undefined;
      const rows = (i: number): number => Math.floor(i / second);
      const columns = (i: number): number => i % second;
      const flipped = node.op === "Gemm" && intAttribute(node, "transB", 0) !== 0;
      const [output, input] = flipped ? [rows, columns] : [columns, rows];
      const channels = flipped ? first : second;
      const runs = flipped ? { outputRun: second, inputRun: 1 } : { outputRun: 1, inputRun: second };
      return { ...common, ...runs, channels, rank: 2, axis: (rank) => rank - 1, output, input };
    }
    default:
      return undefined;
  }
}

function isSupported({ dtype }: Tensor): boolean {
  return dtype === "float32" || dtype === "float16" || dtype === "bfloat16";
}

type Change<Other> = (draft: Draft, node: Node, other: Other) => void;

const notFinite = "its numbers are not finite, or not once folded";

/** The change that puts an affine map of the output channels into the weights; or why it can't be. */
export function scaledOutputs(graph: Graph, linear: Linear, affine: Affine): Change<readonly Node[]> | string {
  const { weight, bias, channels, output } = linear;
  const matmul = linear.node.op === "MatMul";
  const biased = matmul ? "none" : biasOf(linear);
  if (biased === undefined) return "the bias of the node before it differs from row to row";
  const scaled = scaledBy(weight, linear.outputRun, (i) => affine.scale[output(i)]!);
  const beta = linear.node.op === "Gemm" ? floatAttribute(linear.node, "beta", 1) : 1;
  if (beta === 0 && bias) return "the node before it multiplies its bias by 0";
  const shifted = Float64Array.from({ length: channels }, (_, c) => {
    const b = biased === "none" ? 0 : biased[biased.length === 1 ? 0 : c]!;
    return b * affine.scale[c]! + affine.shift[c]! / beta;
  });
  const offset = encode(weight.dtype, [channels], shifted);
  if (!scaled || !offset) return notFinite;
  const rescaled = isScalingOnly(affine) !== "none";
  return (draft, node, chain) => {
    const last = chain.at(-1)!;
    for (const follower of chain) draft.replace(follower);
    if (rescaled) draft.weights.set(node.inputs[1]!, scaled);
    const y = last.outputs[0]!;
    if (!matmul) {
      const inputs = [node.inputs[0]!, node.inputs[1]!, biasName(draft, graph, node, bias, offset)];
      draft.replace(node, { ...node, inputs, outputs: [y] });
    } else if (isScalingOnly(affine) === "all") draft.replace(node, { ...node, outputs: [y] });
    else {
      const name = draft.constant(`${nodeLabel(node)}.bias`, offset);
      const product = rescaled ? draft.fresh(`${node.outputs[0]}_scaled`) : node.outputs[0]!;
      draft.replace(node, { ...node, outputs: [product] });
      draft.replace(last, makeNode("Add", [product, name], [y], {}, last.name));
    }
  };
}

/** The change that puts an affine map of the input channels into the weights; or why it can't be. */
export function scaledInputs(graph: Graph, linear: Linear, affine: Affine, rank: number): Change<Node> | string {
  const { node, weight, bias, channels, output, input } = linear;
  if (node.op === "ConvTranspose") return "it stands before a ConvTranspose";
  if (node.op !== "Conv" && (rank !== 2 || intAttribute(node, "transA", 0) !== 0)) {
    return "its channels are not those the next node sums over";
  }
  const shifts = affine.shift.some((t) => t !== 0);
  if (node.op === "Conv" && shifts && isPadded(node)) return "the convolution behind it pads with zeros";
  if (node.op === "MatMul" && shifts) return "the MatMul behind it has no bias";
  const biased = biasOf(linear);
  if (biased === undefined) return "the bias of the node behind it differs from row to row";
  const alpha = node.op === "Gemm" ? floatAttribute(node, "alpha", 1) : 1;
  const beta = node.op === "Gemm" ? floatAttribute(node, "beta", 1) : 1;
  if (beta === 0) return "the node behind it multiplies its bias by 0";
  const values = toFloat32(weight);
  const offset = new Float64Array(channels);
  for (let i = 0; i < values.length; i++) {
    const o = output(i);
    offset[o] = offset[o]! + values[i]! * affine.shift[input(i)]!;
  }
  const total = offset.map(
    (sum, c) => (sum * alpha) / beta + (biased === "none" ? 0 : biased[biased.length === 1 ? 0 : c]!),
  );
  const scaled = scaledBy(weight, linear.inputRun, (i) => affine.scale[input(i)]!);
  const sums = encode(weight.dtype, [channels], total);
  if (!scaled || !sums) return notFinite;
  return (draft, _, before) => {
    draft.replace(before);
    draft.weights.set(node.inputs[1]!, scaled);
    const inputs = [before.inputs[0]!, ...node.inputs.slice(1)];
    if (shifts) inputs[2] = biasName(draft, graph, node, bias, sums);
    draft.replace(node, { ...node, inputs });
  };
}

function isPadded(node: Node): boolean {
  const padded = (intsAttribute(node, "pads") ?? []).some((n) => n !== 0);
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  return padded || (auto !== "NOTSET" && auto !== "VALID");
}

/** The bias by channel (one value for all where it is a scalar); undefined where it differs otherwise. */
function biasOf({ bias, channels }: Linear): Float32Array | "none" | undefined {
  if (!bias) return "none";
  return bias.size === 1 || (bias.size === channels && bias.shape.at(-1) === channels) ? toFloat32(bias) : undefined;
}

/** Sets a node's bias: under its old name where that is its own, else under a new one. */
function biasName(draft: Draft, graph: Graph, node: Node, bias: Tensor | undefined, value: Tensor): string {
  const old = node.inputs[2] ?? "";
  const own = bias && links(graph).consumers.get(old)?.length === 1 && !links(graph).outputs.has(old);
  if (!own || !graph.weights.has(old)) return draft.constant(`${nodeLabel(node)}.bias`, value);
  draft.weights.set(old, value);
  return old;
}

/** A tensor times a factor for each `run` of its elements, by the first's place; undefined where one is not finite. */
function scaledBy(t: Tensor, run: number, factor: (i: number) => number): Tensor | undefined {
  const out = new Float32Array(t.size);
  const values = readFloats(t, 0, t.size, out); // lies in `out` already where it is read from a file
  for (let i = 0; i < values.length; ) {
    const by = factor(i);
    for (const end = i + run; i < end; i++) out[i] = values[i]! * by;
  }
  return encode(t.dtype, t.shape, out);
}

/** Numbers in a float type; undefined where one is not finite there. */
function encode(dtype: DType, shape: readonly number[], values: Float32Array | Float64Array): Tensor | undefined {
  const floats = values instanceof Float32Array ? values : Float32Array.from(values);
  const half = dtype === "float16" || dtype === "bfloat16";
  const made = half ? tensor(dtype, shape, floatToHalf(floats, dtype)) : tensor("float32", shape, floats);
  let check = 0; // 0 * x is NaN exactly for NaN and infinite x, and NaN stays in the sum
  for (const x of half ? toFloat32(made) : floats) check += 0 * x;
  return check === 0 ? made : undefined;
}
