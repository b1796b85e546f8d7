import type { Node } from "../../graph/graph.ts";
import { foldedBiasInputs, foldedBiasOf, leastFoldedStep } from "../folded-bias.ts";
import { add, div, mul, neg, scaled, sub } from "../rules/helpers.ts";
import { ints, scalar, type Writer } from "../writer.ts";

/** The operator in plain ones, in the order of operations that its definition in TypeScript has. */
export function foldedBias(g: Writer, node: Node): string {
  const { epsilon, parts } = foldedBiasOf(node);
  const { gamma, beta, mean, variance, weightStep, readStep, bias } = foldedBiasInputs(node);
  const a = div(g, gamma, g.op("Sqrt", [add(g, variance, scalar(g, epsilon))]));
  const steps = mul(g, g.op("Abs", [a]), g.op("Reshape", [weightStep, ints(g, [-1])]));
  const k = mul(g, g.op("Max", [steps, scalar(g, leastFoldedStep)]), scaled(g, readStep, 1 / parts));
  const shifted = add(g, beta, mul(g, a, bias ? sub(g, bias, mean) : neg(g, mean)));
  return mul(g, g.op("Round", [div(g, shifted, k)]), k);
}
