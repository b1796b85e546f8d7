import type { Range } from "../../analysis/ranges.ts";
import { floatAttribute, type Graph, intAttribute, isNode, type Node, stringAttribute } from "../../graph/graph.ts";
import { type Tensor, toNumbers } from "../../tensor/tensor.ts";

/**
 * How an operator behaves between quantized values:
 * - `compute`: multiplies with a weight, in integers; what quantization is for;
 * - `kernel`: has an integer kernel of its own, with one scale an input and one for the output;
 * - `pass`: moves elements about, so its output has its input's scale and the integers pass through;
 * - `clamp`: bounds its input, which the clipping of QuantizeLinear does as well.
 * Every other operator computes in float: its inputs are not worth an error, and nothing would get faster.
 */
export type Kind = "compute" | "kernel" | "pass" | "clamp";

interface Rule {
  readonly kind: Kind;
  /** Number of leading inputs that are data; the others are shapes, axes, indices. All of them where absent. */
  readonly data?: number;
  /** Range of the output whatever the input. */
  readonly fixed?: readonly [min: number, max: number];
  /** What keeps the node from following its kind; undefined where nothing does. */
  readonly unless?: (node: Node, graph: Graph) => string | undefined;
}

const rules: Readonly<Record<string, Rule>> = {
  Conv: { kind: "compute", data: 1 },
  Gemm: { kind: "compute", data: 2 },
  MatMul: { kind: "compute", data: 2 },

  Add: { kind: "kernel" },
  Mul: { kind: "kernel" },
  Concat: { kind: "kernel" },
  AveragePool: { kind: "kernel" },
  GlobalAveragePool: { kind: "kernel" },
  LeakyRelu: { kind: "kernel" },
  Sigmoid: { kind: "kernel", fixed: [0, 1] },

  MaxPool: { kind: "pass", unless: (node) => (node.outputs.length > 1 ? "its indices are used" : undefined) },
  Reshape: { kind: "pass", data: 1 },
  Flatten: { kind: "pass" },
  Squeeze: { kind: "pass", data: 1 },
  Unsqueeze: { kind: "pass", data: 1 },
  Transpose: { kind: "pass" },
  Slice: { kind: "pass", data: 1 },
  Gather: { kind: "pass", data: 1 },
  Split: { kind: "pass", data: 1 },
  Expand: { kind: "pass", data: 1 },
  Tile: { kind: "pass", data: 1 },
  DepthToSpace: { kind: "pass" },
  SpaceToDepth: { kind: "pass" },
  Identity: { kind: "pass" },
  Resize: {
    kind: "pass",
    data: 1,
    unless: (node) => (stringAttribute(node, "mode", "nearest") === "cubic" ? "cubic overshoots the range" : undefined),
  },
  Pad: { kind: "pass", data: 1, unless: padsWithOther },

  Relu: { kind: "clamp" },
  Clip: { kind: "clamp", data: 1, unless: clipsAwayZero },
};

function padsWithOther(node: Node, graph: Graph): string | undefined {
  if (stringAttribute(node, "mode", "constant") !== "constant") return undefined;
  const name = node.inputs[2];
  const value = name ? constant(graph, name) : undefined;
  const pad = name ? value && toNumbers(value)[0] : floatAttribute(node, "value", 0);
  return pad === 0 ? undefined : "it pads with another value than zero";
}

function clipsAwayZero(node: Node, graph: Graph): string | undefined {
  const bounds = clampBounds(node, graph);
  if (!bounds) return "its bounds are computed";
  return bounds[0] <= 0 && bounds[1] >= 0 ? undefined : "zero is outside its bounds";
}

/** The bounds of a Relu or Clip; undefined where they are computed. */
export function clampBounds(node: Node, graph: Graph): Range | undefined {
  if (node.op === "Relu") return [0, Number.POSITIVE_INFINITY];
  const bound = (index: number, attribute: string, open: number): number | undefined => {
    const name = node.inputs[index];
    if (!name) return floatAttribute(node, attribute, open);
    const value = constant(graph, name);
    return value && toNumbers(value)[0];
  };
  const min = bound(1, "min", Number.NEGATIVE_INFINITY);
  const max = bound(2, "max", Number.POSITIVE_INFINITY);
  return min === undefined || max === undefined ? undefined : [min, max];
}

