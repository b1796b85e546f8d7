import type { Calibration } from "../../analysis/calibrate.ts";
import type { Draft } from "../../graph/edit.ts";
import { floatAttribute, type Graph, makeNode, type Node } from "../../graph/graph.ts";
import {
  type Affine,
  dequantize,
  integerTensor,
  type QuantizedWeight,
  quantizeWeight,
  type WeightOptions,
} from "../../tensor/affine.ts";
import { dtypes, isPacked } from "../../tensor/dtype.ts";
import { searchScales } from "../../tensor/scale-search.ts";
import { split } from "../../tensor/statistics.ts";
import { float32, type Tensor, tensor, toFloat32, typed } from "../../tensor/tensor.ts";
import { biasCorrection } from "./bias.ts";
import { importanceOf } from "./importance.ts";
import { dataInputs, type Weight, weightOf } from "./rules.ts";
import type { Widths } from "./widths.ts";

/** Integer types and layouts. */
export interface EmitOptions {
  readonly activationType: "uint8" | "int8" | "uint16" | "int16";
  readonly weightType: "int8" | "uint8";
  readonly perChannel: boolean;
  readonly symmetricActivations: boolean;
  readonly symmetricWeights: boolean;
  /** Whether a weight, by name, has 7 bits. */
  readonly reduceRange: (weight: string) => boolean;
  readonly widths: Widths;
  readonly weightScales: "min-max" | "mse" | "weighted";
  /** Weights of 4 bits or fewer in types of their own. */
  readonly packed: boolean;
  /** Correct biases for the rounding of weights. */
  readonly corrected: boolean;
  /** What was seen of the values: correcting biases and weighing scales take means and mean squares of channels from it. */
  readonly calibration?: Calibration;
  /** What was learned instead of found. */
  readonly learned?: Learned;
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

/** Constants that learning found, by the names they have in the float graph. */
export interface Learned {
  /** The integers of weights, in the order of the weight, without the zero point. */
  readonly codes: ReadonlyMap<string, Int16Array>;
  /** Biases of compute nodes, by the node's first output; as the node adds them. */
  readonly biases: ReadonlyMap<string, Float32Array>;
}

interface IntegerWeight {
  /** Its dequantized value. */
  readonly name: string;
  readonly scales: Float32Array;
  /** The integers; the same object for the same integers. */
  readonly values: Tensor;
  /** The dequantized numbers. */
  readonly rounded: () => Float32Array;
}

/** Writes constants as integers into a draft, each once for all its readers. */
export interface Constants {
  readonly options: EmitOptions;
  /**
   * A node's weight, dequantized. `floor` bounds the scales from below, so that a bias with scale s_x * s_w fits int32; of
   * a single scale it is asked without a channel.
   */
  weight(node: Node, weight: Weight, floor: (channel?: number) => number): IntegerWeight;
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
    const stored = draft.constant(`${name}_quantized`, values);
    // packed integers are unpacked when the model is loaded, so that integer kernels run all the same
    const integers =
      isPacked(values.dtype) && values.dtype !== zeroPoint.dtype
        ? draft.emit("Cast", [stored], { to: dtypes[zeroPoint.dtype].code }, 1, `${name}_unpacked`)
        : stored;
    const grid = [draft.constant(`${name}_scale`, scale), draft.constant(`${name}_zero_point`, zeroPoint)];
    return dequantized(name, [integers, ...grid], axis);
  };
  return {
    options,
    weight(node, weight, floor) {
      const { name, tensor: t } = weight;
      const settings = weightSettings(weight, options);
      const { axis } = settings;
      const plain = gridded(node, weight, options);
      const raised = plain.scales.map((scale, c) => Math.max(scale, floor(axis === null ? undefined : c)));
      const isRaised = raised.some((scale, c) => scale !== plain.scales[c]);
      const key = `${name}:${axis}:${isRaised ? raised.join() : ""}`;
      const known = weights.get(key);
      if (known) return known;
      const codes = options.learned?.codes.get(name);
      const quantized = isRaised
        ? quantizeWeight(t, { ...settings, scale: raised })
        : codes
          ? withCodes(plain, codes, axis)
          : plain;
      const { values, scales, zeroPoints } = quantized;
      const rounded = (): Float32Array => dequantize(values, scales, zeroPoints, axis);
      const stored = options.packed ? packedSmall(quantized, options.widths.weight(name)) : quantized;
      const made = { name: place(name, stored, axis), scales, values, rounded };
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

/** How options have a weight quantized. */
export function weightSettings({ name, axis }: Weight, options: EmitOptions): WeightOptions {
  const { weightType: dtype, symmetricWeights: symmetric, perChannel, given } = options;
  const known = given?.weights.get(name);
  if (known) {
    const own = known.scales.length > 1 ? axis : null;
    return { dtype: known.dtype, axis: own, symmetric: true, name, scale: known.scales };
  }
  const [bits, reduceRange] = [options.widths.weight(name), options.reduceRange(name)];
  return { dtype, bits, symmetric, axis: perChannel ? axis : null, reduceRange, name };
}

/** A weight with its integers in the smallest type that holds them. */
function packedSmall(weight: QuantizedWeight, bits: number): QuantizedWeight {
  const { dtype, shape } = weight.values;
  if (bits > 4) return weight;
  const small = `${dtype === "uint8" ? "u" : ""}int${bits <= 2 ? 2 : 4}` as const;
  return { ...weight, values: integerTensor(small, shape, typed(weight.values) as Int8Array | Uint8Array) };
}

type Store = WeakMap<Tensor, Map<string, QuantizedWeight>>;
const found: Store = new WeakMap();
const foundByImportance = new WeakMap<Calibration, Store>();

/** A weight's integers by rounding to nearest, kept as long as the weight: many candidates are written with the same. */
export function gridded(node: Node, weight: Weight, options: EmitOptions): QuantizedWeight {
  const { calibration, weightScales } = options;
  const { tensor: t } = weight;
  const settings = weightSettings(weight, options);
  const store = weightScales === "weighted" ? (foundByImportance.get(calibration!) ?? new WeakMap()) : found;
  if (store !== found) foundByImportance.set(calibration!, store);
  const perTensor = store.get(t) ?? new Map<string, QuantizedWeight>();
  store.set(t, perTensor);
  const { dtype, axis, bits, symmetric, reduceRange, scale } = settings;
  const key = [dtype, axis, bits, symmetric, reduceRange, weightScales, ...(scale ?? [])].join();
  const make = (): QuantizedWeight => {
    if (scale || weightScales === "min-max") return quantizeWeight(t, settings);
    const importance = weightScales === "weighted" ? importanceOf(node, weight, calibration!) : undefined;
    return quantizeWeight(t, { ...settings, ...searchScales(toFloat32(t), t.shape, settings, importance) });
  };
  const made = perTensor.get(key) ?? make();
  perTensor.set(key, made);
  return made;
}

/** The same grid with other integers on it, counted from the zero point. */
export function withCodes(grid: QuantizedWeight, codes: Int16Array, axis: number | null): QuantizedWeight {
  const { values, zeroPoints } = grid;
  const { outer, channels, inner } = split(values.shape, axis);
  const integers = new Int16Array(codes.length);
  for (let o = 0, i = 0; o < outer; o++) {
    for (let c = 0; c < channels; c++)
      for (const end = i + inner; i < end; i++) integers[i] = codes[i]! + zeroPoints[c]!;
  }
  return { ...grid, values: integerTensor(values.dtype, values.shape, integers) };
}

/** Largest |b / (s_x s_w)| allowed: int32 with room for the products added to the bias. */
const biasLimit = 2 ** 30;

/**
 * A compute node with its weight and bias as integers.
 *
 * @param node the node with its inputs renamed already
 * @param original the node as it is in the graph
 * @param step scale of its first input
 */
export function withWeights(node: Node, original: Node, graph: Graph, constants: Constants, step: number): Node {
  const weight = weightOf(original, graph);
  if (!weight) return node; // product of two activations
  const alpha = original.op === "Gemm" ? floatAttribute(original, "alpha", 1) : 1;
  const { calibration, corrected, learned } = constants.options;
  const bias = biasOf(original, graph);
  const floorOf = (b: number): number => Math.abs(b) / (step * Math.abs(alpha) * biasLimit);
  const largest = bias?.reduce((m, b) => Math.max(m, Math.abs(b)), 0) ?? 0;
  const made = constants.weight(original, weight, (c) => floorOf(c === undefined ? largest : (bias?.[c] ?? 0)));
  const own = learned?.biases.get(original.outputs[0]!);
  const shift = corrected && !own ? biasCorrection(original, graph, made, calibration!) : undefined;
  const added = own ?? (shift ? Float32Array.from(shift, (s, c) => (bias?.[c] ?? 0) + alpha * s) : bias);
  const inputs = [...node.inputs];
  inputs[1] = made.name;
  const name = original.inputs[2] || `${original.outputs[0]}_bias`;
  if (added) inputs[2] = constants.bias(name, added, step * alpha, made.scales);
  if (floatAttribute(original, "beta", 1) === 1) return { ...node, inputs };
  return { ...node, inputs, attributes: { ...node.attributes, beta: { type: "float", value: 1 } } };
}

/** A node's bias, a Gemm's times its beta. */
export function biasOf(node: Node, graph: Graph): Float32Array | undefined {
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
