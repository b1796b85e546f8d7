import { float, floatAttribute, intAttribute, makeNode, type Node } from "../graph/graph.ts";
import { roundHalfEven } from "../tensor/affine.ts";

/** The operator's name. */
export const foldedBiasOp = "pare:FoldedBias";

/** How a bias is folded and rounded. */
export interface FoldedBias {
  /** What is added to variances. */
  readonly epsilon: number;
  /** Parts that a product of steps falls into. */
  readonly parts: number;
}

/** Inputs of a `pare:FoldedBias`: what normalizes, and what the layer before is rounded by. */
export interface FoldedBiasInputs<T> {
  readonly gamma: T;
  readonly beta: T;
  readonly mean: T;
  readonly variance: T;
  /** Steps of the layer's weight, one or one a channel. */
  readonly weightStep: T;
  /** Step of what the layer reads. */
  readonly readStep: T;
  /** The layer's own bias. */
  readonly bias: T | undefined;
}

/**
 * What a `pare:FoldedBias` does: the bias of a layer that batch normalization with given statistics is folded into, as
 * integer kernels hold it, as a whole number of products. With a = γ / √(variance + ε), s the steps of the layer's weight,
 * u the step of what it reads and b its own bias, if any:
 * y = k round((β + a (b - mean)) / k), k = |a| s u / parts. Gradients pass as if it were not rounded; statistics and steps
 * get none.
 */
export function foldedBiasNode(
  inputs: FoldedBiasInputs<string>,
  output: string,
  { epsilon, parts }: FoldedBias,
  name: string,
): Node {
  const { gamma, beta, mean, variance, weightStep, readStep, bias } = inputs;
  const names = [gamma, beta, mean, variance, weightStep, readStep, ...(bias ? [bias] : [])];
  return makeNode(foldedBiasOp, names, [output], { epsilon: float(epsilon), parts }, name);
}

/** Reads a node's attributes. */
export function foldedBiasOf(node: Node): FoldedBias {
  return { epsilon: floatAttribute(node, "epsilon", 1e-5), parts: intAttribute(node, "parts", 1) };
}

/** Names of a node's inputs. */
export function foldedBiasInputs({ inputs }: Node): FoldedBiasInputs<string> {
  const [gamma, beta, mean, variance, weightStep, readStep] = inputs as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return { gamma, beta, mean, variance, weightStep, readStep, bias: inputs[6] };
}

/** What a step behind normalization is at least: a channel whose factor is 0 has one too, and it divides. */
export const leastFoldedStep = 2 ** -60;

/** What the operator computes, in the same single precision, and the steps |a| s of the weight behind folding. */
export function foldedBias(
  inputs: FoldedBiasInputs<Float32Array>,
  { epsilon, parts }: FoldedBias,
): { readonly bias: Float32Array; readonly steps: Float32Array } {
  const { gamma, beta, mean, variance, weightStep, readStep, bias: own } = inputs;
  const a = gamma.map((g, c) => g / Math.fround(Math.sqrt(Math.fround(variance[c]! + Math.fround(epsilon)))));
  const steps = a.map((factor, c) =>
    Math.max(Math.fround(Math.abs(factor) * weightStep[weightStep.length === 1 ? 0 : c]!), leastFoldedStep),
  );
  const shifts = mean.map((m, c) => (own ? own[c]! - m : -m));
  const shifted = beta.map((b, c) => b + Math.fround(a[c]! * shifts[c]!));
  return { bias: wholeProducts(shifted, steps, readStep[0]!, parts), steps };
}

/**
 * A bias as a whole number of parts of products, by the single precision that fake quantization has.
 *
 * @param steps of the weight, one or one a channel
 * @param readStep of what the weight is multiplied with
 */
export function wholeProducts(bias: Float32Array, steps: Float32Array, readStep: number, parts: number): Float32Array {
  const unit = Math.fround(readStep * Math.fround(1 / parts));
  return bias.map((b, c) => {
    const step = Math.fround(steps[steps.length === 1 ? 0 : c]! * unit);
    return step * roundHalfEven(Math.fround(b / step));
  });
}
