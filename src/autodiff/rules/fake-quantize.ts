import { type FakeQuantize, fakeQuantizeOf } from "../fake-quantize.ts";
import { roundedOffset } from "../lower/fake-quantize.ts";
import type { Backward, Rule } from "../rule.ts";
import {
  above,
  add,
  below,
  channelSum,
  div,
  dyOf,
  mul,
  neg,
  reshaped,
  scaled,
  shapeIn,
  sub,
  sumOver,
} from "./helpers.ts";

/**
 * Straight through rounding (Bengio et al. 2013): dx = dy where x is inside the grid, 0 outside. With v = x / s,
 * dy/ds = round(v) - v inside and the bound outside (LSQ, Esser et al. 2020), which summed up is
 * ds = (Σ dy y - Σ dx x) / s. Of the end alone (PACT, Choi et al. 2018) dy/ds is the bound outside and 0 inside:
 * ds = (Σ dy y - Σ dx y) / s. An offset moves what is clipped: dz = -s (Σ dy - Σ dx) (LSQ+, Bhalgat et al. 2020).
 */
export const fakeQuantizeRule: Rule = (g) => {
  const how = fakeQuantizeOf(g.node);
  const [x, scale, offset] = g.node.inputs as [string, string, string | undefined];
  const [y, c] = g.node.outputs as [string, string];
  const over = sumsOver(g, how.view);
  const dy = over.seen(dyOf(g));
  const dx = how.everywhere ? dy : mul(g, dy, inside(g, offset ? add(g, c, roundedOffset(g, offset, how)) : c, how));
  const ds = (): string => {
    const through = over.dot(dx, over.seen(how.rule === "pact" ? y : x));
    return scaled(g, div(g, sub(g, over.dot(dy, over.seen(y)), through), scale), how.gradient);
  };
  const dz = (): string => scaled(g, neg(g, mul(g, scale, sub(g, over.sum(dy), over.sum(dx)))), how.gradient);
  const learns = how.rule !== "none";
  return [
    g.wants(0) ? over.own(dx) : undefined,
    learns && g.wants(1) ? over.shaped(ds(), 1) : undefined,
    learns && g.wants(2) ? over.shaped(dz(), 2) : undefined,
  ];
};

/** 1 between the bounds, else 0. */
function inside(g: Backward, clipped: string, { low, high }: FakeQuantize): string {
  return mul(g, above(g, clipped, low), below(g, clipped, high));
}

/** How values are summed to the scale's shape. */
interface Sums {
  /** A value as it is summed: in the shape of the view. */
  seen(value: string): string;
  /** A value in the shape of the node's input. */
  own(value: string): string;
  sum(value: string): string;
  dot(a: string, b: string): string;
  /** A sum in the shape of input `i`. */
  shaped(sum: string, i: number): string;
}

function sumsOver(g: Backward, view: readonly number[] | undefined): Sums {
  const shape = shapeIn(g, 0);
  if (view) {
    const kept = [view[0]!, 1, view[2]!];
    const sum = (value: string): string => sumOver(g, value, [1], true);
    return {
      seen: (value) => reshaped(g, value, shape, view),
      own: (value) => reshaped(g, value, view, shape),
      sum,
      dot: (a, b) => sum(mul(g, a, b)),
      shaped: (value, i) => reshaped(g, value, kept, shapeIn(g, i)),
    };
  }
  // by channels first, which images in blocks have an operator for
  const total = (a: string, b?: string): string => {
    if (shape.length === 4) return sumOver(g, channelSum(g, a, shape, b), [0], false);
    const axes = shape.map((_, axis) => axis);
    return sumOver(g, b ? mul(g, a, b) : a, axes, false);
  };
  return { seen: (value) => value, own: (value) => value, sum: total, dot: total, shaped: (value) => value };
}
