import { float, floatAttribute, intAttribute, intsAttribute } from "../../graph/graph.ts";
import { float32, sizeOf } from "../../tensor/tensor.ts";
import { foldedBiasInputs } from "../folded-bias.ts";
import type { Backward, Rule } from "../rule.ts";
import { ints, scalar } from "../writer.ts";
import {
  add,
  channelAffine,
  channelSum,
  div,
  dyOf,
  mul,
  neg,
  positiveAxis,
  reshaped,
  scaled,
  shapeIn,
  sub,
  sumOver,
  sumTo,
} from "./helpers.ts";

/**
 * dx of x̂ = (x - mean) / deviation over some axes: (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)) / deviation.
 * Without centering (RMS norm) the first mean is left out.
 */
function throughNormalized(
  g: Backward,
  dxhat: string,
  xhat: string,
  inverse: string,
  axes: readonly number[],
  centered = true,
): string {
  const mean = (x: string): string => g.op("ReduceMean", [x, ints(g, axes)], { keepdims: 1 });
  const shifted = centered ? sub(g, dxhat, mean(dxhat)) : dxhat;
  return mul(g, sub(g, shifted, mul(g, xhat, mean(mul(g, dxhat, xhat)))), inverse);
}

/**
 * Over given statistics, r = 1/√(var + ε): dx = γr dy, dβ = Σ dy, dγ = r (Σ dy x - mean dβ), dmean = -γr dβ,
 * dvar = -γ r² dγ / 2.
 */
export const batchNormalizationRule: Rule = (g) => {
  if (intAttribute(g.node, "training_mode", 0) === 1) return trainingModeRule(g);
  const shape = shapeIn(g, 0);
  const [x, gamma, , mean, variance] = g.node.inputs as [string, string, string, string, string];
  const dy = dyOf(g);
  const inverse = inverseDeviation(g, variance);
  const slope = mul(g, gamma, inverse);
  const dbeta = channelSum(g, dy, shape);
  const dgamma = mul(g, inverse, sub(g, channelSum(g, dy, shape, x), mul(g, mean, dbeta)));
  return [
    g.wants(0) ? channelAffine(g, dy, shape, slope) : undefined,
    g.wants(1) ? dgamma : undefined,
    g.wants(2) ? dbeta : undefined,
    g.wants(3) ? neg(g, mul(g, slope, dbeta)) : undefined,
    g.wants(4) ? scaled(g, mul(g, mul(g, slope, inverse), dgamma), -0.5) : undefined,
  ];
};

/** Straight through rounding: with r = 1/√(variance + ε), dβ = dy, dγ = r (b - mean) dy, db = γr dy. */
export const foldedBiasRule: Rule = (g) => {
  const { gamma, mean, variance, bias } = foldedBiasInputs(g.node);
  const dy = dyOf(g);
  const inverse = inverseDeviation(g, variance);
  const shift = (): string => (bias ? sub(g, bias, mean) : neg(g, mean));
  const none = [undefined, undefined, undefined, undefined];
  return [
    g.wants(0) ? mul(g, dy, mul(g, inverse, shift())) : undefined,
    g.wants(1) ? dy : undefined,
    ...none,
    bias && g.wants(6) ? mul(g, dy, mul(g, gamma, inverse)) : undefined,
  ];
};

function inverseDeviation(g: Backward, variance: string): string {
  const epsilon = scalar(g, floatAttribute(g.node, "epsilon", 1e-5));
  return g.op("Reciprocal", [g.op("Sqrt", [add(g, variance, epsilon)])]);
}

/** The runtime's training form, whose statistics are the batch's. */
function trainingModeRule(g: Backward): readonly (string | undefined)[] {
  const shape = shapeIn(g, 0);
  const x = g.node.inputs[0]!;
  const samples = sizeOf(shape) / shape[1]!;
  const mean = scaled(g, channelSum(g, x, shape), 1 / samples);
  const ones = g.constant(float32([shape[1]!], new Float32Array(shape[1]!).fill(1)));
  const centred = channelAffine(g, x, shape, ones, neg(g, mean));
  return overBatch(g, centred, scaled(g, channelSum(g, centred, shape, centred), 1 / samples));
}

/**
 * pare's own normalization over batch statistics: x, γ, β, x less its mean, and the variance, the last two understood to
 * come from x.
 */
