import { intAttribute, intsAttribute, type Node, stringAttribute } from "../graph/graph.ts";

/** Arithmetic of one node in one run. */
export interface Work {
  /** Multiply-accumulates: one multiplication and one addition, counted as one. */
  readonly macs: number;
  /** Floating-point or integer operations outside multiply-accumulates, each counted as one. */
  readonly flops: number;
}

/** Shapes of a node's inputs and outputs; undefined where an optional value is left out. Unknown shapes throw. */
export interface Shapes {
  input(index: number): readonly number[];
  output(index: number): readonly number[];
  has(index: number): boolean;
}

type Rule = (node: Node, shapes: Shapes) => Work;

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const macs = (count: number, flops = 0): Work => ({ macs: count, flops });
const flops = (count: number): Work => ({ macs: 0, flops: count });

/** Moves, copies, renames or tests data: no arithmetic. */
const none: Rule = () => ({ macs: 0, flops: 0 });

/** `factor` operations for each element of the output. */
const perOutput =
  (factor: number): Rule =>
  (_, { output }) =>
    flops(factor * size(output(0)));

/** `factor` operations for each element of the input. */
const perInput =
  (factor: number): Rule =>
  (_, { input }) =>
    flops(factor * size(input(0)));

/** y[n, o, ...] sums C/g x k products: |y| |w| / O; the weight is input `w`, of shape [O, C/g, k...]. */
const convolution =
  (w: number, bias: number): Rule =>
  (_, { input, output, has }) => {
    const y = size(output(0));
    return macs((y * size(input(w))) / Math.max(1, input(w)[0] ?? 1), has(bias) ? y : 0);
  };

/** Each input element is spread over O/g x k outputs; the weight is [C, O/g, k...]. */
const transposedConvolution: Rule = (_, { input, output, has }) =>
  macs(size(input(0)) * size(input(1).slice(1)), has(2) ? size(output(0)) : 0);

/** Each output element sums K products, K the last axis of input `a` (the one before it if transposed). */
const product =
  (transposed = "", bias = Number.POSITIVE_INFINITY): Rule =>
  (node, { input, output, has }) => {
    const flip = transposed !== "" && intAttribute(node, transposed, 0) !== 0;
    const y = size(output(0));
    return macs(y * (input(0).at(flip ? -2 : -1) ?? 1), has(bias) ? y : 0);
  };

const blockedProduct: Rule = (node, { output, has }) =>
  macs(size(output(0)) * intAttribute(node, "K", 0), has(5) ? size(output(0)) : 0);

/** T B (|W| + |R|): every step multiplies each row of the batch with the input and the recurrent matrices. */
const recurrent: Rule = (node, { input, output, has }) => {
  const [steps = 1, batch = 1] = input(0);
  const gates = { LSTM: 4, GRU: 3, RNN: 1, DynamicQuantizeLSTM: 4 }[node.op] ?? 1;
  const hidden = intAttribute(node, "hidden_size", 0) * (input(1)[0] ?? 1);
  const y = has(0) && node.outputs[0] ? size(output(0)) : steps * batch * hidden;
  return macs(steps * batch * (size(input(1)) + size(input(2))), y * gates * 4);
};

/** Product over all index labels of the equation; an ellipsis counts with the output's leading sizes. */
const einsum: Rule = (node, { input, output }) => {
  const [left = "", right = ""] = stringAttribute(node, "equation", "").replaceAll(" ", "").split("->");
  const labels = new Map<string, number>();
  const terms = left.split(",");
  terms.forEach((term, i) => {
    const shape = input(i);
    const [head = "", tail = ""] = term.includes("...") ? term.split("...") : [term, ""];
    [...head].forEach((label, axis) => {
      labels.set(label, Math.max(labels.get(label) ?? 1, shape[axis] ?? 1));
    });
    [...tail].forEach((label, axis) => {
      labels.set(label, Math.max(labels.get(label) ?? 1, shape[shape.length - tail.length + axis] ?? 1));
    });
  });
  const named = right.replace("...", "");
  const free = right.includes("...") ? size(output(0)) / size([...named].map((label) => labels.get(label) ?? 1)) : 1;
  const all = free * [...labels.values()].reduce((a, b) => a * b, 1);
  return terms.length > 1 ? macs(all * (terms.length - 1)) : flops(all);
};

/** Q K^T and its product with V, 2 B S L D, and a softmax over B h S L scores; q, k are inputs 0 and 1. */
const attention: Rule = (node, { input, has }) => {
  const q = input(0);
  const k = has(1) ? input(1) : q;
  const heads = intAttribute(node, "num_heads", intAttribute(node, "q_num_heads", q.length === 4 ? (q[1] ?? 1) : 1));
  const [batch, steps, width] =
    q.length === 4 ? [q[0] ?? 1, q[2] ?? 1, heads * (q[3] ?? 1)] : [q[0] ?? 1, q[1] ?? 1, q[2] ?? 1];
  const past = has(4) && node.op === "Attention" ? (input(4).at(-2) ?? 0) : 0;
  const keys = (k.length === 4 ? (k[2] ?? 1) : (k[1] ?? 1)) + past;
  return macs(2 * batch * steps * keys * width, 5 * batch * heads * steps * keys);
};

