import { float, floatAttribute, stringAttribute } from "../../graph/graph.ts";
import { sizeOf, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { Backward, Rule } from "../rule.ts";
import { scalar } from "../writer.ts";
import { above, add, below, div, dyOf, masked, mul, neg, scaled, shapeIn, shapeOut, sub, sumTo } from "./helpers.ts";

/** A rule for y = f(x) from dx = dy * f'(x), given the node's input, output and dy. */
export function unary(dx: (g: Backward, x: string, y: string, dy: string) => string): Rule {
  return (g) => [dx(g, g.node.inputs[0]!, g.node.outputs[0]!, dyOf(g))];
}

/** A rule for an operator with numpy broadcasting, from the gradient of input `i` at the output's shape. */
export function broadcasting(dx: (g: Backward, i: number, dy: string) => string | undefined): Rule {
  return (g) =>
    g.node.inputs.map((name, i) => {
      if (name === "" || !g.wants(i)) return undefined;
      const full = dx(g, i, dyOf(g));
      return full === undefined ? undefined : sumTo(g, full, shapeOut(g), shapeIn(g, i));
    });
}

const input = (g: Backward, i: number): string => g.node.inputs[i]!;
const one = (g: Backward): string => scalar(g, 1);

export const addRule: Rule = broadcasting((_, __, dy) => dy);

export const subRule: Rule = broadcasting((g, i, dy) => (i === 0 ? dy : neg(g, dy)));

export const mulRule: Rule = broadcasting((g, i, dy) => mul(g, dy, input(g, 1 - i)));

export const divRule: Rule = broadcasting((g, i, dy) => {
  const [x, d] = [input(g, 0), input(g, 1)];
  return i === 0 ? div(g, dy, d) : neg(g, div(g, mul(g, dy, x), mul(g, d, d)));
});

/** d/dx x^p = p x^(p-1); d/dp x^p = x^p ln x, taken as zero where x <= 0. */
export const powRule: Rule = broadcasting((g, i, dy) => {
  const [x, p] = [input(g, 0), input(g, 1)];
  if (i === 1) {
    const positive = g.op("Greater", [x, scalar(g, 0)]);
    const log = g.op("Log", [g.op("Where", [positive, x, one(g)])]);
    return mul(g, dy, mul(g, g.node.outputs[0]!, log));
  }
  const known = g.constantInput(1);
  const power = known?.size === 1 ? toFloat32(known)[0] : undefined;
  if (power === 1) return dy;
  if (power === 2) return mul(g, dy, scaled(g, x, 2));
  if (power === 0.5) return div(g, scaled(g, dy, 0.5), g.node.outputs[0]!);
  if (power !== undefined) return mul(g, dy, scaled(g, g.op("Pow", [x, scalar(g, power - 1)]), power));
  return mul(g, dy, mul(g, p, g.op("Pow", [x, sub(g, p, one(g))])));
});

/** Where inputs tie, the gradient is shared evenly among them. */
export const extremeRule: Rule = broadcasting((g, i, dy) => {
  const y = g.node.outputs[0]!;
  const hits = g.node.inputs.map((x) => g.op("Cast", [g.op("Equal", [x, y])], { to: 1 }));
  if (hits.length === 1) return dy;
  return div(g, mul(g, dy, hits[i]!), g.op("Sum", hits));
});

export const meanRule: Rule = broadcasting((g, _, dy) => scaled(g, dy, 1 / g.node.inputs.length));

export const whereRule: Rule = broadcasting((g, i, dy) => {
  if (i === 0) return undefined;
  const zero = scalar(g, 0);
  return g.op("Where", i === 1 ? [input(g, 0), dy, zero] : [input(g, 0), zero, dy]);
});

export const negRule = unary((g, _, __, dy) => neg(g, dy));
export const absRule = unary((g, x, _, dy) => mul(g, dy, g.op("Sign", [x])));
export const sqrtRule = unary((g, _, y, dy) => div(g, scaled(g, dy, 0.5), y));
export const expRule = unary((g, _, y, dy) => mul(g, dy, y));
export const logRule = unary((g, x, _, dy) => div(g, dy, x));
export const reciprocalRule = unary((g, _, y, dy) => neg(g, mul(g, dy, mul(g, y, y))));
export const sinRule = unary((g, x, _, dy) => mul(g, dy, g.op("Cos", [x])));
export const cosRule = unary((g, x, _, dy) => neg(g, mul(g, dy, g.op("Sin", [x]))));
export const tanhRule = unary((g, _, y, dy) => mul(g, dy, sub(g, one(g), mul(g, y, y))));
export const sigmoidRule = unary((g, _, y, dy) => mul(g, dy, mul(g, y, sub(g, one(g), y))));
export const softplusRule = unary((g, x, _, dy) => mul(g, dy, g.op("Sigmoid", [x])));
export const identityRule = unary((_, __, ___, dy) => dy);

/** d erf / dx = 2 / sqrt(pi) exp(-x²). */
export const erfRule = unary((g, x, _, dy) =>
  mul(g, dy, scaled(g, g.op("Exp", [neg(g, mul(g, x, x))]), 2 / Math.sqrt(Math.PI))),
);

const positive = (g: Backward, x: string): string => g.op("Greater", [x, scalar(g, 0)]);

export const reluRule = unary((g, _, y, dy) => mul(g, dy, above(g, y)));

export const leakyReluRule = unary((g, x, _, dy) => {
  const alpha = floatAttribute(g.node, "alpha", 0.01);
  return mul(g, dy, add(g, scaled(g, above(g, x), 1 - alpha), scalar(g, alpha)));
});

export const eluRule = unary((g, x, y, dy) => {
  const slope = add(g, y, scalar(g, floatAttribute(g.node, "alpha", 1)));
  return mul(g, dy, g.op("Where", [positive(g, x), one(g), slope]));
});

/** y = gamma (alpha e^x - alpha) below zero, so y' = y + gamma alpha. */
export const seluRule = unary((g, x, y, dy) => {
  const gamma = floatAttribute(g.node, "gamma", 1.0507009873554805);
  const slope = add(g, y, scalar(g, gamma * floatAttribute(g.node, "alpha", 1.6732632423543772)));
  return mul(g, dy, g.op("Where", [positive(g, x), scalar(g, gamma), slope]));
});

/** y = alpha (e^(x / alpha) - 1) below zero. */
export const celuRule = unary((g, x, y, dy) => {
  const slope = add(g, scaled(g, y, 1 / floatAttribute(g.node, "alpha", 1)), one(g));
  return mul(g, dy, g.op("Where", [positive(g, x), one(g), slope]));
});

export const softsignRule = unary((g, x, _, dy) => {
  const root = add(g, one(g), g.op("Abs", [x]));
  return div(g, dy, mul(g, root, root));
});

export const thresholdedReluRule = unary((g, x, _, dy) => mul(g, dy, above(g, x, floatAttribute(g.node, "alpha", 1))));

/** 1 strictly between two bounds, else 0. */
const inside = (g: Backward, x: string, low: number, high: number): string =>
  mul(g, above(g, x, low), below(g, x, high));

export const hardSigmoidRule = unary((g, _, y, dy) =>
  mul(g, dy, scaled(g, inside(g, y, 0, 1), floatAttribute(g.node, "alpha", 0.2))),
);

/** x h with h = clamp(x/6 + 1/2, 0, 1): h + x/6 between -3 and 3. */
export const hardSwishRule = unary((g, x, _, dy) => {
  const h = g.op("HardSigmoid", [x], { alpha: float(1 / 6), beta: float(0.5) });
  return mul(g, dy, add(g, h, mul(g, scaled(g, x, 1 / 6), inside(g, x, -3, 3))));
});

/** x σ(αx): σ + αxσ(1 - σ). The runtime's QuickGelu is the same with α 1.702. */
export const swishRule = unary((g, x, y, dy) => {
  const alpha = floatAttribute(g.node, "alpha", g.node.op === "QuickGelu" ? 1.702 : 1);
  const s = g.op("Sigmoid", [scaled(g, x, alpha)]);
  return mul(g, dy, add(g, s, scaled(g, mul(g, y, sub(g, one(g), s)), alpha)));
});

/** x tanh(softplus x) with t = tanh(softplus x): t + x (1 - t²) σ(x). */
export const mishRule = unary((g, x, _, dy) => {
  const t = g.op("Tanh", [g.op("Softplus", [x])]);
  const inner = mul(g, mul(g, x, sub(g, one(g), mul(g, t, t))), g.op("Sigmoid", [x]));
  return mul(g, dy, add(g, t, inner));
});

/**
 * Exact: Φ(x) + x φ(x). In both forms y = x Φ(x) costs the backward pass one product, which is less than keeping it: the
 * middle of a transformer's feed-forward blocks is its largest value.
 */
export const geluRule = unary((g, x, _, dy) => {
  if (stringAttribute(g.node, "approximate", "none") === "tanh") return mul(g, dy, tanhGeluSlope(g, x));
  const cdf = scaled(g, add(g, g.op("Erf", [scaled(g, x, Math.SQRT1_2)]), one(g)), 0.5);
  g.again(mul(g, x, cdf));
  const density = scaled(g, g.op("Exp", [scaled(g, mul(g, x, x), -0.5)]), 1 / Math.sqrt(2 * Math.PI));
  return mul(g, dy, add(g, cdf, mul(g, x, density)));
});

/** The tanh form is y = x σ(v) with v = x r, r = 2c (1 + 0.044715 x²), c = √(2/π): σ + y (1 - σ) v', v' = 3r - 4c. */
function tanhGeluSlope(g: Backward, x: string): string {
  const c = Math.sqrt(2 / Math.PI);
  const r = add(g, scaled(g, mul(g, x, x), 2 * c * 0.044715), scalar(g, 2 * c));
  const s = g.op("Sigmoid", [mul(g, x, r)]);
  const y = mul(g, x, s);
  g.again(y);
  const tail = mul(g, y, sub(g, scaled(g, r, 3), scalar(g, 4 * c)));
  return add(g, s, mul(g, sub(g, one(g), s), tail));
}

/** Passes inside the bounds; bounds that are computed get the gradient of what was clipped to them. */
export const clipRule: Rule = (g) => {
  const [x, low, high] = [input(g, 0), g.node.inputs[1] || undefined, g.node.inputs[2] || undefined];
  const dy = dyOf(g);
  const known = [1, 2].map((i) => (g.node.inputs[i] ? numberOf(g.constantInput(i)) : undefined));
  // the steps of `above` are exact for numbers below 2^27
  if ([1, 2].every((i) => !g.node.inputs[i] || Math.abs(known[i - 1] ?? Number.NaN) < 2 ** 27)) {
    const y = g.node.outputs[0]!;
    const upper = known[0] === undefined ? dy : mul(g, dy, above(g, y, known[0]));
    return [known[1] === undefined ? upper : mul(g, upper, below(g, y, known[1]))];
  }
  const under = low === undefined ? undefined : g.op("Less", [x, low]);
  const over = high === undefined ? undefined : g.op("Greater", [x, high]);
  const outside = under && over ? g.op("Or", [under, over]) : (under ?? over);
  const toScalar = (mask: string): string => sumTo(g, masked(g, mask, dy), shapeOut(g), []);
  return [
    outside === undefined ? dy : g.op("Where", [outside, scalar(g, 0), dy]),
    under && g.wants(1) ? toScalar(under) : undefined,
    over && g.wants(2) ? toScalar(over) : undefined,
  ];
};

function numberOf(t: Tensor | undefined): number | undefined {
  return t?.size === 1 ? toFloat32(t)[0] : undefined;
}

export const preluRule: Rule = (g) => {
  const [x, slope] = [input(g, 0), input(g, 1)];
  const dy = dyOf(g);
  const up = positive(g, x);
  const dslope = (): string => sumTo(g, g.op("Where", [up, scalar(g, 0), mul(g, dy, x)]), shapeOut(g), shapeIn(g, 1));
  return [g.wants(0) ? g.op("Where", [up, dy, mul(g, dy, slope)]) : undefined, g.wants(1) ? dslope() : undefined];
};

/** Inference form: the mask, if any, scales by 1 / (1 - ratio); without a mask it is the identity. */
export const dropoutRule: Rule = (g) => {
  const mask = g.node.outputs[1];
  const training = g.constantInput(2);
  const active = training?.bytes()[0] === 1;
  if (!active) return [dyOf(g)];
  const ratio = g.constantInput(1);
  const keep = 1 - (ratio ? toFloat32(ratio)[0]! : 0.5);
  if (!mask || sizeOf(shapeOut(g)) === 0) return [dyOf(g)];
  return [masked(g, mask, scaled(g, dyOf(g), 1 / keep))];
};

/** A cast between float types passes the gradient back in the input's type. */
export const castRule: Rule = (g) => {
  const { dtype } = g.type(g.node.inputs[0]!);
  const codes: Partial<Record<typeof dtype, number>> = { float32: 1, float16: 10, float64: 11, bfloat16: 16 };
  const to = codes[dtype];
  return [to === undefined ? undefined : g.op("Cast", [dyOf(g)], { to })];
};

const squared = (g: Backward, x: string): string => mul(g, x, x);
const overRoot = (g: Backward, dy: string, radicand: string): string => div(g, dy, g.op("Sqrt", [radicand]));

export const tanRule = unary((g, _, y, dy) => mul(g, dy, add(g, one(g), squared(g, y))));
export const asinRule = unary((g, x, _, dy) => overRoot(g, dy, sub(g, one(g), squared(g, x))));
export const acosRule = unary((g, x, _, dy) => neg(g, overRoot(g, dy, sub(g, one(g), squared(g, x)))));
export const atanRule = unary((g, x, _, dy) => div(g, dy, add(g, one(g), squared(g, x))));
export const sinhRule = unary((g, x, _, dy) => mul(g, dy, g.op("Cosh", [x])));
export const coshRule = unary((g, x, _, dy) => mul(g, dy, g.op("Sinh", [x])));
export const asinhRule = unary((g, x, _, dy) => overRoot(g, dy, add(g, squared(g, x), one(g))));
export const acoshRule = unary((g, x, _, dy) => overRoot(g, dy, sub(g, squared(g, x), one(g))));
export const atanhRule = unary((g, x, _, dy) => div(g, dy, sub(g, one(g), squared(g, x))));

/** Passes where the size is above lambda. */
export const shrinkRule = unary((g, x, _, dy) =>
  masked(g, g.op("Greater", [g.op("Abs", [x]), scalar(g, floatAttribute(g.node, "lambd", 0.5))]), dy),
);
