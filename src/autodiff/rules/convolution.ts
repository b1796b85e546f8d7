import { intAttribute, intsAttribute, type Node, type PlainAttribute, stringAttribute } from "../../graph/graph.ts";
import type { Backward, Rule } from "../rule.ts";
import { channelSum, dyOf, shapeIn, shapeOut } from "./helpers.ts";

/** A convolution's geometry, one entry a spatial axis, padding resolved. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly begins: readonly number[];
  readonly ends: readonly number[];
  readonly group: number;
}

/**
 * Geometry of a convolution or pooling node.
 *
 * @param from spatial sizes before, `to` after (the larger side first for ConvTranspose)
 */
export function windowOf(
  node: Node,
  kernel: readonly number[],
  from: readonly number[],
  to: readonly number[],
): Window {
  const strides = intsAttribute(node, "strides") ?? kernel.map(() => 1);
  const dilations = intsAttribute(node, "dilations") ?? kernel.map(() => 1);
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  const group = intAttribute(node, "group", 1);
  if (auto === "SAME_UPPER" || auto === "SAME_LOWER") {
    const total = kernel.map((k, i) =>
      Math.max(0, (to[i]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1 - from[i]!),
    );
    const small = total.map((t) => Math.floor(t / 2));
    const large = total.map((t, i) => t - small[i]!);
    const [begins, ends] = auto === "SAME_UPPER" ? [small, large] : [large, small];
    return { kernel, strides, dilations, begins, ends, group };
  }
  const pads = auto === "VALID" ? undefined : intsAttribute(node, "pads");
  const begins = kernel.map((_, i) => pads?.[i] ?? 0);
  const ends = kernel.map((_, i) => pads?.[kernel.length + i] ?? 0);
  return { kernel, strides, dilations, begins, ends, group };
}

export const convRule: Rule = (g) => {
  const [x, w] = [shapeIn(g, 0), shapeIn(g, 1)];
  const window = windowOf(g.node, w.slice(2), x.slice(2), shapeOut(g).slice(2));
  const dy = dyOf(g);
  const attributes = gradientAttributes(window, x, shapeOut(g));
  return [
    g.wants(0) ? g.op("pare:ConvInputGradient", [dy, g.node.inputs[1]!], attributes) : undefined,
    g.wants(1) ? g.op("pare:ConvWeightGradient", [g.node.inputs[0]!, dy], attributes) : undefined,
    g.node.inputs[2] && g.wants(2) ? channelSum(g, dy, shapeOut(g)) : undefined,
  ];
};

/** What pare's convolution gradients have to know of the convolution: its geometry, its input's and output's shape. */
export function gradientAttributes(
  { kernel, strides, dilations, begins, ends, group }: Window,
  input: readonly number[],
  output: readonly number[],
): Readonly<Record<string, PlainAttribute>> {
  return {
    kernel_shape: [...kernel],
    strides: [...strides],
    dilations: [...dilations],
    pads: [...begins, ...ends],
    group,
    input_shape: [...input],
    output_shape: [...output],
  };
}

/** The transposed convolution is dx of a convolution, so its dx is the convolution, and its dW that with roles exchanged. */
export const convTransposeRule: Rule = (g) => {
  const [x, w] = [shapeIn(g, 0), shapeIn(g, 1)];
  const window = transposedWindow(g, w.slice(2), x.slice(2), shapeOut(g).slice(2));
  const { kernel, strides, dilations, begins, ends, group } = window;
  const dy = dyOf(g);
  const dx = (): string => {
    const pads = [...begins, ...ends];
    return g.op("Conv", [dy, g.node.inputs[1]!], {
      kernel_shape: [...kernel],
      strides: [...strides],
      dilations: [...dilations],
      pads,
      group,
    });
  };
  const dw = (): string =>
    g.op("pare:ConvWeightGradient", [dy, g.node.inputs[0]!], gradientAttributes(window, shapeOut(g), x));
  return [
    g.wants(0) ? dx() : undefined,
    g.wants(1) ? dw() : undefined,
    g.node.inputs[2] && g.wants(2) ? channelSum(g, dy, shapeOut(g)) : undefined,
  ];
};

/** Padding such that a convolution over the output gives exactly the input's size. */
function transposedWindow(
  g: Backward,
  kernel: readonly number[],
  from: readonly number[],
  to: readonly number[],
): Window {
  const plain = windowOf(g.node, kernel, to, from);
  const { strides, dilations } = plain;
  const auto = stringAttribute(g.node, "auto_pad", "NOTSET");
  const reach = kernel.map((k, i) => (from[i]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1);
  const total = reach.map((r, i) => r - to[i]!);
  const fixed = auto === "NOTSET" && !intsAttribute(g.node, "output_shape");
  const begins = total.map((t, i) => {
    if (fixed) return plain.begins[i]!;
    const padded = Math.max(0, t);
    return auto === "SAME_UPPER" ? Math.floor(padded / 2) : padded - Math.floor(padded / 2);
  });
  return { ...plain, begins, ends: total.map((t, i) => Math.max(0, t - begins[i]!)) };
}
