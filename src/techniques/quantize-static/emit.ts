import type { Calibration } from "../../analysis/calibrate.ts";
import type { Range } from "../../analysis/ranges.ts";
import { type Draft, edit, renameReads } from "../../graph/edit.ts";
import { floatAttribute, type Graph, makeNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { affineParams, dequantize, quantizeWeight } from "../../tensor/affine.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import { biasCorrection } from "./bias.ts";
import { integerOnly, type Plan } from "./plan.ts";
import { dataInputs, kindOf, weightOf } from "./rules.ts";

/** Integer types and layouts. */
export interface EmitOptions {
  readonly activationType: "uint8" | "int8" | "uint16" | "int16";
  readonly weightType: "int8" | "uint8";
  readonly perChannel: boolean;
  readonly symmetricActivations: boolean;
  readonly symmetricWeights: boolean;
  readonly reduceRange: boolean;
}

/** Names of a value's scale and zero point, and its scale. */
interface Grid {
  readonly scale: string;
  readonly zeroPoint: string;
  readonly step: number;
  /** The smallest number on the grid. */
  readonly lowest: number;
}

/**
 * Writes a plan into the graph with QuantizeLinear and DequantizeLinear nodes: one pair a value, weights and biases as
 * integers with a DequantizeLinear. A runtime that knows the pattern runs integer kernels, any other the same in float.
 *
 * @param ranges by value, for every source in the plan that has no fixed range
 * @param calibration means for bias correction; without it biases are only rounded
 */
export function emit(
  graph: Graph,
  plan: Plan,
  ranges: ReadonlyMap<string, Range>,
  options: EmitOptions,
  calibration?: Calibration,
): Graph {
  return edit(graph, (draft) => {
    const grids = activationGrids(draft, plan, ranges, options);
    const real = new Map<string, string>(); // value -> what its integer kernel writes
    const rounded = new Map<string, string>(); // value -> what its DequantizeLinear writes
    const { producer, outputs } = links(graph);
    for (const [name, source] of plan.values) {
      const maker = producer.get(name);
      const hidden = maker !== undefined && integerOnly(maker, plan) && outputs.has(name);
      const before = hidden ? draft.fresh(`${name}_float`) : name;
      const after = hidden ? name : draft.fresh(`${name}_dequantized`);
      const grid = grids.get(source)!;
      const { scale, zeroPoint } = grid;
      const integers = draft.fresh(`${name}_quantized`);
      const guarded = needsGuard(name, graph, plan) ? guard(draft, before, grid) : before;
      draft.add(makeNode("QuantizeLinear", [guarded, scale, zeroPoint], [integers]));
      draft.add(makeNode("DequantizeLinear", [integers, scale, zeroPoint], [after]));
      real.set(name, before);
      rounded.set(name, after);
    }
    const constants = new Constants(draft, options);
    for (const node of graph.nodes) {
      if (plan.absorbed.has(node)) {
        draft.replace(node);
        continue;
      }
      let changed = renameReads(node, (name) => {
        const maker = producer.get(name);
        const readsInteger = plan.integer.has(node) || (maker !== undefined && integerOnly(maker, plan));
        return readsInteger ? (rounded.get(name) ?? name) : name;
      });
      if (plan.integer.has(node)) {
        const grid = grids.get(plan.values.get(node.inputs[0]!) ?? "");
        changed = plan.compute.has(node)
          ? withWeights(changed, node, graph, constants, grid!, calibration)
          : withConstants(changed, node, graph, constants);
      }
      const made = changed.outputs.map((name) => {
        const last = clampedAs(name, graph, plan);
        return real.get(last) ?? last;
      });
      if (made.some((name, i) => name !== changed.outputs[i])) changed = { ...changed, outputs: made };
      if (changed !== node) draft.replace(node, changed);
    }
  });
}

/** The name under which a value leaves the absorbed clamps behind it. */
function clampedAs(name: string, graph: Graph, plan: Plan): string {
  let at = name;
  for (;;) {
    const next = (links(graph).consumers.get(at) ?? []).find(
      (node) => plan.absorbed.has(node) && node.inputs[0] === at,
    );
    if (!next) return at;
    at = next.outputs[0]!;
  }
}

/**
 * Whether a value comes from a float convolution that stands between DequantizeLinear and this value's QuantizeLinear:
 * ONNX Runtime (WeightBiasQuantization, 1.30) would round its weights to int8 with a single scale.
 */
function needsGuard(name: string, graph: Graph, plan: Plan): boolean {
  const { producer } = links(graph);
  let maker = producer.get(name);
  while (maker && kindOf(maker, graph) === "clamp" && !plan.absorbed.has(maker)) maker = producer.get(maker.inputs[0]!);
  if (!maker || plan.integer.has(maker) || !["Conv", "ConvTranspose", "Gemm"].includes(maker.op)) return false;
  const before = producer.get(maker.inputs[0]!);
  return before !== undefined && integerOnly(before, plan);
}

/** Bounds a value from below by the smallest number on its grid, as QuantizeLinear does anyway. */
function guard(draft: Draft, name: string, grid: Grid): string {
  return draft.emit(
    "Max",
    [name, draft.constant(`${name}_lowest`, float32([], [grid.lowest]))],
    {},
    1,
    `${name}_bounded`,
  );
}

function activationGrids(
  draft: Draft,
  plan: Plan,
  ranges: ReadonlyMap<string, Range>,
  options: EmitOptions,
): Map<string, Grid> {
  const grids = new Map<string, Grid>();
  for (const source of plan.values.values()) {
    if (grids.has(source)) continue;
    const [min, max] = plan.fixed.get(source) ?? ranges.get(source)!;
    const grid = affineParams(min, max, options.activationType, { symmetric: options.symmetricActivations });
    grids.set(source, {
      scale: draft.constant(`${source}_scale`, float32([], [grid.scale])),
      zeroPoint: draft.constant(`${source}_zero_point`, integerScalar(options.activationType, grid.zeroPoint)),
      step: grid.scale,
      lowest: grid.scale * (grid.qmin - grid.zeroPoint),
    });
  }
  return grids;
}

const integerArrays = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array } as const;

