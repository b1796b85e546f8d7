import { intAttribute, intsAttribute, isNode, type Node, nodeLabel } from "../../graph/graph.ts";
import { links, soleConsumer } from "../../graph/walk.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { sizeOf, toNumbers } from "../../tensor/tensor.ts";
import { constantMatrix } from "../channel-scaling/places.ts";
import { constantNumbers, reducedAxes } from "../channel-scaling/reduced-axes.ts";
import type { Walk } from "./stream.ts";

/** What it means for a node that some of its values are rotated; a reason where it can't be made up for. */
type Rule = (walk: Walk, node: Node) => string | undefined;

/** The axis of the first rotated value of a node, an input or an output. */
function axisAt(walk: Walk, { inputs, outputs }: Node): number {
  return [...inputs, ...outputs].map((name) => walk.axis(name)).find((axis) => axis !== undefined)!;
}

/** Sums: all of one term are rotated, or none; a number for all channels needs R 1 = 1. */
const sum: Rule = (walk, node) => {
  const axis = axisAt(walk, node);
  for (const name of node.inputs) {
    const alike = walk.dim(name, axis) !== walk.size;
    if (alike && walk.axis(name) === undefined) walk.keepsMean = true;
    else if (walk.isConstant(name)) walk.place(name, node, axis);
    else walk.mark(name, axis);
  }
  walk.mark(node.outputs[0]!, axis);
  return undefined;
};

const difference = (node: Node): string => `'${nodeLabel(node)}' (${node.op}) has a factor for each channel`;

/** Products with one number for all channels; squares on the way to a norm. */
const product: Rule = (walk, node) => {
  const [a, b] = node.inputs as [string, string];
  if (a === b && node.op === "Mul") return square(walk, node);
  const axis = axisAt(walk, node);
  const factors = [a, b].filter((name) => walk.dim(name, axis) === walk.size && !walk.isConstant(name));
  const [value] = factors;
  if (factors.length !== 1 || value === undefined || (node.op === "Div" && value !== a)) return difference(node);
  const other = value === a ? b : a;
  if (walk.axis(other) !== undefined) return difference(node);
  if (walk.dim(other, axis) === walk.size && !walk.isUniform(other)) {
    // the scale of a normalization that nothing takes over
    if (walk.axis(node.outputs[0]) !== undefined) return difference(node);
    walk.cut(node, node.inputs.indexOf(value));
    return undefined;
  }
  walk.mark(value, axis);
  walk.mark(node.outputs[0]!, axis);
  return undefined;
};

const square: Rule = (walk, node) => {
  const { consumers, outputs } = links(walk.graph);
  const output = node.outputs[0]!;
  const axis = walk.axis(node.inputs[0])!;
  const summed = (reader: Node): boolean => {
    const axes =
      (isNode(reader, "ReduceMean") || isNode(reader, "ReduceSum")) && reducedAxes(walk.graph, reader, walk.types);
    return axes !== false && axes?.length === 1 && axes[0] === axis;
  };
  if (walk.axis(output) !== undefined || outputs.has(output) || !(consumers.get(output) ?? []).every(summed)) {
    return `'${nodeLabel(node)}' squares channels that are not summed`;
  }
  return undefined;
};

const power: Rule = (walk, node) => {
  const exponent = walk.graph.weights.get(node.inputs[1] ?? "");
  return exponent && exponent.size === 1 && toNumbers(exponent)[0] === 2 ? square(walk, node) : difference(node);
};

/** Means and sums: over the channels they need R 1 = 1 and stay as they were, over other axes they are rotated. */
const mean: Rule = (walk, node) => {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const axes = reducedAxes(walk.graph, node, walk.types);
  if (!axes) return `the axes of '${nodeLabel(node)}' are computed`;
  const behind = (axis: number): number =>
    intAttribute(node, "keepdims", 1) ? axis : axis - axes.filter((reduced) => reduced < axis).length;
  const axis = walk.axis(x);
  if (axis === undefined) {
    const rank = walk.types.get(x)?.shape.length ?? 0;
    const before = [...Array(rank).keys()].find((a) => !axes.includes(a) && behind(a) === walk.axis(y));
    if (before === undefined) return difference(node);
    walk.mark(x, before);
    return undefined;
  }
  if (!axes.includes(axis)) {
    walk.mark(y, behind(axis));
    return undefined;
  }
  if (walk.axis(y) !== undefined) return difference(node);
  walk.keepsMean = true;
  return undefined;
};

