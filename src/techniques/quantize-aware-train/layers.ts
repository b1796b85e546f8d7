import { type FakeQuantize, fakeQuantizeNode } from "../../autodiff/fake-quantize.ts";
import { foldedBias, foldedBiasNode, wholeProducts } from "../../autodiff/folded-bias.ts";
import { type Draft, edit } from "../../graph/edit.ts";
import { floatAttribute, type Graph, isNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import type { Simulation } from "./insert.ts";
import type { TwinPlan } from "./twins.ts";
import type { WeightGrid } from "./weight-grids.ts";

/** A layer between integers, whose bias is a whole number of products when the model runs. */
export interface Layer {
  /** Names of the weight and of its steps, and of the step of what it is multiplied with. */
  readonly weight: string;
  readonly weightStep: string;
  readonly readStep: string;
  /** Sources of the plan: of what the layer reads, and of its output where that is quantized. */
  readonly reads: string;
  readonly writes: string | undefined;
  /** Parts that a product falls into. */
  readonly parts: number;
  /** Name of the layer's own bias, if it has one. */
  readonly bias: string | undefined;
  /** Batch normalization that is folded into the layer when the model runs. */
  readonly normalization: Node | undefined;
}

/**
 * The bias of a layer, and what normalizes it on its own in training, if that is all that is folded into it; undefined where
 * the bias that runs can't be known beforehand: behind a factor, with other operators folded, in products that have none.
 */
export function biasOf(node: Node, { folded }: TwinPlan): Pick<Layer, "bias" | "normalization"> | undefined {
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return undefined;
  const bias = node.inputs[2] || undefined;
  const followers = folded.get(node) ?? [];
  const [normalization] = followers;
  if (!normalization) return { bias, normalization };
  const known = followers.length === 1 && isNode(normalization, "BatchNormalization") && node.op !== "MatMul";
  return known ? { bias, normalization } : undefined;
}

/** Rounds a layer's own bias, and gives the result's name. */
export function fakeBias(
  draft: Draft,
  bias: string,
  { weightStep, readStep, parts }: Layer,
  { view: [outer, , inner] }: WeightGrid,
): string {
  const { size, shape } = draft.before.weights.get(bias)!;
  const view = outer * inner === 1 ? [1, 1, size] : [outer, 1, inner];
  const how: FakeQuantize = { low: -unbounded, high: unbounded, everywhere: true, parts, view, shape };
  const output = draft.fresh(`${bias}_rounded`);
  const clipped = draft.fresh(`${output}_clipped`);
  const name = draft.fresh(`${bias}/FakeQuantize`);
  draft.add(fakeQuantizeNode([bias, weightStep, "", readStep], output, clipped, how, name));
  return output;
}

/** Where a bias would not fit 32 bits, the steps of weights are raised when integers are written. */
const unbounded = 2 ** 100;

/**
 * A simulation for when batch normalization keeps its statistics: what it adds is rounded as the bias that it is folded into.
 * With a = γ / √(σ² + ε): `BatchNormalization(x + b; γ, β, μ, σ²) -> BatchNormalization(x; γ, round(β + a (b - μ)), 0, σ²)`.
 */
export function withFoldedBiases(simulation: Simulation): Simulation {
  const { graph: before, layers } = simulation;
  const folded = [...layers.values()].filter(({ normalization }) => normalization);
  if (folded.length === 0) return simulation;
  const graph = edit(before, (draft) => {
    const { producer, consumers } = links(before);
    for (const { normalization, bias, weightStep, readStep, parts } of folded) {
      const [x, gamma, beta, mean, variance] = normalization!.inputs as [string, string, string, string, string];
      const epsilon = floatAttribute(normalization!, "epsilon", 1e-5);
      const rounded = draft.fresh(`${beta}_rounded`);
      const inputs = { gamma, beta, mean, variance, weightStep, readStep, bias };
      draft.add(foldedBiasNode(inputs, rounded, { epsilon, parts }, draft.fresh(`${beta}/FoldedBias`)));
      const { size, shape } = before.weights.get(mean)!;
      const zero = draft.constant(`${mean}_zero`, float32(shape, new Float32Array(size)));
      const [layer, reader] = [producer.get(x)!, consumers.get(x)![0]!];
      draft.replace(reader, { ...reader, inputs: [x, gamma, rounded, zero, variance] });
      if (bias) draft.replace(layer, { ...layer, inputs: layer.inputs.slice(0, 2) });
    }
  });
  return { ...simulation, graph };
}

/** What a layer multiplies and adds as it runs. */
export interface RunningLayer {
  /** Steps of the weight: one, or one a channel. */
  readonly steps: Float32Array;
  /** A whole number of products for each channel; undefined where there is none. */
  readonly bias: Float32Array | undefined;
}

/** A trained layer as it runs, with batch normalization folded into it, if its weight has such steps. */
export function runningLayer(
  { readStep, parts, bias, normalization }: Layer,
  weightStep: Float32Array,
  { weights }: Pick<Graph, "weights">,
): RunningLayer {
  const values = (name: string): Float32Array => toFloat32(weights.get(name)!);
  const own = bias === undefined ? undefined : values(bias);
  const read = values(readStep);
  if (normalization) {
    const [gamma, beta, mean, variance] = normalization.inputs.slice(1).map(values) as Four;
    const epsilon = floatAttribute(normalization, "epsilon", 1e-5);
    return foldedBias({ gamma, beta, mean, variance, weightStep, readStep: read, bias: own }, { epsilon, parts });
  }
  return { steps: weightStep, bias: own && wholeProducts(own, weightStep, read[0]!, parts) };
}

type Four = [Float32Array, Float32Array, Float32Array, Float32Array];