export const batchStatisticsRule: Rule = (g) => overBatch(g, g.node.inputs[3]!, g.node.inputs[4]!);

/**
 * With r = 1/√(var + ε) and c = x - mean, dβ = Σ dy, dγ = r Σ dy c, dx is affine in dy and c channel by channel:
 * dx = γr dy - (γr² dγ / n) c - γr dβ / n.
 */
function overBatch(g: Backward, centred: string, variance: string): readonly (string | undefined)[] {
  const shape = shapeIn(g, 0);
  const samples = sizeOf(shape) / shape[1]!;
  const dy = dyOf(g);
  const inverse = inverseDeviation(g, variance);
  const dbeta = channelSum(g, dy, shape);
  const dgamma = mul(g, inverse, channelSum(g, dy, shape, centred));
  const dx = (): string => {
    const slope = mul(g, g.node.inputs[1]!, inverse);
    const share = scaled(g, mul(g, mul(g, slope, inverse), dgamma), -1 / samples);
    const constant = scaled(g, mul(g, slope, dbeta), -1 / samples);
    return add(g, channelAffine(g, dy, shape, slope), channelAffine(g, centred, shape, share, constant));
  };
  return [g.wants(0) ? dx() : undefined, g.wants(1) ? dgamma : undefined, g.wants(2) ? dbeta : undefined];
}

/** x̂ and 1 / deviation by the runtime's own kernel, over the axes from `axis` on. */
function layerNormalized(g: Backward, x: string, shape: readonly number[], axis: number, epsilon: number) {
  const ones = g.constant(float32(shape.slice(axis), new Float32Array(sizeOf(shape.slice(axis))).fill(1)));
  const attributes = { axis, epsilon: float(epsilon) };
  const [xhat, , inverse] = g.ops("LayerNormalization", [x, ones], attributes, 3);
  return { xhat: xhat!, inverse: inverse! };
}

/** x̂ is made anew from x, which the sum around a block keeps anyway, and y from x̂: neither is kept. */
export const layerNormalizationRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  const axis = positiveAxis(intAttribute(g.node, "axis", -1), shape.length);
  const axes = shape.map((_, i) => i).slice(axis);
  const epsilon = floatAttribute(g.node, "epsilon", 1e-5);
  const [x, scale, bias] = g.node.inputs as [string, string, string | undefined];
  const { xhat, inverse } = layerNormalized(g, x, shape, axis, epsilon);
  const y = mul(g, xhat, scale);
  g.again(bias ? add(g, y, bias) : y);
  const dy = dyOf(g);
  return [
    g.wants(0) ? throughNormalized(g, mul(g, dy, scale), xhat, inverse, axes) : undefined,
    g.wants(1) ? sumTo(g, mul(g, dy, xhat), shape, shapeIn(g, 1)) : undefined,
    bias && g.wants(2) ? sumTo(g, dy, shape, shapeIn(g, 2)) : undefined,
  ];
};

/** RMSNormalization and the runtime's SimplifiedLayerNormalization: x / √(mean(x²) + ε) scale. */
export const rmsNormalizationRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  const axis = positiveAxis(intAttribute(g.node, "axis", -1), shape.length);
  const axes = shape.map((_, i) => i).slice(axis);
  const x = g.node.inputs[0]!;
  const square = g.op("ReduceMean", [mul(g, x, x), ints(g, axes)], { keepdims: 1 });
  const root = g.op("Sqrt", [add(g, square, scalar(g, floatAttribute(g.node, "epsilon", 1e-5)))]);
  const inverse = g.op("Reciprocal", [root]);
  const xhat = mul(g, x, inverse);
  g.again(mul(g, xhat, g.node.inputs[1]!));
  const dy = dyOf(g);
  const dxhat = mul(g, dy, g.node.inputs[1]!);
  return [
    g.wants(0) ? throughNormalized(g, dxhat, xhat, inverse, axes, false) : undefined,
    g.wants(1) ? sumTo(g, mul(g, dy, xhat), shape, shapeIn(g, 1)) : undefined,
  ];
};

/** Instance normalization is group normalization with a group a channel. */
export const instanceNormalizationRule: Rule = (g) => grouped(g, shapeIn(g, 0)[1]!);