/** Norms over the channels stay as they were. */
const norm: Rule = (walk, node) => {
  const axes = reducedAxes(walk.graph, node, walk.types);
  const axis = walk.axis(node.inputs[0]);
  return axis !== undefined && axes?.length === 1 && axes[0] === axis ? undefined : difference(node);
};

/** Normalizations: `values` are rotated together, `scale` must be one number for all, `shifts` are rotated. */
const normalization =
  (scale: number, shifts: readonly number[], centred: boolean, skips: boolean): Rule =>
  (walk, node) => {
    const x = node.inputs[0]!;
    const last = [-1, (walk.types.get(x)?.shape.length ?? 0) - 1].includes(intAttribute(node, "axis", -1));
    if (!last) return `'${nodeLabel(node)}' normalizes over more than its channels`;
    walk.keepsMean ||= centred;
    if (!walk.isUniform(node.inputs[scale] ?? "")) {
      if (skips || walk.axis(node.outputs[0]) !== undefined) return difference(node);
      walk.cut(node, 0);
      return undefined;
    }
    for (const name of skips ? node.inputs.slice(0, 2) : [x]) walk.mark(name, 0);
    for (const input of shifts) {
      const name = node.inputs[input];
      if (!name) continue;
      if (!walk.isConstant(name)) return `the shift of '${nodeLabel(node)}' is no constant`;
      walk.place(name, node, 0);
    }
    walk.mark(node.outputs[0]!, 0);
    if (skips && node.outputs[3]) walk.mark(node.outputs[3], 0);
    return undefined;
  };

/** Products with constant matrices take the rotation up, where they read and where they make the channels. */
const matrix: Rule = (walk, node) => {
  const found = constantMatrix(walk.graph, node);
  const [x, w, bias] = node.inputs as [string, string, string | undefined];
  const [read, made] = [walk.axis(x), walk.axis(node.outputs[0])];
  if (!found || walk.axis(w) !== undefined)
    return `'${nodeLabel(node)}' multiplies its channels with no constant matrix`;
  if ((read ?? 0) !== 0 || (made ?? 0) !== 0 || intAttribute(node, "transA", 0)) {
    return `'${nodeLabel(node)}' has its channels along another axis`;
  }
  const between = links(walk.graph).producer.get(w);
  if (between && soleConsumer(walk.graph, w) !== node) return `'${w}' is read elsewhere too`;
  const reader = between ?? node;
  if (read !== undefined) walk.place(found.name, reader, found.turned ? 0 : 1, "reads");
  if (made === undefined) return undefined;
  walk.place(found.name, reader, found.turned ? 1 : 0, "makes");
  if (!bias || node.op !== "Gemm") return undefined;
  if (walk.dim(bias, 0) !== walk.size) walk.keepsMean = true;
  else if (walk.isConstant(bias)) walk.place(bias, node, 0);
  else walk.mark(bias, 0);
  return undefined;
};

const lookup: Rule = (walk, node) => {
  const [data, indices] = node.inputs as [string, string];
  const rank = (name: string): number => walk.types.get(name)?.shape.length ?? 0;
  const given = intAttribute(node, "axis", 0);
  const along = given < 0 ? -given - 1 : rank(data) - 1 - given;
  const behind = (axis: number): number => (axis < along ? axis : axis + rank(indices) - 1);
  const axes = [...Array(rank(data)).keys()].filter((axis) => axis !== along);
  const axis = walk.axis(data) ?? axes.find((a) => behind(a) === walk.axis(node.outputs[0]));
  if (axis === undefined || axis === along) return difference(node);
  if (walk.isConstant(data)) walk.place(data, node, axis, "makes");
  else walk.mark(data, axis);
  walk.mark(node.outputs[0]!, behind(axis));
  return undefined;
};

const convolution: Rule = (walk, node) => {
  const [x, w, bias] = node.inputs as [string, string, string | undefined];
  const rank = walk.types.get(x)?.shape.length ?? 0;
  const [read, made] = [walk.axis(x), walk.axis(node.outputs[0])];
  if (!walk.isConstant(w) || intAttribute(node, "group", 1) !== 1 || (bias && !walk.isConstant(bias))) {
    return `'${nodeLabel(node)}' is no convolution of all channels with constants`;
  }
  if ((read ?? rank - 2) !== rank - 2 || (made ?? rank - 2) !== rank - 2) return difference(node);
  if (read !== undefined) walk.place(w, node, rank - 2, "reads");
  if (made === undefined) return undefined;
  walk.place(w, node, rank - 1, "makes");
  if (bias) walk.place(bias, node, 0);
  return undefined;
};

