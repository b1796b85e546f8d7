import type { Calibration } from "../../analysis/calibrate.ts";
import type { Draft } from "../../graph/edit.ts";
import { floatAttribute, type Graph, makeNode, type Node } from "../../graph/graph.ts";
import {
  type Affine,
  dequantize,
  type QuantizedWeight,
  quantizeWeight,
  type WeightOptions,
} from "../../tensor/affine.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { biasCorrection } from "./bias.ts";
import { dataInputs, weightOf } from "./rules.ts";

/** Integer types and layouts. */
export interface EmitOptions {
  readonly activationType: "uint8" | "int8" | "uint16" | "int16";
  readonly weightType: "int8" | "uint8";
  readonly perChannel: boolean;
  readonly symmetricActivations: boolean;
  readonly symmetricWeights: boolean;
  readonly reduceRange: boolean;
  /** Grids that are known already, in place of those that would be found. */
  readonly given?: GivenGrids;
}

/** Grids that training found. */
export interface GivenGrids {
  /** By source of the plan. */
  readonly activations: ReadonlyMap<string, Affine>;
  /** Of constants beside activations, by name. */
  readonly constants: ReadonlyMap<string, Affine>;
  /** Of weights, by name: symmetric, one scale or one an output channel. */
  readonly weights: ReadonlyMap<string, GivenWeight>;
}

/** The scales of a weight whose elements lie on their grid. */
export interface GivenWeight {
  readonly scales: Float32Array;
  /** Type that its integers fit. */
  readonly dtype: "int8" | "int4";
}

interface IntegerWeight {
  /** Its dequantized value. */
  readonly name: string;
  readonly scales: Float32Array;
  /** The dequantized numbers. */
  readonly rounded: () => Float32Array;
}

/** Writes constants as integers into a draft, each once for all its readers. */
export interface Constants {
  readonly options: EmitOptions;
  /**
   * A weight, dequantized. `floor` bounds the scales from below, so that a bias with scale s_x * s_w fits int32; of a single
   * scale it is asked without a channel.
   */
  weight(name: string, t: Tensor, axis: number | null, floor: (channel?: number) => number): IntegerWeight;
  /** A constant beside activations, on a grid of the activations' type, dequantized. */
  activation(name: string, t: Tensor): string;
  /** A bias as int32 with the scale of the accumulator, s_x * s_w, and zero point 0 (left out), dequantized. */
  bias(name: string, values: Float32Array, step: number, scales: Float32Array): string;
}

/** {@link Constants} of a draft. */
export function constantsOf(draft: Draft, options: EmitOptions): Constants {
  const weights = new Map<string, IntegerWeight>();
  const activations = new Map<string, string>();
  const dequantized = (name: string, inputs: readonly string[], axis: number | null): string => {
    const output = draft.fresh(`${name}_dequantized`);
    draft.add(makeNode("DequantizeLinear", inputs, [output], axis === null ? {} : { axis }));
    return output;
  };
  const place = (name: string, { values, scale, zeroPoint }: QuantizedWeight, axis: number | null): string => {
    const parts = [
      draft.constant(`${name}_quantized`, values),
      draft.constant(`${name}_scale`, scale),
      draft.constant(`${name}_zero_point`, zeroPoint),
    ];
    return dequantized(name, parts, axis);
  };
  return {
    options,
    weight(name, t, layoutAxis, floor) {
      const { weightType, symmetricWeights, reduceRange, given } = options;
      const known = given?.weights.get(name);
      const axis = (known ? known.scales.length > 1 : options.perChannel) ? layoutAxis : null;
      const settings: WeightOptions = known
        ? { dtype: known.dtype, axis, symmetric: true, name, scale: known.scales }
        : { dtype: weightType, axis, symmetric: symmetricWeights, reduceRange, name };
      const plain = quantizedOnce(t, settings);
      const raised = plain.scales.map((scale, c) => Math.max(scale, floor(axis === null ? undefined : c)));
      const isRaised = raised.some((scale, c) => scale !== plain.scales[c]);
      const key = `${name}:${axis}:${isRaised ? raised.join() : ""}`;
      const before = weights.get(key);
      if (before) return before;
      const quantized = isRaised ? quantizeWeight(t, { ...settings, scale: raised }) : plain;
      const { values, scales, zeroPoints } = quantized;
      const rounded = (): Float32Array => dequantize(values, scales, zeroPoints, axis);
      const made = { name: place(name, quantized, axis), scales, rounded };
      weights.set(key, made);
      return made;
    },
    activation(name, t) {
      const { activationType: dtype, symmetricActivations: symmetric, given } = options;
      const grid = given?.constants.get(name);
      const fixed = grid && { scale: Float32Array.of(grid.scale), zeroPoints: Int32Array.of(grid.zeroPoint) };
      const made =
        activations.get(name) ?? place(name, quantizeWeight(t, { dtype, axis: null, symmetric, name, ...fixed }), null);
      activations.set(name, made);
      return made;
    },
    bias(name, values, step, scales) {
      const products = scales.map((scale) => step * scale);
      const each = products.length > 1;
      const integers = Int32Array.from(values, (b, c) => Math.round(b / products[each ? c : 0]!));
      const parts = [
        draft.constant(`${name}_quantized`, tensor("int32", [values.length], integers)),
        draft.constant(`${name}_scale`, float32(each ? [products.length] : [], products)),
      ];
      return dequantized(name, parts, each ? 0 : null);
    },
  };
}

