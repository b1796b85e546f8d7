import { windowOf } from "../autodiff/rules/convolution.ts";
import { type Graph, intAttribute, isNode, type Node, stringAttribute } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { type Tensor, toNumbers, typed } from "../tensor/tensor.ts";
import { type PairSums, pairSums, reachOfPairs } from "./saturation.ts";

/** A layer on integers and how far its pairs of products reach. */
export interface SaturatingLayer extends PairSums {
  readonly node: Node;
  /** Largest magnitude that a pair's sum could have on any data. */
  readonly possible: number;
}

/** Positions of a picture, or rows of a matrix, that are looked at in each sample. */
const mostPositions = 64;

interface Layer {
  readonly node: Node;
  /** Integers that it reads, and their zero point as a byte. */
  readonly x: string;
  readonly zero: number;
  readonly w: Tensor;
}

/**
 * Runs a graph with QuantizeLinear and DequantizeLinear nodes over samples and computes, for layers of 8-bit activations
 * and int8 weights, the sums of pairs that processors without VNNI add in 16 bits; of each sample at some positions. What
 * is clipped there differs from other processors. Signed activations are shifted to unsigned ones, as the runtime does.
 * Layers come in the order of execution; those whose weight is packed are left out: it has too few bits to overflow.
 *
 * @throws PareError where the runtime refuses the graph
 */
export async function saturatingLayers(
  graph: Graph,
  runtime: Runtime,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
  signal?: AbortSignal,
): Promise<readonly SaturatingLayer[]> {
  const layers = graph.nodes.flatMap((node) => layerOf(node, graph) ?? []);
  const found = new Map(layers.map(({ node }) => [node, { pairs: 0, clipped: 0, largest: 0, possible: 0 }]));
  if (layers.length === 0) return [];
  const names = [...new Set(layers.map(({ x }) => x))];
  const look = (name: string, value: Tensor): void => {
    for (const layer of layers.filter(({ x }) => x === name)) {
      const sums = found.get(layer.node)!;
      for (const { x, w, depth } of productsOf(layer, value)) {
        const { pairs, clipped, largest } = pairSums(x, w, depth);
        sums.pairs += pairs;
        sums.clipped += clipped;
        sums.largest = Math.max(sums.largest, largest);
        sums.possible = Math.max(sums.possible, reachOfPairs(w, depth));
      }
    }
  };
  await observeValues(graph, runtime, names, feeds, look, signal ? { signal } : {});
  return layers.map(({ node }) => ({ node, ...found.get(node)! }));
}

function layerOf(node: Node, graph: Graph): Layer | undefined {
  if (!["Conv", "Gemm", "MatMul"].some((op) => isNode(node, op))) return undefined;
  const { producer } = links(graph);
  const [left, right] = node.inputs.slice(0, 2).map((name) => producer.get(name));
  if (!left || !right || !isNode(left, "DequantizeLinear") || !isNode(right, "DequantizeLinear")) return undefined;
  const w = graph.weights.get(right.inputs[0]!);
  const zeroPoint = graph.weights.get(left.inputs[2] ?? "");
  if (w?.dtype !== "int8" || (zeroPoint?.dtype !== "uint8" && zeroPoint?.dtype !== "int8")) return undefined;
  const supported = node.op === "Conv" ? w.shape.length === 3 || w.shape.length === 4 : w.shape.length === 2;
  if (!supported || graph.weights.has(left.inputs[0]!) || intAttribute(node, "transA", 0) === 1) return undefined;
  return { node, x: left.inputs[0]!, zero: unsigned(zeroPoint)[0]!, w };
}

/** Bytes of either sign as unsigned ones. */
function unsigned(t: Tensor): Uint8Array {
  return t.dtype === "uint8" ? (typed(t) as Uint8Array) : Uint8Array.from(toNumbers(t), (v) => v + 128);
}

/** Rows of a product [rows, depth] with the weights of each output [columns, depth]. */
interface Product {
  readonly x: Uint8Array;
  readonly w: Int8Array;
  readonly depth: number;
}