function integerScalar(dtype: keyof typeof integerArrays, value: number): Tensor {
  return tensor(dtype, [], integerArrays[dtype].of(value));
}

interface IntegerWeight {
  /** Its dequantized value. */
  readonly name: string;
  readonly scales: Float32Array;
  /** The dequantized numbers. */
  readonly rounded: () => Float32Array;
}

/** Integer forms of constants, each made once for all its readers. */
class Constants {
  readonly draft: Draft;
  readonly options: EmitOptions;
  readonly #made = new Map<string, IntegerWeight>();
  readonly #activations = new Map<string, string>();

  constructor(draft: Draft, options: EmitOptions) {
    this.draft = draft;
    this.options = options;
  }

  /**
   * A weight's dequantized name and its scales. `floor` bounds the scales from below, so that a bias with scale
   * s_x * s_w fits int32.
   */
  weight(name: string, t: Tensor, axis: number | null, floor?: (channel: number) => number): IntegerWeight {
    const { weightType: dtype, perChannel, symmetricWeights: symmetric, reduceRange } = this.options;
    const settings = { dtype, axis: perChannel ? axis : null, symmetric, reduceRange, name };
    let quantized = quantizeWeight(t, settings);
    const raised = quantized.scales.map((scale, c) => Math.max(scale, floor?.(c) ?? 0));
    const isRaised = raised.some((scale, c) => scale !== quantized.scales[c]);
    const key = `${name}:${settings.axis}:${isRaised ? raised.join() : ""}`;
    const known = this.#made.get(key);
    if (known) return known;
    if (isRaised) quantized = quantizeWeight(t, { ...settings, scale: raised });
    const inputs = [
      this.draft.constant(`${name}_quantized`, quantized.values),
      this.draft.constant(`${name}_scale`, quantized.scale),
      this.draft.constant(`${name}_zero_point`, quantized.zeroPoint),
    ];
    const attributes = settings.axis === null ? {} : { axis: settings.axis };
    const { values, scales, zeroPoints } = quantized;
    const rounded = (): Float32Array => dequantize(values, scales, zeroPoints, settings.axis);
    const made = { name: this.dequantized(name, inputs, attributes), scales, rounded };
    this.#made.set(key, made);
    return made;
  }

