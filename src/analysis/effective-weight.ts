import { floatAttribute, type Graph, intAttribute, isNode, type Node, opKey } from "../graph/graph.ts";
import { links, reads, soleConsumer } from "../graph/walk.ts";
import { exposed } from "../platform/observe.ts";
import type { Runtime } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { type Tensor, toFloat32, typed } from "../tensor/tensor.ts";

/** A weight and the node that reads it. */
export interface WeightUse {
  readonly node: Node;
  /** Which input of the node it is. */
  readonly input: number;
  readonly name: string;
  readonly tensor: Tensor;
}

/**
 * The numbers that a changed graph computes with in the place of a weight, in the weight's shape and order, each output
 * channel up to a factor: what is left of the weight as a constant, what a chain of constant nodes (DequantizeLinear,
 * Transpose, ...) makes of it, or the codes that an integer or packed kernel reads. Undefined where the graph has
 * nothing that could be told to be this weight.
 *
 * @throws PareError where the runtime refuses the constant nodes
 */
export async function effectiveWeight(
  graph: Graph,
  use: WeightUse,
  runtime: Runtime,
): Promise<Float32Array | undefined> {
  const { node, tensor } = use;
  const reader = readerOf(graph, node);
  if (!reader) return undefined;
  // kernels hold codes of matrices; a bias is a constant input as anywhere
  const codes = tensor.shape.length > 1 ? kernelCodes(graph, reader, node) : undefined;
  const numbers = codes ?? (await constantInput(graph, reader, use, runtime));
  return numbers?.length === tensor.size ? numbers : undefined;
}

/**
 * As {@link effectiveWeight}, with the factors of the output channels; undefined also where these can't be told.
 *
 * @throws PareError where the runtime refuses the constant nodes
 */
export async function exactWeight(graph: Graph, use: WeightUse, runtime: Runtime): Promise<Float32Array | undefined> {
  const { node, tensor } = use;
  const reader = readerOf(graph, node);
  const numbers = await effectiveWeight(graph, use, runtime);
  if (!reader || !numbers || tensor.shape.length < 2 || !(opKey(reader) in scaleReaders)) return numbers;
  const scale = scaleReaders[opKey(reader)]!(graph, reader);
  if (!scale || floatAttribute(node, "alpha", 1) !== 1) return undefined;
  const scales = toFloat32(scale);
  const inner = node.op === "Conv" || transB(node) ? tensor.size / tensor.shape[0]! : 1;
  return numbers.map((x, i) => x * scales[Math.floor(i / inner) % scales.length]!);
}

/** The node of a changed graph that does what a node of the original did: of its name, or behind its output. */
function readerOf(graph: Graph, node: Node): Node | undefined {
  const alike = (other: Node): boolean => opKey(other) === opKey(node) && transB(other) === transB(node);
  const same = graph.nodes.find((other) => other.name !== "" && other.name === node.name && alike(other));
  if (same) return same;
  const { producer } = links(graph);
  let at = producer.get(node.outputs[0] ?? "");
  for (let steps = 0; at && steps < 5; steps++) {
    if (alike(at) || kernels[opKey(at)]) return at;
    at = producer.get(at.inputs[0] ?? "");
  }
  return undefined;
}

/** Whether a Gemm's weight is stored `[N, K]`. */
function transB(node: Node): boolean {
  return node.op === "Gemm" && intAttribute(node, "transB", 0) === 1;
}

/** Reads the codes of a kernel's weight as real numbers. */
type CodeReader = (graph: Graph, node: Node, original: Node) => Float32Array | undefined;

const kernels: Readonly<Record<string, CodeReader>> = {
  "com.microsoft:MatMulNBits": (graph, node, original) => packedRows(graph, node, 1, 2, original),
  "com.microsoft:GatherBlockQuantized": (graph, node, original) => packedRows(graph, node, 0, 2, original),
  MatMulInteger: (graph, node, original) => integers(graph, node, 1, 3, original),
  ConvInteger: (graph, node, original) => integers(graph, node, 1, 3, original),
  QLinearConv: (graph, node, original) => integers(graph, node, 3, 5, original),
  QLinearMatMul: (graph, node, original) => integers(graph, node, 3, 5, original),
  "com.microsoft:QGemm": (graph, node, original) => integers(graph, node, 3, 5, original),
};

type ScaleReader = (graph: Graph, node: Node) => Tensor | undefined;

const scaleInput: ScaleReader = (graph, node) => graph.weights.get(node.inputs[4] ?? "");

/** Kernel -> Cast -> Mul by (the activation's scale times) the weight's. */
const scaleBehind: ScaleReader = (graph, node) => {
  const cast = soleConsumer(graph, node.outputs[0]!);
  const product = cast && isNode(cast, "Cast") ? soleConsumer(graph, cast.outputs[0]!) : undefined;
  if (!cast || !product || !isNode(product, "Mul")) return undefined;
  const factor = product.inputs.find((name) => name !== cast.outputs[0]!) ?? "";
  const maker = links(graph).producer.get(factor);
  const names = maker && isNode(maker, "Mul") ? maker.inputs : [factor];
  return names.map((name) => graph.weights.get(name)).find((t) => t !== undefined);
};

