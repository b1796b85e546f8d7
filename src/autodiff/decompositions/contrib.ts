import { float, floatAttribute, intAttribute, stringAttribute } from "../../graph/graph.ts";
import { float32 } from "../../tensor/tensor.ts";
import type { Decomposition, Emitter } from "../decompose.ts";
import { ints, scalar } from "../writer.ts";

const optional = (e: Emitter, indices: readonly number[]): string[] =>
  indices.flatMap((i) => (e.input(i) === undefined ? [] : [e.input(i)!]));

/** alpha A' B', primes being transposes of the last two axes. */
const fusedMatMul: Decomposition = (e) => {
  if (intAttribute(e.node, "transBatchA", 0) || intAttribute(e.node, "transBatchB", 0)) return "it transposes batches";
  const side = (i: number, flag: string): string => {
    const name = e.node.inputs[i]!;
    const rank = e.type(name).shape.length;
    if (!intAttribute(e.node, flag, 0) || rank < 2) return name;
    const perm = Array.from({ length: rank }, (_, k) => k);
    return e.op("Transpose", [name], { perm: [...perm.slice(0, -2), rank - 1, rank - 2] });
  };
  const product = e.op("MatMul", [side(0, "transA"), side(1, "transB")]);
  const alpha = floatAttribute(e.node, "alpha", 1);
  e.give(0, alpha === 1 ? product : e.op("Mul", [product, scalar(e, alpha)]));
  return undefined;
};

/** Convolution, an optional addend, then an activation. */
const fusedConv: Decomposition = (e) => {
  const { activation: _, activation_params: __, ...attributes } = e.node.attributes;
  const kind = stringAttribute(e.node, "activation", "");
  const given = e.node.attributes.activation_params;
  const params = given?.type === "floats" ? given.value : [];
  let y = e.op("Conv", [e.node.inputs[0]!, e.node.inputs[1]!, ...optional(e, [2])], attributes);
  const addend = e.input(3);
  if (addend) y = e.op("Add", [y, addend]);
  if (kind === "Clip") y = e.op("Clip", [y, scalar(e, params[0] ?? 0), scalar(e, params[1] ?? 0)]);
  else if (kind === "HardSigmoid")
    y = e.op(kind, [y], { alpha: float(params[0] ?? 0.2), beta: float(params[1] ?? 0.5) });
  else if (kind === "LeakyRelu") y = e.op(kind, [y], { alpha: float(params[0] ?? 0.01) });
  else if (kind !== "") y = e.op(kind, [y]);
  e.give(0, y);
  return undefined;
};

const biasGelu: Decomposition = (e) => {
  e.give(0, e.op("com.microsoft:Gelu", [e.op("Add", [e.node.inputs[0]!, e.node.inputs[1]!])]));
  return undefined;
};

/** Gelu by tanh, of x plus an optional bias, written out since older operator sets have no Gelu. */
const fastGelu: Decomposition = (e) => {
  const bias = e.input(1);
  const x = bias ? e.op("Add", [e.node.inputs[0]!, bias]) : e.node.inputs[0]!;
  const cube = e.op("Mul", [e.op("Mul", [x, x]), x]);
  const inner = e.op("Add", [x, e.op("Mul", [cube, scalar(e, 0.044715)])]);
  const t = e.op("Tanh", [e.op("Mul", [inner, scalar(e, Math.sqrt(2 / Math.PI))])]);
  e.give(0, e.op("Mul", [e.op("Mul", [x, scalar(e, 0.5)]), e.op("Add", [t, scalar(e, 1)])]));
  return undefined;
};

/** Normalization of input + skip (+ bias); the sum itself is the last output. */
function skipNormalization(simplified: boolean): Decomposition {
  return (e) => {
    const [x, skip, gamma] = e.node.inputs as [string, string, string];
    const bias = e.input(simplified ? 3 : 4);
    const sum = e.op("Add", [x, skip]);
    const total = bias ? e.op("Add", [sum, bias]) : sum;
    const attributes = { axis: -1, epsilon: float(floatAttribute(e.node, "epsilon", 1e-12)) };
    const beta = simplified ? [] : optional(e, [3]);
    e.give(
      0,
      e.op(simplified ? "SimplifiedLayerNormalization" : "LayerNormalization", [total, gamma, ...beta], attributes),
    );
    e.give(3, total);
    return undefined;
  };
}