  /** A constant beside activations, on a grid of the activations' type. */
  activation(name: string, t: Tensor): string {
    const known = this.#activations.get(name);
    if (known) return known;
    const { activationType: dtype, symmetricActivations: symmetric } = this.options;
    const quantized = quantizeWeight(t, { dtype, axis: null, symmetric, name });
    const inputs = [
      this.draft.constant(`${name}_quantized`, quantized.values),
      this.draft.constant(`${name}_scale`, quantized.scale),
      this.draft.constant(`${name}_zero_point`, quantized.zeroPoint),
    ];
    const made = this.dequantized(name, inputs, {});
    this.#activations.set(name, made);
    return made;
  }

  /** A bias as int32 with the scale of the accumulator, s_x * s_w, and zero point 0 (left out). */
  bias(name: string, values: Float32Array, step: number, scales: Float32Array): string {
    const products = scales.map((scale) => step * scale);
    const integers = Int32Array.from(values, (b, c) => Math.round(b / products[products.length > 1 ? c : 0]!));
    const inputs = [
      this.draft.constant(`${name}_quantized`, tensor("int32", [values.length], integers)),
      this.draft.constant(`${name}_scale`, float32(products.length > 1 ? [products.length] : [], products)),
    ];
    return this.dequantized(name, inputs, products.length > 1 ? { axis: 0 } : {});
  }

  private dequantized(name: string, inputs: readonly string[], attributes: Record<string, number>): string {
    const output = this.draft.fresh(`${name}_dequantized`);
    this.draft.add(makeNode("DequantizeLinear", inputs, [output], attributes));
    return output;
  }
}

/** Largest |b / (s_x s_w)| allowed: int32 with room for the products added to the bias. */
const biasLimit = 2 ** 30;

function withWeights(
  node: Node,
  original: Node,
  graph: Graph,
  constants: Constants,
  grid: Grid,
  calibration?: Calibration,
): Node {
  const weight = weightOf(original, graph);
  if (!weight) return node; // product of two activations
  const alpha = original.op === "Gemm" ? floatAttribute(original, "alpha", 1) : 1;
  const bias = biasOf(original, graph);
  const floorOf = (b: number): number => Math.abs(b) / (grid.step * Math.abs(alpha) * biasLimit);
  const perChannel = constants.options.perChannel && weight.axis !== null;
  const largest = bias?.reduce((m, b) => Math.max(m, Math.abs(b)), 0) ?? 0;
  const { name, scales, rounded } = constants.weight(weight.name, weight.tensor, weight.axis, (c) =>
    floorOf(perChannel ? (bias?.[c] ?? 0) : largest),
  );
  let corrected = bias;
  if (calibration) {
    const after = rounded();
    const lost = toFloat32(weight.tensor).map((w, i) => w - after[i]!);
    const shift = biasCorrection(original, graph, lost, calibration);
    if (shift) corrected = Float32Array.from(shift, (s, c) => (bias?.[c] ?? 0) + alpha * s);
  }
  const inputs = [...node.inputs];
  inputs[1] = name;
  if (corrected)
    inputs[2] = constants.bias(
      original.inputs[2] || `${original.outputs[0]}_bias`,
      corrected,
      grid.step * alpha,
      scales,
    );
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

function withConstants(node: Node, original: Node, graph: Graph, constants: Constants): Node {
  const data = new Set(dataInputs(original).filter((name) => graph.weights.has(name)));
  if (data.size === 0) return node;
  const inputs = node.inputs.map((name) =>
    data.has(name) ? constants.activation(name, graph.weights.get(name)!) : name,
  );
  return { ...node, inputs };
}