const transposition: Rule = (walk, node) => {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const rank = walk.types.get(x)?.shape.length ?? 0;
  const perm = intsAttribute(node, "perm") ?? [...Array(rank).keys()].reverse();
  const axis = walk.axis(x);
  if (axis !== undefined) walk.mark(y, rank - 1 - perm.indexOf(rank - 1 - axis));
  else walk.mark(x, rank - 1 - perm[rank - 1 - walk.axis(y)!]!);
  return undefined;
};

/** Nodes that only reshape: the axis of as many channels with as many numbers behind it. */
const reshaping: Rule = (walk, node) => {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const [from, to] = walk.axis(x) === undefined ? [y, x] : [x, y];
  const [before, after] = [walk.types.get(from)?.shape, walk.types.get(to)?.shape];
  const axis = walk.axis(from)!;
  if (!before || !after || !isFloat(walk, y)) return difference(node);
  const size = sizeOf(before.slice(before.length - axis));
  const found = after.findIndex((dim, i) => dim === walk.size && sizeOf(after.slice(i + 1)) === size);
  if (found < 0) return `'${nodeLabel(node)}' divides or joins its channels`;
  walk.mark(to, after.length - 1 - found);
  return undefined;
};

function isFloat(walk: Walk, value: string): boolean {
  const type = walk.types.get(value);
  return type !== undefined && dtypes[type.dtype].kind === "float";
}

/** Parts along other axes, joined or taken apart. */
const parts: Rule = (walk, node) => {
  const axis = axisAt(walk, node);
  const rank = walk.types.get(node.outputs[0]!)?.shape.length ?? 0;
  const given = intAttribute(node, "axis", 0);
  if ((given < 0 ? -given - 1 : rank - 1 - given) === axis) return difference(node);
  for (const name of node.op === "Concat" ? node.inputs : node.inputs.slice(0, 1)) {
    if (walk.isConstant(name)) walk.place(name, node, axis);
    else walk.mark(name, axis);
  }
  for (const name of node.outputs) if (name !== "") walk.mark(name, axis);
  return undefined;
};

const slice: Rule = (walk, node) => {
  const axis = axisAt(walk, node);
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const rank = walk.types.get(x)?.shape.length ?? 0;
  const axes = node.inputs[3] ? constantNumbers(walk.graph, node.inputs[3]) : intsAttribute(node, "axes");
  if (!axes || axes.some((a) => (a < 0 ? -a - 1 : rank - 1 - a) === axis)) return difference(node);
  walk.mark(x, axis);
  walk.mark(y, axis);
  return undefined;
};

const alike: Rule = (walk, node) => {
  const axis = axisAt(walk, node);
  const [x] = node.inputs as [string];
  if (walk.isConstant(x)) walk.place(x, node, axis);
  else walk.mark(x, axis);
  walk.mark(node.outputs[0]!, axis);
  return undefined;
};

/** Rules by operator; what has none keeps a stream from being rotated. */
export const rules: Readonly<Record<string, Rule>> = {
  Add: sum,
  Sub: sum,
  Sum: sum,
  Mul: product,
  Div: product,
  Pow: power,
  Neg: alike,
  Expand: alike,
  ReduceMean: mean,
  ReduceSum: mean,
  ReduceL2: norm,
  ReduceSumSquare: norm,
  LayerNormalization: normalization(1, [2], true, false),
  RMSNormalization: normalization(1, [], false, false),
  SimplifiedLayerNormalization: normalization(1, [], false, false),
  "com.microsoft:SkipLayerNormalization": normalization(2, [3, 4], true, true),
  "com.microsoft:SkipSimplifiedLayerNormalization": normalization(2, [3], false, true),
  MatMul: matrix,
  Gemm: matrix,
  Gather: lookup,
  Conv: convolution,
  Transpose: transposition,
  Reshape: reshaping,
  Flatten: reshaping,
  Squeeze: reshaping,
  Unsqueeze: reshaping,
  Identity: reshaping,
  Dropout: reshaping,
  Cast: reshaping,
  Concat: parts,
  Split: parts,
  Slice: slice,
};