interface Heads {
  readonly queryHeads: number;
  readonly keyHeads: number;
  readonly scale: number;
  readonly causal: boolean;
  readonly softcap: number;
  readonly mask?: string;
}

/** softmax(scale Q Kᵀ + mask) V over [batch, heads, length, width] operands; keys repeated for grouped queries. */
function attend(e: Emitter, q: string, k: string, v: string, lengths: readonly [number, number], heads: Heads): string {
  const repeats = heads.queryHeads / heads.keyHeads;
  const spread = (x: string): string => (repeats === 1 ? x : repeatHeads(e, x, heads.keyHeads, repeats));
  const keys = e.op("Transpose", [spread(k)], { perm: [0, 1, 3, 2] });
  let scores = e.op("MatMul", [e.op("Mul", [q, scalar(e, heads.scale)]), keys]);
  if (heads.softcap > 0) {
    const capped = e.op("Tanh", [e.op("Div", [scores, scalar(e, heads.softcap)])]);
    scores = e.op("Mul", [capped, scalar(e, heads.softcap)]);
  }
  if (heads.causal) scores = e.op("Add", [scores, causalMask(e, lengths)]);
  if (heads.mask) scores = e.op("Add", [scores, heads.mask]);
  return e.op("MatMul", [e.op("Softmax", [scores], { axis: -1 }), spread(v)]);
}

/** Each head `repeats` times in a row: the grouped-query order. */
function repeatHeads(e: Emitter, x: string, heads: number, repeats: number): string {
  const indices = Array.from({ length: heads * repeats }, (_, i) => Math.floor(i / repeats));
  return e.op("Gather", [x, ints(e, indices)], { axis: 1 });
}

function causalMask(e: Emitter, [queries, keys]: readonly [number, number]): string {
  const mask = Float32Array.from({ length: queries * keys }, (_, i) => (i % keys > Math.floor(i / keys) ? -1e30 : 0));
  return e.constant(float32([queries, keys], mask));
}

/** [batch, length, heads * width] to [batch, heads, length, width]. */
function splitHeads(e: Emitter, x: string, heads: number): string {
  return e.op("Transpose", [e.op("Reshape", [x, ints(e, [0, 0, heads, -1])])], { perm: [0, 2, 1, 3] });
}

function mergeHeads(e: Emitter, x: string): string {
  return e.op("Reshape", [e.op("Transpose", [x], { perm: [0, 2, 1, 3] }), ints(e, [0, 0, -1])]);
}

/** ONNX's own Attention (operator set 23) without a cache. */
const onnxAttention: Decomposition = (e) => {
  if (optional(e, [4, 5, 6]).length > 0 || e.node.outputs.slice(1).some((name) => name !== ""))
    return "it keeps a cache";
  if (intAttribute(e.node, "qk_matmul_output_mode", 0) !== 0) return "it gives its scores away";
  const [q, k, v] = e.node.inputs as [string, string, string];
  const shapes = [q, k].map((name) => e.type(name).shape) as [readonly number[], readonly number[]];
  const flat = shapes[0].length === 3;
  const queryHeads = flat ? intAttribute(e.node, "q_num_heads", 1) : shapes[0][1]!;
  const keyHeads = flat ? intAttribute(e.node, "kv_num_heads", 1) : shapes[1][1]!;
  const width = flat ? shapes[0][2]! / queryHeads : shapes[0][3]!;
  const lengths = [shapes[0].at(-2)!, shapes[1].at(-2)!] as const;
  const split = (x: string, heads: number): string => (flat ? splitHeads(e, x, heads) : x);
  const mask = additiveMask(e, e.input(3));
  const y = attend(
    e,
    split(q, queryHeads),
    split(k, keyHeads),
    split(v, keyHeads),
    flat ? [shapes[0][1]!, shapes[1][1]!] : lengths,
    {
      queryHeads,
      keyHeads,
      scale: floatAttribute(e.node, "scale", 1 / Math.sqrt(width)),
      causal: intAttribute(e.node, "is_causal", 0) === 1,
      softcap: floatAttribute(e.node, "softcap", 0),
      ...(mask && { mask }),
    },
  );
  e.give(0, flat ? mergeHeads(e, y) : y);
  return undefined;
};

