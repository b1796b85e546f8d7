import {
  type Attribute,
  float,
  intAttribute,
  intsAttribute,
  makeNode,
  type Node,
  stringAttribute,
} from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { float32, int64, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { operatorNames, signatureOf } from "./catalog.ts";

/** What a conversion may know and make. */
export interface Conversion {
  /** A constant under a fresh name; returns the name. Equal constants share one. */
  constant(stem: string, value: Tensor): string;
  /** A value name that nothing has. */
  fresh(stem: string): string;
  /** The data of a constant value; undefined for any other. */
  constantOf(name: string): Tensor | undefined;
  /** Whether any node or output of the model reads a value of this name. */
  isRead(name: string): boolean;
  /** Number of dimensions, where it can be told. */
  rankOf(name: string): number | undefined;
  /** Element type, where it can be told. */
  dtypeOf(name: string): DType | undefined;
  /** A scalar constant of the element type of value `like`, and the nodes that make it so. */
  scalarLike(like: string, stem: string, value: number): { name: string; nodes: Node[] };
  /** Ends the conversion. */
  refuse(node: Node, reason: string): never;
}

/** How an operator is rewritten when its operator set reaches a version. */
export interface ConversionRule {
  /** The first version with the new definition. */
  readonly at: number;
  readonly ops: readonly string[];
  /** The nodes that mean at `at` what the node meant before. */
  rewrite(node: Node, c: Conversion): readonly Node[];
}

/**
 * Every change of the ONNX operator set that changes what a node written for the version before
 * means or says (onnx/docs/Changelog.md). Changes that only add types, attributes or inputs need no rule.
 */
export const conversionRules: readonly ConversionRule[] = [
  { at: 2, ops: ["Pad"], rewrite: (node) => [renamed(node, "paddings", "pads")] },
  { at: 2, ops: ["Split"], rewrite: splitByAttribute },
  { at: 5, ops: ["Reshape"], rewrite: (node, c) => [toInputs(node, c, ["shape"], int64)] },
  { at: 6, ops: operatorsInPlace(), rewrite: (node) => [without(node, "consumed_inputs")] },
  { at: 6, ops: ["Selu"], rewrite: seluConstants },
  {
    at: 7,
    ops: ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu"],
    rewrite: broadcast,
  },
  { at: 7, ops: ["Gemm"], rewrite: (node) => [without(node, "broadcast")] },
  { at: 7, ops: ["Dropout"], rewrite: (node) => [without(node, "is_test")] },
  { at: 7, ops: ["BatchNormalization"], rewrite: inferenceOnly },
  { at: 9, ops: ["BatchNormalization"], rewrite: spatialOnly },
  { at: 9, ops: ["Upsample"], rewrite: (node, c) => [toInputs(node, c, ["scales"], floatsConstant)] },
  {
    at: 9,
    ops: ["Scan"],
    rewrite: (node, c) => c.refuse(node, "Scan of operator set 8 has a batch axis, which later ones dropped"),
  },
  { at: 10, ops: ["Slice"], rewrite: (node, c) => [toInputs(node, c, ["starts", "ends", "axes"], int64)] },
  { at: 10, ops: ["TopK"], rewrite: (node, c) => [toInputs(node, c, ["k"], int64)] },
  { at: 10, ops: ["Upsample"], rewrite: (node) => [{ ...node, op: "Resize" }] },
  { at: 10, ops: ["Dropout"], rewrite: unmasked },
  { at: 11, ops: ["Resize"], rewrite: asymmetricResize },
  { at: 11, ops: ["Clip"], rewrite: clipLimits },
  { at: 11, ops: ["Pad"], rewrite: padAmounts },
  { at: 11, ops: ["Scatter"], rewrite: (node) => [{ ...node, op: "ScatterElements" }] },
  { at: 12, ops: ["Dropout"], rewrite: dropoutRatio },
  {
    at: 13,
    ops: ["Squeeze", "Unsqueeze", "ReduceSum"],
    rewrite: (node, c) => [toInputs(node, c, ["axes"], int64)],
  },
  { at: 13, ops: ["Split"], rewrite: (node, c) => [toInputs(node, c, ["split"], int64)] },
  { at: 13, ops: ["Softmax", "LogSoftmax", "Hardmax"], rewrite: flattenedSoftmax },
  { at: 13, ops: ["Resize"], rewrite: notTfHalfPixel },
  { at: 14, ops: ["BatchNormalization"], rewrite: singleOutput },
  {
    at: 16,
    ops: ["RoiAlign"],
    rewrite: (node) => [withAttribute(node, "coordinate_transformation_mode", text("output_half_pixel"))],
  },
  { at: 18, ops: ["Split"], rewrite: splitCount },
  {
    at: 18,
    ops: [
      "ReduceL1",
      "ReduceL2",
      "ReduceLogSum",
      "ReduceLogSumExp",
      "ReduceMax",
      "ReduceMean",
      "ReduceMin",
      "ReduceProd",
      "ReduceSumSquare",
    ],
    rewrite: (node, c) => [toInputs(node, c, ["axes"], int64)],
  },
  { at: 20, ops: ["GridSample"], rewrite: gridSampleMode },
  { at: 20, ops: ["DFT"], rewrite: dftAxis },
  { at: 21, ops: ["GroupNormalization"], rewrite: scalePerChannel },
  {
    at: 22,
    ops: "Bernoulli GlobalLpPool MaxRoiPool Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike RoiAlign".split(
      " ",
    ),
    rewrite: withoutKernel,
  },
  { at: 25, ops: ["Attention"], rewrite: withoutKernel },
];

const text = (value: string): Attribute => ({ type: "string", value });
const floatsConstant = (values: readonly (number | bigint)[]): Tensor => float32([values.length], values.map(Number));

function without(node: Node, ...names: string[]): Node {
  const kept = Object.entries(node.attributes).filter(([name]) => !names.includes(name));
  return { ...node, attributes: Object.fromEntries(kept) };
}

function withAttribute(node: Node, name: string, value: Attribute): Node {
  return { ...node, attributes: { ...node.attributes, [name]: value } };
}

/** Moves attributes, in the order of the new inputs, behind the first input. Absent ones leave their inputs out. */
function toInputs(
  node: Node,
  c: Conversion,
  names: readonly string[],
  make: (values: readonly (number | bigint)[]) => Tensor,
): Node {
  const inputs = [
    node.inputs[0] ?? "",
    ...names.map((name) => {
      const attribute = node.attributes[name];
      if (!attribute) return "";
      if (attribute.type === "ints" || attribute.type === "floats") return c.constant(name, make(attribute.value));
      if (attribute.type === "int") return c.constant(name, make([attribute.value]));
      return c.refuse(node, `attribute '${name}' is a ${attribute.type}, which can't become an input`);
    }),
  ];
  return without({ ...node, inputs: trimmed(inputs) }, ...names);
}

/** Inputs without those left out at the end. */
function trimmed(inputs: readonly string[]): string[] {
  const last = inputs.findLastIndex((name) => name !== "");
  return inputs.slice(0, last + 1);
}

function renamed(node: Node, from: string, to: string): Node {
  const entries = Object.entries(node.attributes).map(([name, value]) => [name === from ? to : name, value] as const);
  return { ...node, attributes: Object.fromEntries(entries) };
}

/** Operators whose attribute `consumed_inputs`, a hint to work in place, was dropped in version 6. */
function operatorsInPlace(): string[] {
  return [...operatorNames("")!].filter((op) => signatureOf("", op, 5)?.attributes.has("consumed_inputs"));
}

function splitByAttribute(node: Node, c: Conversion): Node[] {
  return node.inputs.length > 1 ? c.refuse(node, "it takes the sizes of its parts as an input") : [node];
}

/** The defaults of alpha and gamma got more digits. */
function seluConstants(node: Node): Node[] {
  return [{ ...node, attributes: { alpha: float(1.6732), gamma: float(1.0507), ...node.attributes } }];
}

function withoutKernel(node: Node, c: Conversion): never {
  return c.refuse(node, "ONNX Runtime 1.30 has no kernel for the newer definition");
}

/** Before 7 the second operand was fitted to the first at `axis`; now trailing dimensions are aligned. */
function broadcast(node: Node, c: Conversion): Node[] {
  const axis = intsOf(node, "axis")?.[0];
  const plain = without(node, "broadcast", "axis");
  if (intAttribute(node, "broadcast", 0) === 0 || axis === undefined) return [plain];
  const [a, b] = node.inputs as [string, string];
  const ranks = [c.rankOf(a), c.rankOf(b)] as const;
  if (ranks[0] === undefined || ranks[1] === undefined)
    return c.refuse(node, "it broadcasts along an axis, and the ranks of its inputs are not known");
  const trailing = ranks[0] - (axis < 0 ? axis + ranks[0] : axis) - ranks[1];
  if (trailing <= 0) return [plain];
  const shape = c.constant("shape", int64([...Array<number>(ranks[1]).fill(0), ...Array<number>(trailing).fill(1)]));
  const fitted = c.fresh(`${b}_fitted`);
  return [makeNode("Reshape", [b, shape], [fitted]), { ...plain, inputs: [a, fitted] }];
}

function intsOf(node: Node, name: string): number[] | undefined {
  const attribute = node.attributes[name];
  return attribute?.type === "int" ? [Number(attribute.value)] : intsAttribute(node, name);
}

function inferenceOnly(node: Node, c: Conversion): Node[] {
  if (intAttribute(node, "is_test", 0) === 0) return c.refuse(node, "it is in training mode (is_test = 0)");
  return [without(node, "is_test")];
}

function spatialOnly(node: Node, c: Conversion): Node[] {
  if (intAttribute(node, "spatial", 1) === 0)
    return c.refuse(node, "it normalizes every element by itself (spatial = 0)");
  return [without(node, "spatial")];
}

function unmasked(node: Node, c: Conversion): Node[] {
  const mask = node.outputs[1];
  if (mask && c.isRead(mask)) return c.refuse(node, "its mask is read, whose type changed from float to bool");
  return [{ ...node, outputs: node.outputs.slice(0, 1) }];
}

function dropoutRatio(node: Node, c: Conversion): Node[] {
  const ratio = node.attributes.ratio;
  if (!ratio) return [node];
  if (ratio.type !== "float")
    return c.refuse(node, `attribute 'ratio' is a ${ratio.type}, which can't become an input`);
  const name = c.constant("ratio", float32([], [ratio.value]));
  return [without({ ...node, inputs: [node.inputs[0]!, name] }, "ratio")];
}

/**
 * Resize of operator set 10 (and Upsample): x_original = x_resized / scale, the nearest by floor where an axis grows and by
 * ceil where it shrinks.
 */
function asymmetricResize(node: Node, c: Conversion): Node[] {
  const [x, scales] = node.inputs as [string, string];
  const known = c.constantOf(scales);
  const factors = known ? [...toFloat32(known)] : [];
  const shrinks = factors.some((factor) => factor < 1);
  if (shrinks && factors.some((factor) => factor > 1) && stringAttribute(node, "mode", "nearest") === "nearest") {
    return c.refuse(node, "it enlarges one axis and shrinks another, each with its own rounding");
  }
  const attributes: Record<string, Attribute> = {
    ...node.attributes,
    coordinate_transformation_mode: text("asymmetric"),
    nearest_mode: text(shrinks ? "ceil" : "floor"),
  };
  return [{ ...node, inputs: [x, c.constant("roi", float32([0], [])), scales], attributes }];
}

function notTfHalfPixel(node: Node, c: Conversion): Node[] {
  if (stringAttribute(node, "coordinate_transformation_mode", "half_pixel") === "tf_half_pixel_for_nn") {
    return c.refuse(node, "its mode tf_half_pixel_for_nn was dropped in operator set 13");
  }
  return [node];
}

function clipLimits(node: Node, c: Conversion): Node[] {
  const limits = ["min", "max"].map((name) => {
    const attribute = node.attributes[name];
    if (!attribute) return { name: "", nodes: [] };
    if (attribute.type !== "float")
      return c.refuse(node, `attribute '${name}' is a ${attribute.type}, which can't become an input`);
    return c.scalarLike(node.inputs[0]!, name, attribute.value);
  });
  const inputs = trimmed([node.inputs[0]!, ...limits.map(({ name }) => name)]);
  return [...limits.flatMap(({ nodes }) => nodes), without({ ...node, inputs }, "min", "max")];
}

function padAmounts(node: Node, c: Conversion): Node[] {
  const padded = toInputs(without(node, "value"), c, ["pads"], int64);
  const value = node.attributes.value;
  if (!value || (value.type === "float" && value.value === 0)) return [padded];
  if (value.type !== "float")
    return c.refuse(node, `attribute 'value' is a ${value.type}, which can't become an input`);
  const scalar = c.scalarLike(node.inputs[0]!, "value", value.value);
  return [...scalar.nodes, { ...padded, inputs: [...padded.inputs, scalar.name] }];
}

/** Before 13 the axes from `axis` on were taken together: y = Reshape(Softmax(Flatten(x, axis)), Shape(x)). */
function flattenedSoftmax(node: Node, c: Conversion): Node[] {
  const axis = intAttribute(node, "axis", 1);
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const rank = c.rankOf(x);
  const last: Attribute = { type: "int", value: -1 };
  if (axis === -1 || (rank !== undefined && axis === rank - 1)) return [withAttribute(node, "axis", last)];
  const [shape, flat, soft] = ["shape", "flat", "soft"].map((stem) => c.fresh(`${y}_${stem}`)) as [
    string,
    string,
    string,
  ];
  return [
    makeNode("Shape", [x], [shape]),
    makeNode("Flatten", [x], [flat], { axis }),
    { ...withAttribute(node, "axis", last), inputs: [flat], outputs: [soft] },
    makeNode("Reshape", [soft, shape], [y]),
  ];
}

/** The other four outputs exist in training only. */
function singleOutput(node: Node, c: Conversion): Node[] {
  if (node.outputs.slice(1).some((name) => name !== "" && c.isRead(name)))
    return c.refuse(node, "it is in training mode (it hands out its statistics)");
  return [{ ...node, outputs: node.outputs.slice(0, 1) }];
}

function splitCount(node: Node): Node[] {
  if (node.inputs[1]) return [node];
  return [withAttribute(node, "num_outputs", { type: "int", value: node.outputs.length })];
}

function gridSampleMode(node: Node): Node[] {
  const renamed: Record<string, string> = { bilinear: "linear", bicubic: "cubic" };
  const mode = stringAttribute(node, "mode", "bilinear");
  return [withAttribute(node, "mode", text(renamed[mode] ?? mode))];
}

function dftAxis(node: Node, c: Conversion): Node[] {
  const axis = c.constant("axis", int64([intAttribute(node, "axis", 1)], []));
  return [without({ ...node, inputs: [node.inputs[0]!, node.inputs[1] ?? "", axis] }, "axis")];
}

/** Until 20 scale and bias had one element a group; each is repeated for the C / num_groups channels of its group. */
function scalePerChannel(node: Node, c: Conversion): Node[] {
  const [x, scale, bias] = node.inputs as [string, string, string];
  const groups = intAttribute(node, "num_groups", 1);
  const nodes: Node[] = [];
  const add = (op: string, inputs: readonly string[], attributes = {}): string => {
    const name = c.fresh(`${node.outputs[0]}_${op.toLowerCase()}`);
    nodes.push(makeNode(op, inputs, [name], attributes));
    return name;
  };
  const channels = add("Shape", [x], { start: 1, end: 2 });
  const each = add("Div", [channels, c.constant("groups", int64([groups]))]);
  const shape = add("Concat", [c.constant("groups", int64([groups])), each], { axis: 0 });
  const spread = (value: string): string => {
    const column = add("Reshape", [value, c.constant("column", int64([groups, 1]))]);
    return add("Reshape", [add("Expand", [column, shape]), c.constant("flat", int64([-1]))]);
  };
  const inputs = [x, spread(scale), spread(bias)];
  const epsilon = node.attributes.epsilon ?? float(1e-5);
  return [...nodes, { ...withAttribute(node, "epsilon", epsilon), inputs }];
}
