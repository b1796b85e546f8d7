import { floatAttribute, type Graph, intAttribute, isNode, type Node } from "../../graph/graph.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { constant } from "./pass.ts";

/** y[c] = scale[c] x[c] + shift[c], in float64. */
export interface Affine {
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

/** The axis along which a value's channels lie. */
export interface Channels {
  readonly channels: number;
  readonly rank: number;
  readonly axis: number;
}

/** First `a`, then `b`. */
export function compose(a: Affine, b: Affine): Affine {
  return { scale: a.scale.map((s, c) => s * b.scale[c]!), shift: a.shift.map((t, c) => t * b.scale[c]! + b.shift[c]!) };
}

/** "none" where nothing is scaled, "all" where nothing is shifted. */
export function isScalingOnly({ scale, shift }: Affine): "none" | "all" | "no" {
  if (scale.every((s) => s === 1)) return "none";
  return shift.every((t) => t === 0) ? "all" : "no";
}

/** A node as an affine map of `value`'s channels; undefined where it is something else. */
export function affineOf(graph: Graph, node: Node, value: string, at: Channels): Affine | undefined {
  if (isNode(node, "BatchNormalization")) {
    return node.inputs[0] === value && (at.axis === 1 || at.rank === 2) && at.rank > 1
      ? normalization(graph, node, at)
      : undefined;
  }
  const index = node.inputs[0] === value ? 1 : 0;
  if (node.domain !== "" || node.inputs.length !== 2 || node.inputs[1 - index] !== value) return undefined;
  const right = index === 1;
  const other = constant(graph, node.inputs[index]);
  const values = other && perChannel(other, at);
  if (!values) return undefined;
  const zeros = new Float64Array(at.channels);
  const ones = new Float64Array(at.channels).fill(1);
  switch (node.op) {
    case "Add":
      return { scale: ones, shift: values };
    case "Sub":
      return right ? { scale: ones, shift: values.map((v) => -v) } : { scale: ones.map((v) => -v), shift: values };
    case "Mul":
      return { scale: values, shift: zeros };
    case "Div":
      return right && values.every((v) => v !== 0) ? { scale: values.map((v) => 1 / v), shift: zeros } : undefined;
    default:
      return undefined;
  }
}

/** s = gamma / sqrt(variance + epsilon), t = beta - s mean. */
function normalization(graph: Graph, node: Node, { channels }: Channels): Affine | undefined {
  const trains = intAttribute(node, "training_mode", 0) !== 0 || node.outputs.slice(1).some((name) => name !== "");
  const old = (graph.opsets[""] ?? 0) < 7 && intAttribute(node, "is_test", 0) === 0;
  if (trains || old || intAttribute(node, "spatial", 1) === 0) return undefined;
  const [gamma, beta, mean, variance] = node.inputs.slice(1).map((name) => constant(graph, name));
  if (!gamma || !beta || !mean || !variance) return undefined;
  if ([gamma, beta, mean, variance].some((t) => t.size !== channels || !isReal(t))) return undefined;
  const epsilon = floatAttribute(node, "epsilon", 1e-5);
  const v = toFloat32(variance);
  const scale = Float64Array.from(toFloat32(gamma), (g, c) => g / Math.sqrt(v[c]! + epsilon));
  const m = toFloat32(mean);
  return { scale, shift: Float64Array.from(toFloat32(beta), (b, c) => b - scale[c]! * m[c]!) };
}

/** A constant broadcast along every axis but that of the channels, as one value a channel. */
function perChannel(t: Tensor, { channels, rank, axis }: Channels): Float64Array | undefined {
  if (!isReal(t) || t.shape.length > rank || (t.size !== 1 && t.size !== channels)) return undefined;
  const fits = t.size === 1 || t.shape[axis - rank + t.shape.length] === channels;
  const values = toFloat32(t);
  return fits ? Float64Array.from({ length: channels }, (_, c) => values[t.size === 1 ? 0 : c]!) : undefined;
}

function isReal({ dtype }: Tensor): boolean {
  return dtypes[dtype].kind === "float" && dtype !== "float64";
}