const quantizedWeights = new WeakMap<Tensor, Map<string, QuantizedWeight>>();

/** A weight's integers, kept as long as the weight: many candidates are written with the same ones. */
function quantizedOnce(t: Tensor, settings: WeightOptions): QuantizedWeight {
  const perTensor = quantizedWeights.get(t) ?? new Map<string, QuantizedWeight>();
  quantizedWeights.set(t, perTensor);
  const { dtype, axis, symmetric, reduceRange, scale } = settings;
  const key = `${dtype} ${axis} ${symmetric} ${reduceRange} ${scale?.join() ?? ""}`;
  const made = perTensor.get(key) ?? quantizeWeight(t, settings);
  perTensor.set(key, made);
  return made;
}

/** Largest |b / (s_x s_w)| allowed: int32 with room for the products added to the bias. */
const biasLimit = 2 ** 30;

/**
 * A compute node with its weight and bias as integers.
 *
 * @param node the node with its inputs renamed already
 * @param original the node as it is in the graph
 * @param step scale of its first input
 * @param calibration means for bias correction, if wanted
 */
export function withWeights(
  node: Node,
  original: Node,
  graph: Graph,
  constants: Constants,
  step: number,
  calibration?: Calibration,
): Node {
  const weight = weightOf(original, graph);
  if (!weight) return node; // product of two activations
  const alpha = original.op === "Gemm" ? floatAttribute(original, "alpha", 1) : 1;
  const bias = biasOf(original, graph);
  const floorOf = (b: number): number => Math.abs(b) / (step * Math.abs(alpha) * biasLimit);
  const largest = bias?.reduce((m, b) => Math.max(m, Math.abs(b)), 0) ?? 0;
  const { name, scales, rounded } = constants.weight(weight.name, weight.tensor, weight.axis, (c) =>
    floorOf(c === undefined ? largest : (bias?.[c] ?? 0)),
  );
  const shift = calibration && biasCorrection(original, graph, rounded, calibration);
  const corrected = shift ? Float32Array.from(shift, (s, c) => (bias?.[c] ?? 0) + alpha * s) : bias;
  const inputs = [...node.inputs];
  inputs[1] = name;
  if (corrected)
    inputs[2] = constants.bias(original.inputs[2] || `${original.outputs[0]}_bias`, corrected, step * alpha, scales);
  if (floatAttribute(original, "beta", 1) === 1) return { ...node, inputs };
  return { ...node, inputs, attributes: { ...node.attributes, beta: { type: "float", value: 1 } } };
}

/** A node's bias, a Gemm's times its beta. */
function biasOf(node: Node, graph: Graph): Float32Array | undefined {
  const name = node.inputs[2];
  if (!name) return undefined;
  const values = toFloat32(graph.weights.get(name)!);
  const beta = node.op === "Gemm" ? floatAttribute(node, "beta", 1) : 1;
  return beta === 1 ? values : values.map((b) => b * beta);
}

/** A kernel node with the constants among its inputs as integers. */
export function withConstants(node: Node, original: Node, graph: Graph, constants: Constants): Node {
  const data = new Set(dataInputs(original).filter((name) => graph.weights.has(name)));
  if (data.size === 0) return node;
  const inputs = node.inputs.map((name) =>
    data.has(name) ? constants.activation(name, graph.weights.get(name)!) : name,
  );
  return { ...node, inputs };
}
