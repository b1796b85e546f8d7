import { intAttribute } from "../../graph/graph.ts";
import { integerRange } from "../../tensor/dtype.ts";
import type { Backward, Rule } from "../rule.ts";
import { scalar } from "../writer.ts";
import { add, div, dyOf, mul, positiveAxis, reshaped, shapeIn, sub, sumOver } from "./helpers.ts";

/** Straight through: rounding is taken for the identity (Bengio et al. 2013). */
export const roundRule: Rule = (g) => [dyOf(g)];

/**
 * Straight through inside the integer range, nothing outside; the scale learns by LSQ (Esser et al. 2020):
 * dx̂/ds is q - x/s inside and the bound outside. What arrives is the gradient of the dequantized value.
 */
export const quantizeLinearRule: Rule = (g) => {
  const [x, s, z] = g.node.inputs as [string, string, string | undefined];
  const shape = shapeIn(g, 0);
  const axis = positiveAxis(intAttribute(g.node, "axis", 1), shape.length);
  const scales = shapeIn(g, 1);
  const perAxis = scales.length === 1 && scales[0] !== 1 ? shape.map((dim, i) => (i === axis ? dim : 1)) : [];
  const step = reshaped(g, s, scales, perAxis);
  const steps = div(g, x, step);
  const q = g.node.outputs[0]!;
  const attributes = { axis: scales.length === 1 ? axis : undefined };
  const rounded = div(g, g.op("DequantizeLinear", z ? [q, s, z] : [q, s], attributes), step);
  const [low, high] = integerRange(g.type(q).dtype);
  const zero = z ? reshaped(g, g.op("Cast", [z], { to: 1 }), scales, perAxis) : scalar(g, 0);
  const level = add(g, steps, zero);
  // rounding to the range's last integers counts as inside it
  const inside = g.op("And", [
    g.op("Greater", [level, scalar(g, low - 0.5)]),
    g.op("Less", [level, scalar(g, high + 0.5)]),
  ]);
  const dy = dyOf(g);
  const dx = g.op("Where", [inside, dy, scalar(g, 0)]);
  const ds = (): string => {
    const slope = g.op("Where", [inside, sub(g, rounded, steps), rounded]);
    const axes = shape.map((_, i) => i).filter((i) => perAxis.length === 0 || i !== axis);
    const sum = sumOver(g, mul(g, dy, slope), axes, false);
    return reshaped(g, sum, perAxis.length === 0 ? [] : [shape[axis]!], scales);
  };
  return [g.wants(0) ? dx : undefined, g.wants(1) ? ds() : undefined];
};

/** The quantizer in front of it accounts for the scale. */
export const dequantizeLinearRule: Rule = (g: Backward) => [dyOf(g)];