function additiveMask(e: Emitter, mask: string | undefined): string | undefined {
  if (!mask || e.type(mask).dtype !== "bool") return mask;
  return e.op("Where", [mask, scalar(e, 0), scalar(e, -1e30)]);
}

/** The end of both of the runtime's attentions: their attributes, and what is added to the scores as input 5. */
function giveAttention(
  e: Emitter,
  [q, k, v]: readonly [string, string, string],
  lengths: readonly [number, number],
  width: number,
): undefined {
  const heads = intAttribute(e.node, "num_heads", 1);
  const addend = e.input(5);
  const y = attend(e, q, k, v, lengths, {
    queryHeads: heads,
    keyHeads: heads,
    scale: floatAttribute(e.node, "scale", 0) || 1 / Math.sqrt(width),
    causal: intAttribute(e.node, "unidirectional", 0) === 1,
    softcap: 0,
    ...(addend && { mask: addend }),
  });
  e.give(0, mergeHeads(e, y));
  return undefined;
}

/** The runtime's MultiHeadAttention with separate queries, keys and values, without a cache. */
const multiHeadAttention: Decomposition = (e) => {
  const [query, key, value] = [0, 1, 2].map((i) => e.input(i));
  if (!key || !value) return "its keys and values are packed";
  if (optional(e, [4, 6, 7]).length > 0 || e.node.outputs.slice(1).some((name) => name !== ""))
    return "it has a mask of keys or a cache";
  const heads = intAttribute(e.node, "num_heads", 1);
  const shapes = [query!, key, value].map((name) => e.type(name).shape);
  if (shapes.some(({ length }) => length !== 3)) return "its keys or values are not [batch, length, width]";
  const bias = e.input(3);
  const sizes = shapes.map((shape) => shape[2]!);
  const biases = bias ? e.ops("Split", [bias, ints(e, sizes)], { axis: 0 }, 3) : undefined;
  const side = (i: number, x: string): string => splitHeads(e, biases ? e.op("Add", [x, biases[i]!]) : x, heads);
  const lengths = [shapes[0]![1]!, shapes[1]![1]!] as const;
  return giveAttention(e, [side(0, query!), side(1, key), side(2, value)], lengths, sizes[0]! / heads);
};

/** The runtime's Attention: one product makes queries, keys and values. */
const packedAttention: Decomposition = (e) => {
  if (optional(e, [3, 4, 6]).length > 0 || e.node.outputs.slice(1).some((name) => name !== ""))
    return "it has a mask of keys or a cache";
  if (intAttribute(e.node, "do_rotary", 0)) return "it rotates its queries";
  const [x, weight] = e.node.inputs as [string, string];
  const heads = intAttribute(e.node, "num_heads", 1);
  const total = e.type(weight).shape[1]!;
  const given = e.node.attributes.qkv_hidden_sizes;
  const sizes = given?.type === "ints" ? given.value.map(Number) : [total / 3, total / 3, total / 3];
  const product = e.op("MatMul", [x, weight]);
  const biased = e.input(2) ? e.op("Add", [product, e.input(2)!]) : product;
  const [q, k, v] = e.ops("Split", [biased, ints(e, sizes)], { axis: -1 }, 3);
  const length = e.type(x).shape[1]!;
  const operands = [q!, k!, v!].map((part) => splitHeads(e, part, heads)) as [string, string, string];
  return giveAttention(e, operands, [length, length], sizes[0]! / heads);
};

/** Fused operators of the runtime's contrib domain, and ONNX's Attention. */
export const contribDecompositions: Readonly<Record<string, Decomposition>> = {
  Attention: onnxAttention,
  "com.microsoft:Attention": packedAttention,
  "com.microsoft:BiasGelu": biasGelu,
  "com.microsoft:FastGelu": fastGelu,
  "com.microsoft:FusedConv": fusedConv,
  "com.microsoft:FusedMatMul": fusedMatMul,
  "com.microsoft:MultiHeadAttention": multiHeadAttention,
  "com.microsoft:SkipLayerNormalization": skipNormalization(false),
  "com.microsoft:SkipSimplifiedLayerNormalization": skipNormalization(true),
};