/** What a layer multiplies, one product for each group. */
function* productsOf({ node, zero, w }: Layer, value: Tensor): Generator<Product> {
  const x = unsigned(value);
  if (node.op !== "Conv") {
    const inputsFirst = node.op === "MatMul" || intAttribute(node, "transB", 0) === 0;
    const depth = w.shape[inputsFirst ? 0 : 1]!;
    yield { x: someRows(x, depth), w: inputsFirst ? transposed(w) : (typed(w) as Int8Array), depth };
    return;
  }
  const group = intAttribute(node, "group", 1);
  const [outs, perGroup] = [w.shape[0]! / group, w.shape[1]!];
  const taps = w.size / (w.shape[0]! * perGroup);
  const depth = taps * perGroup;
  const weights = typed(w) as Int8Array;
  for (let g = 0; g < group; g++) {
    // channels innermost, as the runtime's kernels multiply
    const rows = new Int8Array(outs * depth);
    for (let o = 0, at = 0; o < outs; o++) {
      const from = (g * outs + o) * depth;
      for (let t = 0; t < taps; t++) for (let i = 0; i < perGroup; i++) rows[at++] = weights[from + i * taps + t]!;
    }
    yield { x: patches(node, x, value.shape, w.shape, zero, g), w: rows, depth };
  }
}

function transposed(w: Tensor): Int8Array {
  const [rows, columns] = w.shape as [number, number];
  const from = typed(w) as Int8Array;
  return Int8Array.from(from, (_, i) => from[(i % rows) * columns + Math.floor(i / rows)]!);
}

function someRows(x: Uint8Array, depth: number): Uint8Array {
  const places = evenly(x.length / depth);
  const rows = new Uint8Array(places.length * depth);
  for (const [i, place] of places.entries()) rows.set(x.subarray(place * depth, (place + 1) * depth), i * depth);
  return rows;
}

/** At most {@link mostPositions} of some places, evenly picked. */
function evenly(count: number): number[] {
  const taken = Math.min(count, mostPositions);
  return Array.from({ length: taken }, (_, i) => Math.floor((i * count) / taken));
}

/** What a convolution's group reads at some positions, [positions, taps * channels]; outside the picture is the zero point. */
function patches(
  node: Node,
  x: Uint8Array,
  shape: readonly number[],
  weight: readonly number[],
  zero: number,
  g: number,
): Uint8Array {
  const channels = shape[1]!;
  const perGroup = weight[1]!;
  const [from, kernel] = [shape.slice(2), weight.slice(2)];
  const { strides, dilations, begins, ends } = windowOf(node, kernel, from, sameSize(node, from));
  const to = from.map(
    (n, i) => Math.floor((n + begins[i]! + ends[i]! - dilations[i]! * (kernel[i]! - 1) - 1) / strides[i]!) + 1,
  );
  // a picture of one dimension is one of a single row
  const flat = from.length === 1;
  const [height, width] = flat ? [1, from[0]!] : [from[0]!, from[1]!];
  const [kh, kw] = flat ? [1, kernel[0]!] : [kernel[0]!, kernel[1]!];
  const size = to.reduce((a, b) => a * b, 1);
  const places = evenly(shape[0]! * size);
  const rows = new Uint8Array(places.length * kh * kw * perGroup);
  const last = from.length - 1;
  let at = 0;
  for (const place of places) {
    const [n, p] = [Math.floor(place / size), place % size];
    const top = flat ? 0 : Math.floor(p / to[1]!) * strides[0]! - begins[0]!;
    const left = (p % to[last]!) * strides[last]! - begins[last]!;
    for (let i = 0; i < kh; i++) {
      for (let j = 0; j < kw; j++) {
        const [r, c] = [top + (flat ? 0 : i * dilations[0]!), left + j * dilations[last]!];
        const inside = r >= 0 && r < height && c >= 0 && c < width;
        for (let k = 0; k < perGroup; k++) {
          rows[at++] = inside ? x[((n * channels + g * perGroup + k) * height + r) * width + c]! : zero;
        }
      }
    }
  }
  return rows;
}

/** Spatial sizes of the output where padding keeps that of the input, divided by the stride. */
function sameSize(node: Node, from: readonly number[]): readonly number[] {
  if (!stringAttribute(node, "auto_pad", "NOTSET").startsWith("SAME")) return from;
  const strides =
    node.attributes.strides?.type === "ints" ? node.attributes.strides.value.map(Number) : from.map(() => 1);
  return from.map((n, i) => Math.ceil(n / strides[i]!));
}