/** The scales of weights of integer kernels: one, or one an output channel. */
const scaleReaders: Readonly<Record<string, ScaleReader>> = {
  MatMulInteger: scaleBehind,
  ConvInteger: scaleBehind,
  QLinearConv: scaleInput,
  QLinearMatMul: scaleInput,
  "com.microsoft:QGemm": scaleInput,
};

function kernelCodes(graph: Graph, node: Node, original: Node): Float32Array | undefined {
  return kernels[opKey(node)]?.(graph, node, original);
}

/** Codes minus their zero point: one for all, or one an output channel. */
function integers(graph: Graph, node: Node, at: number, zeroAt: number, original: Node): Float32Array | undefined {
  const codes = graph.weights.get(node.inputs[at] ?? "");
  if (!codes || codes.shape.length < 2) return undefined;
  const zero = graph.weights.get(node.inputs[zeroAt] ?? "");
  const zeros = zero ? toFloat32(zero) : Float32Array.of(0);
  const values = toFloat32(codes);
  const channelFirst = node.op.includes("Conv");
  const inner = channelFirst ? codes.size / codes.shape[0]! : 1;
  const numbers = values.map((q, i) => q - zeros[Math.floor(i / inner) % zeros.length]!);
  if (node.op.includes("Conv") || intAttribute(original, "transB", 0) === intAttribute(node, "transB", 0))
    return numbers;
  return transposed(numbers, codes.shape[0]!, codes.shape[1]!);
}

/** Packed rows `[N, blocks, bytes]` with a scale a block, low bits first (the layout of MatMulNBits). */
function packedRows(graph: Graph, node: Node, at: number, scaleAt: number, original: Node): Float32Array | undefined {
  const packed = graph.weights.get(constantBehind(graph, node.inputs[at] ?? ""));
  const scale = graph.weights.get(node.inputs[scaleAt] ?? "");
  const lookup = node.op === "GatherBlockQuantized";
  const bits = intAttribute(node, "bits", 4);
  const block = intAttribute(node, "block_size", 32);
  if (!packed || !scale || packed.dtype !== "uint8") return undefined;
  const scales = toFloat32(scale);
  const rows = packed.shape[0]!;
  const blocks = scales.length / rows;
  const columns = lookup ? (packed.size / rows) * (8 / bits) : intAttribute(node, "K", blocks * block);
  const zero = graph.weights.get(node.inputs[3] ?? "");
  const zeros = zero?.dtype === "uint8" ? unpackCodes(zero, bits) : undefined;
  const zeroWidth = zeros ? zeros.length / rows : 0;
  const codes = unpackCodes(packed, bits);
  const width = codes.length / rows;
  const numbers = new Float32Array(rows * columns);
  for (let n = 0, i = 0; n < rows; n++) {
    for (let k = 0; k < columns; k++, i++) {
      const b = Math.floor(k / block);
      const middle = zeros ? zeros[n * zeroWidth + b]! : 2 ** (bits - 1);
      numbers[i] = (codes[n * width + k]! - middle) * scales[n * blocks + b]!;
    }
  }
  const asIs = lookup || transB(original);
  return asIs ? numbers : transposed(numbers, rows, columns);
}

function unpackCodes(t: Tensor, bits: number): Uint8Array {
  const bytes = typed(t) as Uint8Array;
  if (bits === 8) return bytes;
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  return Uint8Array.from({ length: bytes.length * perByte }, (_, i) => {
    return (bytes[Math.floor(i / perByte)]! >> ((i % perByte) * bits)) & mask;
  });
}

/** The constant that a value only reshapes. */
function constantBehind(graph: Graph, value: string): string {
  const node = links(graph).producer.get(value);
  return node?.op === "Reshape" ? node.inputs[0]! : value;
}

function transposed(numbers: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(numbers.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = numbers[r * columns + c]!;
  return out;
}

/** An input that depends on constants alone, as the runtime computes it. */
async function constantInput(
  graph: Graph,
  node: Node,
  { input, tensor }: WeightUse,
  runtime: Runtime,
): Promise<Float32Array | undefined> {
  const name = node.inputs[input] ?? "";
  const usable = (t: Tensor): boolean => isReal(t) && t.shape.join() === tensor.shape.join();
  const stored = graph.weights.get(name);
  if (stored) return usable(stored) ? toFloat32(stored) : undefined;
  if (!isConstant(graph, name)) return undefined;
  const session = await runtime.open({ ...exposed(graph, [name]), inputs: [] });
  try {
    const value = (await session.run({}))[name]!;
    return usable(value) ? toFloat32(value).slice() : undefined;
  } finally {
    await session.release();
  }
}

function isReal({ dtype }: Tensor): boolean {
  return dtypes[dtype].kind === "float";
}

/** Whether nothing but constants goes into a value. */
function isConstant(graph: Graph, value: string): boolean {
  const { producer } = links(graph);
  const pending = [value];
  const seen = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (seen.has(name) || graph.weights.has(name)) continue;
    seen.add(name);
    const node = producer.get(name);
    if (!node) return false;
    pending.push(...reads(node));
  }
  return true;
}
