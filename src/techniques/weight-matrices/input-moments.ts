import { type Draft, edit } from "../../graph/edit.ts";
import { type Graph, intAttribute, intsAttribute, stringAttribute } from "../../graph/graph.ts";
import { convertOpset } from "../../ops/convert.ts";
import { type ObservedType, observeTypes, observeValues } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { int64, toFloat32 } from "../../tensor/tensor.ts";
import type { WeightUse } from "../quantize-weights/targets.ts";
import type { Context } from "../technique.ts";
import type { WeightMatrix } from "./matrix.ts";

/** What is summed of the inputs: magnitudes, squares, or the products of all pairs. */
export type Moment = "magnitudes" | "squares" | "products";

/** Sums over all positions of what a matrix's columns are multiplied with, group by group. */
export interface Moments {
  /** Magnitudes or squares [groups, columns], or products of pairs [groups, columns, columns]. */
  readonly sums: Float64Array;
  /** The same of samples that are not in `sums`, where some were to be held out. */
  readonly heldOut?: Float64Array;
  readonly groups: number;
}

/** Of so many samples one is held out, where any are: the second, the tenth, ... */
const heldOutEvery = 8;

/** Operator set that the nodes added here are written in. */
const opset = 18;

/**
 * Sums of magnitudes, of squares (the norms' squares), or of products of pairs (the Gram matrix, X Xᵀ), of the inputs of
 * layers, computed by nodes added to the graph: convolutions by their taps. Layers whose inputs can't be seen that way are
 * absent: hidden states of recurrent layers, transposed convolutions, batches of matrices, lookups, and inputs that are
 * not finite. Products are float32 within a feed and float64 over feeds.
 *
 * @param stream feeds, which can be run through again
 * @param holdOut keep the sums of some feeds apart
 */
export async function inputMoments<Matrix extends WeightMatrix>(
  graph: Graph,
  layers: readonly Matrix[],
  kind: Moment,
  stream: AsyncIterable<Tensors>,
  context: Context,
  holdOut = false,
): Promise<ReadonlyMap<Matrix, Moments>> {
  const current = convertOpset(graph, Math.max(opset, graph.opsets[""] ?? 1));
  let types: ReadonlyMap<string, ObservedType> = new Map();
  for await (const first of stream) {
    types = await observeTypes(current, context.runtime, first);
    break;
  }
  const names = new Map<string, Matrix>();
  const probe = edit(current, (draft) => {
    for (const layer of layers) {
      const name = momentsOf(draft, layer, kind, types);
      if (name === undefined) continue;
      names.set(name, layer);
      draft.outputs.push({ name });
    }
  });
  const found = new Map<Matrix, Moments>();
  if (names.size === 0) return found;
  const visit = (name: string, value: Parameters<typeof toFloat32>[0], index: number): void => {
    const layer = names.get(name)!;
    const data = toFloat32(value);
    const { groups } = layer;
    const moments = found.get(layer) ?? { sums: new Float64Array(data.length), groups };
    const apart = holdOut && index % heldOutEvery === 1;
    const heldOut = apart ? (moments.heldOut ?? new Float64Array(data.length)) : moments.heldOut;
    found.set(layer, heldOut ? { ...moments, heldOut } : moments);
    const sums = apart ? heldOut! : moments.sums;
    for (let i = 0; i < data.length; i++) sums[i]! += data[i]!;
  };
  await observeValues(probe, context.runtime, [...names.keys()], stream, visit, { signal: context.signal });
  for (const [layer, { sums, heldOut }] of found) {
    if (!sums.every(Number.isFinite) || heldOut?.every(Number.isFinite) === false) found.delete(layer);
  }
  return found;
}

function momentsOf(
  draft: Draft,
  layer: WeightMatrix,
  kind: Moment,
  types: ReadonlyMap<string, ObservedType>,
): string | undefined {
  const op = (name: string, inputs: readonly string[], attributes = {}): string =>
    draft.emit(name, inputs, attributes, 1, `${layer.target.name}_${kind}`);
  const axes = (values: readonly number[]): string => draft.constant("axes", int64(values));
  const parts = layer.target.uses.flatMap((use) => {
    const taps = tapsOf(draft, layer, use, types);
    if (!taps) return [];
    if (kind !== "products") {
      const reduce = kind === "squares" ? "ReduceSumSquare" : "ReduceL1";
      const sums = taps.map((tap) => op(reduce, [tap, axes([2])], { keepdims: 0 }));
      return [sums.length === 1 ? sums[0]! : op("Concat", sums, { axis: 1 })];
    }
    const columns = taps.length === 1 ? taps[0]! : op("Concat", taps, { axis: 1 });
    return [op("MatMul", [columns, op("Transpose", [columns], { perm: [0, 2, 1] })])];
  });
  return parts.length <= 1 ? parts[0] : op("Sum", parts);
}

