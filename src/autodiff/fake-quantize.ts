import { fail } from "../errors.ts";
import {
  float,
  floatAttribute,
  intAttribute,
  intsAttribute,
  makeNode,
  type Node,
  nodeLabel,
  stringAttribute,
} from "../graph/graph.ts";

/** What of a grid learns: nothing; its step (LSQ, Esser et al. 2020); its end alone (PACT, Choi et al. 2018). */
export type StepRule = "none" | "lsq" | "pact";

/** The operator's name. */
export const fakeQuantizeOp = "pare:FakeQuantize";

/**
 * What a `pare:FakeQuantize` does: (x, s, z) -> (y, c), with c = clamp(x / s, low - z, high - z) and y = s round(c), halves
 * rounded to even: the numbers that QuantizeLinear and DequantizeLinear make of x. The offset z may be left out (0); it is
 * rounded itself, so that zero is on the grid. Of two levels y = s sign(c), and sign(0) is -1. Without s, which a weight
 * with a view may leave out, it is the mean magnitude of each channel, and no gradient passes through it. With a fourth
 * input u the step is s u / `parts`, as that of a bias is, which is a number of products; it does not learn then. A third
 * output, where there is one, is the step of each channel of a view.
 */
export interface FakeQuantize {
  /** Bounds of the integers; of two levels, in steps, of the window that gradients pass in. */
  readonly low: number;
  readonly high: number;
  /** Two levels, -1 and 1. */
  readonly binary?: boolean;
  readonly rule?: StepRule;
  /** Gradients pass outside the bounds too. */
  readonly everywhere?: boolean;
  /** Factor on the gradients of s and z; 1 if absent. */
  readonly gradient?: number;
  /** Parts that a product of steps falls into; 1 if absent. */
  readonly parts?: number;
  /** A weight is seen as [outer, length, inner] with a step for each outer and inner index, s being [outer, 1, inner]. */
  readonly view?: readonly number[];
  /** The weight's own shape, where there is a view. */
  readonly shape?: readonly number[];
}

/** What a mean magnitude is at least: below, numbers lose their digits. */
export const leastStep = 2 ** -100;

/** Makes a node; its gradient reads the second output. */
export function fakeQuantizeNode(
  inputs: readonly string[],
  output: string,
  clipped: string,
  how: FakeQuantize,
  name: string,
  step?: string,
): Node {
  const { low, high, rule = "none", gradient = 1, parts = 1, binary = false, everywhere = false, view, shape } = how;
  const attributes = {
    low: float(low),
    high: float(high),
    rule,
    gradient: float(gradient),
    parts,
    binary: Number(binary),
    everywhere: Number(everywhere),
    ...(view && shape && { view: [...view], shape: [...shape] }),
  };
  return makeNode(fakeQuantizeOp, inputs, [output, clipped, ...(step ? [step] : [])], attributes, name);
}

/** Reads a node's attributes. */
export function fakeQuantizeOf(node: Node): FakeQuantize & { readonly rule: StepRule; readonly gradient: number } {
  const rule = stringAttribute(node, "rule", "none");
  if (rule !== "none" && rule !== "lsq" && rule !== "pact") fail(nodeLabel(node), `has no rule '${rule}'`);
  const [view, shape] = [intsAttribute(node, "view"), intsAttribute(node, "shape")];
  return {
    low: floatAttribute(node, "low", 0),
    high: floatAttribute(node, "high", 255),
    binary: intAttribute(node, "binary", 0) === 1,
    rule,
    everywhere: intAttribute(node, "everywhere", 0) === 1,
    gradient: floatAttribute(node, "gradient", 1),
    parts: intAttribute(node, "parts", 1),
    ...(view && shape && { view, shape }),
  };
}
