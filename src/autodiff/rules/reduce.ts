import { fail } from "../../errors.ts";
import { intAttribute, isNode, nodeLabel } from "../../graph/graph.ts";
import { sizeOf, toNumbers } from "../../tensor/tensor.ts";
import type { Backward, Rule } from "../rule.ts";
import { ints, scalar } from "../writer.ts";
import {
  div,
  dyOf,
  expanded,
  mul,
  positiveAxis,
  reshaped,
  sameShape,
  scaled,
  shapeIn,
  shapeOut,
  sub,
  sumOver,
} from "./helpers.ts";

/** A reduction seen from behind: dy and y with the reduced axes kept at size 1. */
interface Reduction {
  readonly x: string;
  readonly y: string;
  readonly dy: string;
  readonly full: readonly number[];
  readonly kept: readonly number[];
  /** Elements summed into one. */
  readonly elements: number;
}

function reduction(dx: (g: Backward, r: Reduction) => string): Rule {
  return (g) => {
    const full = shapeIn(g, 0);
    const axes = reducedAxes(g, full.length);
    const kept = full.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
    const dy = reshaped(g, dyOf(g), shapeOut(g), kept);
    const y = reshaped(g, g.node.outputs[0]!, shapeOut(g), kept);
    return [dx(g, { x: g.node.inputs[0]!, y, dy, full, kept, elements: sizeOf(full) / Math.max(1, sizeOf(kept)) })];
  };
}

function reducedAxes(g: Backward, rank: number): number[] {
  const all = Array.from({ length: rank }, (_, i) => i);
  if (!g.node.inputs[1]) return intAttribute(g.node, "noop_with_empty_axes", 0) ? [] : all;
  const axes = g.constantInput(1);
  if (!axes) return fail(nodeLabel(g.node), "has no gradient: its axes are computed", "Freeze it, or simplify first");
  if (axes.size === 0) return intAttribute(g.node, "noop_with_empty_axes", 0) ? [] : all;
  return toNumbers(axes).map((axis) => positiveAxis(axis, rank));
}

export const reduceSumRule = reduction((g, r) => expanded(g, r.dy, r.kept, r.full));
export const reduceMeanRule = reduction((g, r) => expanded(g, scaled(g, r.dy, 1 / r.elements), r.kept, r.full));
export const reduceSumSquareRule = reduction((g, r) => mul(g, r.dy, scaled(g, r.x, 2)));
export const reduceL1Rule = reduction((g, r) => mul(g, r.dy, g.op("Sign", [r.x])));
export const reduceLogSumRule = reduction((g, r) => expanded(g, div(g, r.dy, g.op("Exp", [r.y])), r.kept, r.full));
export const reduceLogSumExpRule = reduction((g, r) => mul(g, r.dy, g.op("Exp", [sub(g, r.x, r.y)])));

/** x / ‖x‖, and zero where the norm is. */
export const reduceL2Rule = reduction((g, r) => {
  const zero = g.op("Equal", [r.y, scalar(g, 0)]);
  const norm = g.op("Where", [zero, scalar(g, 1), r.y]);
  return mul(g, div(g, r.dy, norm), r.x);
});

/** Ties share the gradient evenly. */
export const reduceExtremeRule = reduction((g, r) => {
  const hit = g.op("Cast", [g.op("Equal", [r.x, r.y])], { to: 1 });
  const axes = r.full.flatMap((dim, axis) => (r.kept[axis] === dim ? [] : [axis]));
  return mul(g, hit, div(g, r.dy, sumOver(g, hit, axes, true)));
});

/** dy y / x; where a factor is zero the quotient is not a number, as the product's own logarithm is not. */
export const reduceProdRule = reduction((g, r) => div(g, mul(g, r.dy, r.y), r.x));

/** Where the sums of softmax run: along one axis. */
function alongAxis(g: Backward): { axis: number; sum(x: string): string } {
  const axis = positiveAxis(intAttribute(g.node, "axis", -1), shapeIn(g, 0).length);
  return { axis, sum: (x) => g.op("ReduceSum", [x, ints(g, [axis])], { keepdims: 1 }) };
}

/**
 * dx = y (dy - Σ dy y). Where all that reads y is a product z = y v, as in attention, Σ dy y = Σ dz z: the sums of a row of
 * z, which is much shorter.
 */
export const softmaxRule: Rule = (g) => {
  const y = g.node.outputs[0]!;
  const sums = sumsOfMixture(g, y);
  if (sums !== undefined) return [mul(g, y, sub(g, dyOf(g), sums))];
  const weighted = mul(g, dyOf(g), y);
  return [sub(g, weighted, mul(g, y, alongAxis(g).sum(weighted)))];
};

/** Σ dz z of the product z = y v that alone reads y, along the last axis; undefined where there is none. */
function sumsOfMixture(g: Backward, y: string): string | undefined {
  const rows = shapeOut(g).slice(0, -1);
  const reader = g.reader(y);
  if (!reader?.dy || !isNode(reader.node, "MatMul") || reader.node.inputs[0] !== y) return undefined;
  const z = reader.node.outputs[0]!;
  const shape = g.type(z).shape;
  if (alongAxis(g).axis !== rows.length || rows.length === 0 || !sameShape(shape.slice(0, -1), rows)) return undefined;
  return g.op("ReduceSum", [mul(g, reader.dy, z), ints(g, [rows.length])], { keepdims: 1 });
}

/** dx = dy - exp(y) Σ dy. */
export const logSoftmaxRule: Rule = (g) => {
  const total = alongAxis(g).sum(dyOf(g));
  return [sub(g, dyOf(g), mul(g, g.op("Exp", [g.node.outputs[0]!]), total))];
};

/** y = x / ‖x‖ along an axis (p 2): dx = (dy - y Σ dy y) / ‖x‖; for p 1 the sum runs with the signs. */
export const lpNormalizationRule: Rule = (g) => {
  const { sum } = alongAxis(g);
  const [x, y, dy] = [g.node.inputs[0]!, g.node.outputs[0]!, dyOf(g)];
  const p = intAttribute(g.node, "p", 2);
  const norm = p === 2 ? g.op("Sqrt", [sum(mul(g, x, x))]) : sum(g.op("Abs", [x]));
  const direction = p === 2 ? y : g.op("Sign", [x]);
  return [div(g, sub(g, dy, mul(g, direction, sum(mul(g, dy, y)))), norm)];
};