export const groupNormalizationRule: Rule = (g) => grouped(g, intAttribute(g.node, "num_groups", 1));

/** Normalized over each group of channels and all places; scale and bias one a channel (or one a group, before 21). */
function grouped(g: Backward, groups: number): readonly (string | undefined)[] {
  const shape = shapeIn(g, 0);
  const [n, channels] = [shape[0]!, shape[1]!];
  const flat = [n, groups, sizeOf(shape) / (n * groups)];
  const epsilon = floatAttribute(g.node, "epsilon", 1e-5);
  const { xhat, inverse } = layerNormalized(g, reshaped(g, g.node.inputs[0]!, shape, flat), flat, 2, epsilon);
  const dy = dyOf(g);
  const perScale = shapeIn(g, 1)[0]!;
  // axis 1 holds what has a scale each
  const byScale = [n, perScale, sizeOf(shape) / (n * perScale)];
  const view = (x: string, from: readonly number[]): string => reshaped(g, x, from, byScale);
  const scale = g.op("Reshape", [g.node.inputs[1]!, ints(g, [perScale, 1])]);
  const dxhat = reshaped(g, mul(g, view(dy, shape), scale), byScale, flat);
  const dx = (): string => reshaped(g, throughNormalized(g, dxhat, xhat, inverse, [2]), flat, shape);
  const toVector = (x: string): string => sumOver(g, x, [0, 2], false);
  if (channels % perScale !== 0) return [];
  return [
    g.wants(0) ? dx() : undefined,
    g.wants(1) ? toVector(mul(g, view(dy, shape), view(xhat, flat))) : undefined,
    g.wants(2) ? toVector(view(dy, shape)) : undefined,
  ];
}

/** (x - mean) / (deviation + 1e-9), as the operator's definition has it. */
export const meanVarianceNormalizationRule: Rule = (g) => {
  const axes = intsAttribute(g.node, "axes") ?? [0, 2, 3];
  const [x, y, dy] = [g.node.inputs[0]!, g.node.outputs[0]!, dyOf(g)];
  const mean = (v: string): string => g.op("ReduceMean", [v, ints(g, axes)], { keepdims: 1 });
  const centered = sub(g, x, mean(x));
  const deviation = add(g, g.op("Sqrt", [mean(mul(g, centered, centered))]), scalar(g, 1e-9));
  return [throughNormalized(g, dy, y, div(g, scalar(g, 1), deviation), axes)];
};

/**
 * y = x s^-β with s = bias + α/size Σ x² over neighbouring channels:
 * dx = dy s^-β - (2αβ/size) x Σ' dy y / s, the sum over the channels whose neighbour this one is.
 */
export const lrnRule: Rule = (g) => {
  const size = intAttribute(g.node, "size", 1);
  const alpha = floatAttribute(g.node, "alpha", 1e-4) / size;
  const beta = floatAttribute(g.node, "beta", 0.75);
  const [x, y, dy] = [g.node.inputs[0]!, g.node.outputs[0]!, dyOf(g)];
  const before = Math.floor((size - 1) / 2);
  const after = size - 1 - before;
  const s = add(
    g,
    scaled(g, neighbours(g, mul(g, x, x), before, after), alpha),
    scalar(g, floatAttribute(g.node, "bias", 1)),
  );
  const direct = mul(g, dy, g.op("Pow", [s, scalar(g, -beta)]));
  const spread = neighbours(g, div(g, mul(g, dy, y), s), after, before);
  return [sub(g, direct, mul(g, scaled(g, x, 2 * alpha * beta), spread))];
};

/** Sum over the channels from `before` below to `after` above each. */
function neighbours(g: Backward, x: string, before: number, after: number): string {
  const shape = shapeIn(g, 0);
  const pads = shape
    .map((_, axis) => (axis === 1 ? before : 0))
    .concat(shape.map((_, axis) => (axis === 1 ? after : 0)));
  const padded = g.op("Pad", [x, ints(g, pads), scalar(g, 0)]);
  const slices = Array.from({ length: before + after + 1 }, (_, i) =>
    g.op("Slice", [padded, ints(g, [i]), ints(g, [i + shape[1]!]), ints(g, [1])]),
  );
  return slices.length === 1 ? slices[0]! : g.op("Sum", slices);
}