/** The constant behind a name: a weight that no caller can override. */
export function constant(graph: Graph, name: string): Tensor | undefined {
  const weight = graph.weights.get(name);
  return weight && !graph.inputs.some((input) => input.name === name) ? weight : undefined;
}

/** The kind of a node, or undefined for operators that stay float. */
export function kindOf(node: Node, graph: Graph): Kind | undefined {
  const rule = node.domain === "" ? rules[node.op] : undefined;
  return rule && !rule.unless?.(node, graph) ? rule.kind : undefined;
}

/** The output range that a node's function guarantees. */
export function fixedRange(node: Node): readonly [min: number, max: number] | undefined {
  return isNode(node, "Softmax") ? [0, 1] : node.domain === "" ? rules[node.op]?.fixed : undefined;
}

const recurrent = "the runtime has no static integer kernel for it: use quantize-dynamic";
const floatOnly: Readonly<Record<string, string>> = {
  ConvTranspose: "the runtime has no integer kernel for it: use quantize-weights where its size matters",
  LSTM: recurrent,
  GRU: recurrent,
  RNN: recurrent,
};

/** Why an operator that holds weights is never run on integers; undefined for those that are, or hold none. */
export function neverInteger(node: Node): string | undefined {
  return node.domain === "" ? floatOnly[node.op] : undefined;
}

/** Names of a node's data inputs that are not constants. */
export function activations(node: Node, graph: Graph): readonly string[] {
  return dataInputs(node).filter((name) => !graph.weights.has(name));
}

/** Names of a node's data inputs: what would be quantized. */
export function dataInputs(node: Node): readonly string[] {
  const rule = rules[node.op];
  return node.inputs.slice(0, rule?.data ?? node.inputs.length).filter((name) => name !== "");
}

/** The weight of a compute node: its name, its values and its output-channel axis (null: one scale only). */
export interface Weight {
  readonly name: string;
  readonly tensor: Tensor;
  readonly axis: number | null;
}

/** The weight of a Conv, Gemm or MatMul, if it is a constant. */
export function weightOf(node: Node, graph: Graph): Weight | undefined {
  const name = node.inputs[1];
  const tensor = name ? constant(graph, name) : undefined;
  return name && tensor ? { name, tensor, axis: channelAxis(node, tensor.shape.length) } : undefined;
}

function channelAxis(node: Node, rank: number): number | null {
  switch (node.op) {
    case "Conv":
      return 0;
    case "Gemm":
      return intAttribute(node, "transB", 0) === 1 ? 0 : 1;
    default:
      return rank === 2 ? 1 : null;
  }
}

/** Whether a Conv has one filter for each input channel. */
export function isDepthwise(node: Node, graph: Graph): boolean {
  const weight = graph.weights.get(node.inputs[1] ?? "");
  return isNode(node, "Conv") && intAttribute(node, "group", 1) > 1 && weight?.shape[1] === 1;
}

/** Why a compute node can't run on integers, as far as the graph alone shows; undefined where it can. */
export function obstacle(node: Node, graph: Graph): string | undefined {
  const [x, w, b] = node.inputs;
  if (!x || !w) return "an input is missing";
  if (constant(graph, x)) return "its first input is a constant";
  if (graph.weights.has(w) && !constant(graph, w))
    return `its weight '${w}' is a graph input that a caller may override`;
  const weight = weightOf(node, graph);
  if (node.op === "Conv" && !weight) return `its weight '${w}' is computed`;
  if (weight && weight.tensor.dtype !== "float32") return `its weight is ${weight.tensor.dtype}`;
  if (weight && weight.tensor.size === 0) return "its weight is empty";
  if (node.op === "Gemm" && intAttribute(node, "transA", 0) === 1) return "it transposes its first input";
  if (!b) return undefined;
  const bias = constant(graph, b);
  if (!bias) return `its bias '${b}' is not a constant`;
  if (!weight) return "it adds a bias to a product of activations";
  const channels = node.op === "Gemm" ? weight.tensor.shape[weight.axis!]! : weight.tensor.shape[0]!;
  if (bias.size !== channels || (bias.shape.at(-1) ?? 1) !== channels) return "its bias is not one number a channel";
  return undefined;
}
