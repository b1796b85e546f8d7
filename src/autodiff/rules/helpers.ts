import { float } from "../../graph/graph.ts";
import type { Backward } from "../rule.ts";
import { ints, scalar, type Writer } from "../writer.ts";

/** Shape of one of the node's inputs. */
export function shapeIn(g: Backward, i: number): readonly number[] {
  return g.type(g.node.inputs[i]!).shape;
}

/** Shape of one of the node's outputs. */
export function shapeOut(g: Backward, i = 0): readonly number[] {
  return g.type(g.node.outputs[i]!).shape;
}

/** The gradient of the node's first output. */
export function dyOf(g: Backward): string {
  return g.dys[0]!;
}

/** Whether two shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** The value under another shape; itself where that is the same. */
export function reshaped(g: Writer, x: string, from: readonly number[], to: readonly number[]): string {
  return sameShape(from, to) ? x : g.op("Reshape", [x, ints(g, to)], { allowzero: to.includes(0) ? 1 : undefined });
}

/** Sum over axes. */
export function sumOver(g: Writer, x: string, axes: readonly number[], keepdims: boolean): string {
  return axes.length === 0 ? x : g.op("ReduceSum", [x, ints(g, axes)], { keepdims: keepdims ? 1 : 0 });
}

/** Undoes numpy broadcasting: sums a gradient of shape `from` down to the shape `to` that was broadcast to it. */
export function sumTo(g: Writer, dy: string, from: readonly number[], to: readonly number[]): string {
  if (sameShape(from, to)) return dy;
  const lead = from.length - to.length;
  const axes = from.flatMap((dim, axis) => (axis < lead || (to[axis - lead] === 1 && dim !== 1) ? [axis] : []));
  const summed = sumOver(g, dy, axes, false);
  const left = from.filter((_, axis) => !axes.includes(axis));
  return reshaped(g, summed, left, to);
}

/** Spreads a value over a shape it broadcasts to. */
export function expanded(g: Writer, x: string, from: readonly number[], to: readonly number[]): string {
  return sameShape(from, to) ? x : g.op("Expand", [x, ints(g, to)]);
}

/** A counted-from-the-front axis. */
export function positiveAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Sum, product and the like with less to write. */
export const add = (g: Writer, a: string, b: string): string => g.op("Add", [a, b]);
export const sub = (g: Writer, a: string, b: string): string => g.op("Sub", [a, b]);
export const mul = (g: Writer, a: string, b: string): string => g.op("Mul", [a, b]);
export const div = (g: Writer, a: string, b: string): string => g.op("Div", [a, b]);
export const neg = (g: Writer, a: string): string => g.op("Neg", [a]);
export const scaled = (g: Writer, a: string, factor: number): string =>
  factor === 1 ? a : g.op("Mul", [a, scalar(g, factor)]);

/** `dy` where the condition holds, zero elsewhere. */
export function masked(g: Writer, condition: string, dy: string): string {
  return g.op("Where", [condition, dy, scalar(g, 0)]);
}

/** Sum over everything but channels, [C]; of the product of two values where a second is given. */
export function channelSum(g: Writer, x: string, shape: readonly number[], y?: string): string {
  return g.op(y ? "pare:ChannelDot" : "pare:ChannelSum", y ? [x, y] : [x], { shape: [...shape] });
}

/** a x + b, channel by channel. */
export function channelAffine(g: Writer, x: string, shape: readonly number[], a: string, b?: string): string {
  return g.op("pare:ChannelAffine", b ? [x, a, b] : [x, a], { shape: [...shape] });
}

/** 1 where x > threshold, else 0: on the CPU several times faster than a comparison and a Where. */
export function above(g: Writer, x: string, threshold = 0): string {
  return steep(g, x, 1, threshold);
}

/** 1 where x < threshold, else 0. */
export function below(g: Writer, x: string, threshold: number): string {
  return steep(g, x, -1, threshold);
}

/** clamp(s (x - t), 0, 1) with a slope that lifts differences from 2^-100 on past 1; a power of two, so it rounds nothing. */
function steep(g: Writer, x: string, sign: number, threshold: number): string {
  const slope = sign * 2 ** 100;
  return g.op("HardSigmoid", [x], { alpha: float(slope), beta: float(-slope * threshold) });
}
