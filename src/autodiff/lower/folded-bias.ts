import type { Node } from "../../graph/graph.ts";
import { foldedBiasOf, leastFoldedStep } from "../folded-bias.ts";
import { add, div, mul, neg, scaled, sub } from "../rules/helpers.ts";
import { ints, scalar, type Writer } from "../writer.ts";

/** The operator in plain ones, in the order of operations that its definition in TypeScript has. */
export function foldedBias(g: Writer, node: Node): string {
  const { epsilon, parts } = foldedBiasOf(node);
  const [gamma, beta, mean, variance, weightStep, readStep] = node.inputs as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const own = node.inputs[6];
  const a = div(g, gamma, g.op("Sqrt", [add(g, variance, scalar(g, epsilon))]));
  const steps = mul(g, g.op("Abs", [a]), g.op("Reshape", [weightStep, ints(g, [-1])]));
  const k = mul(g, g.op("Max", [steps, scalar(g, leastFoldedStep)]), scaled(g, readStep, 1 / parts));
  const shifted = add(g, beta, mul(g, a, own ? sub(g, own, mean) : neg(g, mean)));
  return mul(g, g.op("Round", [div(g, shifted, k)]), k);
}