/** The contrib form projects its input to q, k and v first: B S |W|. */
const projectedAttention: Rule = (node, { input }) => {
  const [batch = 1, steps = 1] = input(0);
  const width = (input(1)[1] ?? 3) / 3;
  const heads = intAttribute(node, "num_heads", 1);
  return macs(batch * steps * size(input(1)) + 2 * batch * steps * steps * width, 5 * batch * heads * steps * steps);
};

const pool: Rule = (node, { output }) => flops(size(output(0)) * size(intsAttribute(node, "kernel_shape") ?? []));

function rows(rule: Rule, names: string): [string, Rule][] {
  return names
    .split(/\s+/)
    .filter((name) => name !== "")
    .map((name) => [name, rule]);
}

/**
 * What each operator computes, by its name with the domain where that is not ONNX's own. One operation for each element
 * of cheap elementwise operators and of transcendental ones alike; normalizations by the passes of their formula
 * (softmax: maximum, subtraction, exponential, sum, division). Operators missing here are reported as unknown.
 */
const rules: ReadonlyMap<string, Rule> = new Map([
  ...rows(convolution(1, 2), "Conv com.microsoft:FusedConv com.microsoft:NhwcFusedConv DeformConv"),
  ...rows(convolution(1, Number.POSITIVE_INFINITY), "ConvInteger"),
  ...rows(convolution(3, 8), "QLinearConv com.microsoft:QLinearConv"),
  ...rows(transposedConvolution, "ConvTranspose"),
  ...rows(product("transA", 2), "Gemm"),
  ...rows(product("transA", 6), "com.microsoft:QGemm"),
  ...rows(product(), "MatMul MatMulInteger QLinearMatMul com.microsoft:MatMulInteger16 com.microsoft:GemmFloat8"),
  ...rows(product("transA"), "com.microsoft:FusedMatMul com.microsoft:TransposeMatMul com.microsoft:FusedGemm"),
  ...rows(product(), "com.microsoft:MatMulIntegerToFloat com.microsoft:DynamicQuantizeMatMul"),
  ...rows(blockedProduct, "com.microsoft:MatMulNBits com.microsoft:MatMulBnb4 com.microsoft:MatMulFpQ4"),
  ...rows(recurrent, "LSTM GRU RNN com.microsoft:DynamicQuantizeLSTM"),
  ...rows(einsum, "Einsum"),
  ...rows(attention, "Attention com.microsoft:MultiHeadAttention com.microsoft:GroupQueryAttention"),
  ...rows(projectedAttention, "com.microsoft:Attention com.microsoft:QAttention"),
  ...rows(pool, "AveragePool MaxPool LpPool com.microsoft:QLinearAveragePool"),
  ...rows(
    perInput(1),
    `GlobalAveragePool GlobalMaxPool GlobalLpPool ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2
    ReduceSumSquare ReduceLogSum ReduceLogSumExp ArgMax ArgMin CumSum TopK com.microsoft:QLinearGlobalAveragePool
    com.microsoft:QLinearReduceMean com.microsoft:NhwcMaxPool`,
  ),
  ...rows(
    perOutput(1),
    `Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip Cos
    Cosh Div Elu Equal Erf Exp Floor Greater GreaterOrEqual HardSigmoid HardSwish Hardmax IsInf IsNaN LeakyRelu Less
    LessOrEqual Log Max Mean Min Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
    Softplus Softsign Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor Dropout ImageScaler Affine
    com.microsoft:QuickGelu com.microsoft:BiasGelu com.microsoft:FastGelu com.microsoft:Gelu com.microsoft:QLinearAdd
    com.microsoft:QLinearMul com.microsoft:QLinearSigmoid com.microsoft:QLinearLeakyRelu com.microsoft:QLinearSoftmax`,
  ),
  ...rows(
    perOutput(2),
    "BatchNormalization QuantizeLinear DequantizeLinear Mish Gelu Swish com.microsoft:BiasSplitGelu",
  ),
  ...rows(perInput(3), "DynamicQuantizeLinear"),
  ...rows(perOutput(4), "RMSNormalization com.microsoft:SimplifiedLayerNormalization SimplifiedLayerNormalization"),
  ...rows(perOutput(5), "Softmax LogSoftmax LpNormalization MeanVarianceNormalization"),
  ...rows(
    perOutput(8),
    `LayerNormalization InstanceNormalization GroupNormalization LRN com.microsoft:SkipLayerNormalization
    com.microsoft:SkipSimplifiedLayerNormalization com.microsoft:GroupNorm`,
  ),
  ...rows(perOutput(7), "Resize Upsample GridSample RoiAlign"),
  ...rows(perOutput(3), "RotaryEmbedding com.microsoft:RotaryEmbedding"),
  ...rows(
    none,
    `Cast CastLike Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Crop DepthToSpace Expand EyeLike
    Flatten Gather GatherElements GatherND Identity NonZero OneHot Pad RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reshape ReverseSequence Scatter ScatterElements ScatterND SequenceAt SequenceConstruct
    SequenceEmpty SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze TensorScatter
    Tile Transpose Trilu Unique Unsqueeze com.microsoft:GatherBlockQuantized com.microsoft:QLinearConcat
    com.microsoft.nchwc:ReorderInput com.microsoft.nchwc:ReorderOutput`,
  ),
]);

/** Whether {@link workOf} knows an operator. */
export function hasWorkRule(key: string): boolean {
  return rules.has(key);
}

/** The arithmetic of a node; undefined for an operator without a rule. */
export function workOf(key: string, node: Node, shapes: Shapes): Work | undefined {
  return rules.get(key)?.(node, shapes);
}
