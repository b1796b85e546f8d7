import type { Node } from "../../graph/graph.ts";
import { type FakeQuantize, fakeQuantizeOf, leastStep } from "../fake-quantize.ts";
import { above, div, mul, scaled, sub } from "../rules/helpers.ts";
import { ints, scalar, type Writer } from "../writer.ts";

/** The operator in plain ones: y, c in the shape of the view where there is one, and the step. */
export function fakeQuantize(g: Writer, node: Node): readonly [y: string, c: string, step: string] {
  const [x, scale, offset, unit] = node.inputs as [string, string, string | undefined, string | undefined];
  const how = fakeQuantizeOf(node);
  if (!how.view || !how.shape) return [...onGrid(g, x, scale, offset, how), scale];
  const seen = g.op("Reshape", [x, ints(g, how.view)]);
  const own = scale || meanMagnitude(g, seen);
  const step = unit ? mul(g, own, scaled(g, unit, 1 / (how.parts ?? 1))) : own;
  const [y, c] = onGrid(g, seen, step, offset, how);
  return [g.op("Reshape", [y, ints(g, how.shape)]), c, step];
}

/** Mean magnitude of every channel of a view; above zero, since it divides. */
function meanMagnitude(g: Writer, x: string): string {
  const mean = g.op("ReduceMean", [g.op("Abs", [x]), ints(g, [1])], { keepdims: 1 });
  return g.op("Max", [mean, scalar(g, leastStep)]);
}

/** The same of a value that lies however it lies; scale and offset broadcast to it. */
export function onGrid(
  g: Writer,
  x: string,
  scale: string,
  offset: string | undefined,
  how: FakeQuantize,
): readonly [y: string, c: string] {
  const zero = offset && roundedOffset(g, offset, how);
  const bound = (value: number): string => (zero ? sub(g, scalar(g, value), zero) : scalar(g, value));
  const c = g.op("Clip", [div(g, x, scale), bound(how.low), bound(how.high)]);
  const levels = how.binary ? sub(g, mul(g, above(g, c), scalar(g, 2)), scalar(g, 1)) : g.op("Round", [c]);
  return [mul(g, levels, scale), c];
}

/** A learned offset as the integer it stands for. */
export function roundedOffset(g: Writer, offset: string, { low, high }: FakeQuantize): string {
  return g.op("Round", [g.op("Clip", [offset, scalar(g, low), scalar(g, high)])]);
}
