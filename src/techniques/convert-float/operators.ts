/**
 * First ONNX operator set whose schema lets an operator compute in float16 (onnx/defs): an operator missing here is left
 * in its type. Operators from 13 on take bfloat16 as well, but for some of the newest.
 */
export const halfOperators: ReadonlyMap<string, number> = new Map([
  ...since(
    6,
    `Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvTranspose DepthToSpace Div Dropout
    Elu Exp Flatten Floor GRU Gather Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool HardSigmoid Hardmax Identity
    InstanceNormalization LRN LSTM LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean Min Mul Neg
    PRelu Pad Pow RNN Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceProd ReduceSumSquare Relu Reshape Selu Shape Sigmoid Size Slice Softmax Softplus Softsign SpaceToDepth Split
    Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze`,
  ),
  ...since(7, "Acos Asin Atan Cos Greater Less Sin Tan"),
  ...since(8, "Expand"),
  ...since(
    9,
    `Acosh Asinh Atanh ConstantOfShape Cosh Erf IsNaN MeanVarianceNormalization OneHot Scatter Shrink Sign Sinh Upsample
    Where`,
  ),
  ...since(10, "Mod Resize ReverseSequence RoiAlign ThresholdedRelu"),
  ...since(11, "Equal GatherElements GatherND Round ScatterElements ScatterND ArgMax ArgMin"),
  ...since(12, "Einsum GreaterOrEqual LessOrEqual"),
  ...since(14, "CumSum HardSwish Trilu"),
  ...since(15, "CastLike"),
  ...since(16, "GridSample"),
  ...since(17, "LayerNormalization"),
  ...since(18, "GroupNormalization Mish"),
  ...since(20, "Gelu IsInf"),
  ...since(23, "Attention RMSNormalization RotaryEmbedding"),
]);

/**
 * Operators kept in float32 unless the user says otherwise: coordinates and counts beyond 2048 are not exact in
 * float16, ties among sorted scores appear, and long sums (variances among them) leave its range or lose their tail.
 */
export const blockedOperators: readonly string[] = [
  "CumSum",
  "GridSample",
  "MeanVarianceNormalization",
  "Pow",
  "ReduceL1",
  "ReduceL2",
  "ReduceLogSum",
  "ReduceLogSumExp",
  "ReduceMean",
  "ReduceProd",
  "ReduceSum",
  "ReduceSumSquare",
  "Resize",
  "RoiAlign",
  "TopK",
  "Upsample",
];

const maskOperators: ReadonlySet<string> = new Set(["Add", "Sub", "Where", "Max", "Min", "Clip", "Pad"]);
const surelyInfinity = 1e9;

/**
 * Whether a constant of a magnitude beyond float16's range may be cut to it: it stands for infinity, as in the masks of
 * attention, where it is added, selected or compared; and where it is a factor of 1e9 and more.
 */
export function isMask(op: string, magnitude: number): boolean {
  return maskOperators.has(op) || (op === "Mul" && magnitude >= surelyInfinity);
}

function since(opset: number, names: string): [string, number][] {
  return names.split(/\s+/).map((name) => [name, opset]);
}