/** The inputs of a layer as one matrix [groups, channels, positions] a tap. */
function tapsOf(
  draft: Draft,
  layer: WeightMatrix,
  use: WeightUse,
  types: ReadonlyMap<string, ObservedType>,
): readonly string[] | undefined {
  const { node, kind } = use;
  const stem = `${layer.target.name}_inputs`;
  const name = node.inputs[kind === "left" ? 1 : 0]!;
  const type = types.get(name);
  if (!type || draft.before.weights.has(name)) return undefined;
  const x = type.dtype === "float32" ? name : draft.emit("Cast", [name], { to: 1 }, 1, stem);
  const op = (operator: string, inputs: readonly string[], attributes = {}): string =>
    draft.emit(operator, inputs, attributes, 1, stem);
  const reshape = (value: string, shape: readonly number[]): string =>
    op("Reshape", [value, draft.constant("shape", int64(shape))]);
  const rank = type.shape.length;
  const rowsToColumns = (value: string): string =>
    reshape(op("Transpose", [reshape(value, [-1, layer.channels])], { perm: [1, 0] }), [1, layer.channels, -1]);
  const swapped = Array.from({ length: rank }, (_, i) => (i === rank - 2 ? rank - 1 : i === rank - 1 ? rank - 2 : i));
  const weightRank = layer.target.weight.shape.length;
  if (kind === "conv") return convolutionTaps(draft, layer, use, x, type.shape, stem);
  if (kind === "recurrent") return node.inputs[1] === layer.target.name ? [rowsToColumns(x)] : undefined;
  if (weightRank !== 2) return undefined;
  if (kind === "matmul") return [rowsToColumns(x)];
  if (kind === "gemm") {
    return [intAttribute(node, "transA", 0) ? reshape(x, [1, layer.channels, -1]) : rowsToColumns(x)];
  }
  if (kind !== "left" || rank < 2) return undefined;
  const stands = node.op === "Gemm" && intAttribute(node, "transB", 0) === 1;
  return [rowsToColumns(stands ? x : op("Transpose", [x], { perm: swapped }))];
}

/** What each tap of a convolution sees: the padded input, sliced. */
function convolutionTaps(
  draft: Draft,
  { target, groups, channels }: WeightMatrix,
  { node }: WeightUse,
  x: string,
  shape: readonly number[],
  stem: string,
): readonly string[] {
  const kernel = target.weight.shape.slice(2);
  const spatial = kernel.length;
  const strides = numbers(intsAttribute(node, "strides"), spatial, 1);
  const dilations = numbers(intsAttribute(node, "dilations"), spatial, 1);
  const reach = kernel.map((size, d) => (size - 1) * dilations[d]!);
  const pads = paddingOf(node, shape.slice(2), strides, reach);
  const op = (name: string, inputs: readonly string[], attributes = {}): string =>
    draft.emit(name, inputs, attributes, 1, stem);
  const ints = (values: readonly number[]): string => draft.constant("ints", int64(values));
  const around = [0, 0, ...pads.slice(0, spatial), 0, 0, ...pads.slice(spatial)];
  const padded = pads.some((pad) => pad > 0) ? op("Pad", [x, ints(around)]) : x;
  const axes = ints(kernel.map((_, d) => d + 2));
  const taps = kernel.reduce((a, b) => a * b, 1);
  return Array.from({ length: taps }, (_, tap) => {
    let rest = tap;
    const starts = new Array<number>(spatial).fill(0);
    for (let d = spatial - 1; d >= 0; d--) {
      starts[d] = (rest % kernel[d]!) * dilations[d]!;
      rest = Math.floor(rest / kernel[d]!);
    }
    // up to where the last tap begins to leave the padded input
    const ends = starts.map((start, d) => (start === reach[d] ? 2 ** 31 - 1 : start - reach[d]!));
    const slice = op("Slice", [padded, ints(starts), ints(ends), axes, ints(strides)]);
    const perm = [1, 0, ...kernel.map((_, d) => d + 2)];
    return op("Reshape", [op("Transpose", [slice], { perm }), ints([groups, channels, -1])]);
  });
}

function numbers(values: readonly number[] | undefined, length: number, otherwise: number): readonly number[] {
  return values ?? new Array<number>(length).fill(otherwise);
}

function paddingOf(
  node: WeightUse["node"],
  sizes: readonly number[],
  strides: readonly number[],
  reach: readonly number[],
): readonly number[] {
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  if (auto === "NOTSET") return numbers(intsAttribute(node, "pads"), 2 * sizes.length, 0);
  if (auto === "VALID") return numbers(undefined, 2 * sizes.length, 0);
  const total = sizes.map((size, d) =>
    Math.max(0, (Math.ceil(size / strides[d]!) - 1) * strides[d]! + reach[d]! + 1 - size),
  );
  const small = total.map((pad) => Math.floor(pad / 2));
  const large = total.map((pad) => Math.ceil(pad / 2));
  return auto === "SAME_LOWER" ? [...large, ...small] : [...small, ...large];
}
