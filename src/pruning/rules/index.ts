import type { OnnxOperator } from "../../ops/catalog.ts";
import { attention, multiHeadAttention, packedAttention } from "./attention.ts";
import { affine, dropout, elementwise, softmax, unary } from "./elementwise.ts";
import * as normalize from "./normalize.ts";
import { concat, gather, pad, slice, split } from "./pieces.ts";
import { conv, convTranspose, einsum, fusedMatMul, gemm, matMul, recurrent } from "./products.ts";
import { along, arg, fixedReduction, reduction } from "./reduce.ts";
import { constantOfShape, expand, reshape, tile, transpose } from "./reshape.ts";
import { type CouplingRule, frozen } from "./rule.ts";
import { depthToSpace, pool, resize, spaceToDepth } from "./spatial.ts";

const nothing: CouplingRule = { relate() {} };
const control = frozen("control flow");
const integers = frozen("arithmetic in integers: cut the float model, then quantize");
const chosen = frozen("picks elements by numbers known only when it runs");
const sequences = frozen("sequences of tensors");
const signal = frozen("signal processing over whole axes");
const strings = frozen("text");
const other = frozen("an operator without a coupling rule");

/** ONNX's own operators: the compiler demands a row for every one of the catalogue. */
const onnx: Readonly<Record<OnnxOperator, CouplingRule>> = {
  // element by element, one input
  Abs: unary,
  Acos: unary,
  Acosh: unary,
  Asin: unary,
  Asinh: unary,
  Atan: unary,
  Atanh: unary,
  BitwiseNot: unary,
  Cast: unary,
  CastLike: unary,
  Ceil: unary,
  Celu: unary,
  Clip: unary,
  Cos: unary,
  Cosh: unary,
  Dropout: dropout,
  Elu: unary,
  Erf: unary,
  Exp: unary,
  Floor: unary,
  Gelu: unary,
  HardSigmoid: unary,
  HardSwish: unary,
  Identity: unary,
  IsInf: unary,
  IsNaN: unary,
  LeakyRelu: unary,
  Log: unary,
  Mish: unary,
  Neg: unary,
  Not: unary,
  Reciprocal: unary,
  Relu: unary,
  Round: unary,
  Selu: unary,
  Shrink: unary,
  Sigmoid: unary,
  Sign: unary,
  Sin: unary,
  Sinh: unary,
  Softplus: unary,
  Softsign: unary,
  Sqrt: unary,
  Swish: unary,
  Tan: unary,
  Tanh: unary,
  ThresholdedRelu: unary,

  // element by element, inputs broadcast
  Add: elementwise,
  And: elementwise,
  BitShift: elementwise,
  BitwiseAnd: elementwise,
  BitwiseOr: elementwise,
  BitwiseXor: elementwise,
  Div: elementwise,
  Equal: elementwise,
  Greater: elementwise,
  GreaterOrEqual: elementwise,
  Less: elementwise,
  LessOrEqual: elementwise,
  Max: elementwise,
  Mean: elementwise,
  Min: elementwise,
  Mod: elementwise,
  Mul: elementwise,
  Or: elementwise,
  PRelu: elementwise,
  Pow: elementwise,
  Sub: elementwise,
  Sum: elementwise,
  Where: elementwise,
  Xor: elementwise,

  // products
  Attention: attention,
  Conv: conv,
  ConvTranspose: convTranspose,
  Einsum: einsum,
  GRU: recurrent,
  Gemm: gemm,
  LSTM: recurrent,
  MatMul: matMul,
  RNN: recurrent,

  // reductions
  ArgMax: arg,
  ArgMin: arg,
  CumProd: along,
  CumSum: along,
  Hardmax: softmax,
  LogSoftmax: softmax,
  LpNormalization: along,
  ReduceL1: reduction("sum"),
  ReduceL2: reduction("sum"),
  ReduceLogSum: reduction("sum"),
  ReduceLogSumExp: fixedReduction,
  ReduceMax: reduction("max"),
  ReduceMean: reduction("mean"),
  ReduceMin: reduction("min"),
  ReduceProd: reduction("product"),
  ReduceSum: reduction("sum"),
  ReduceSumSquare: reduction("sum"),
  Softmax: softmax,

  // normalization
  BatchNormalization: normalize.batchNormalization,
  GroupNormalization: normalize.groupNormalization,
  InstanceNormalization: normalize.instanceNormalization,
  LRN: normalize.lrn,
  LayerNormalization: normalize.layerNormalization,
  MeanVarianceNormalization: normalize.meanVariance,
  RMSNormalization: normalize.layerNormalization,

  // positions
  AveragePool: pool,
  DepthToSpace: depthToSpace,
  GlobalAveragePool: pool,
  GlobalLpPool: pool,
  GlobalMaxPool: pool,
  LpPool: pool,
  MaxPool: pool,
  Resize: resize,
  SpaceToDepth: spaceToDepth,
  Upsample: resize,

  // moving elements
  Concat: concat,
  Expand: expand,
  Flatten: reshape,
  Gather: gather,
  Pad: pad,
  Reshape: reshape,
  Slice: slice,
  Split: split,
  Squeeze: reshape,
  Tile: tile,
  Transpose: transpose,
  Unsqueeze: reshape,

  // quantization
  DequantizeLinear: affine,
  QuantizeLinear: affine,
  ConvInteger: integers,
  DynamicQuantizeLinear: integers,
  MatMulInteger: integers,
  QLinearConv: integers,
  QLinearMatMul: integers,

  // constants and sizes
  Constant: nothing,
  ConstantOfShape: constantOfShape,
  Shape: nothing,
  Size: nothing,

  If: control,
  Loop: control,
  Scan: control,

  Compress: chosen,
  GatherElements: chosen,
  GatherND: chosen,
  NonMaxSuppression: chosen,
  NonZero: chosen,
  OneHot: chosen,
  Scatter: chosen,
  ScatterElements: chosen,
  ScatterND: chosen,
  TensorScatter: chosen,
  TopK: chosen,
  Unique: chosen,

  ConcatFromSequence: sequences,
  Optional: sequences,
  OptionalGetElement: sequences,
  OptionalHasElement: sequences,
  SequenceAt: sequences,
  SequenceConstruct: sequences,
  SequenceEmpty: sequences,
  SequenceErase: sequences,
  SequenceInsert: sequences,
  SequenceLength: sequences,
  SequenceMap: sequences,
  SplitToSequence: sequences,

  BlackmanWindow: signal,
  DFT: signal,
  HammingWindow: signal,
  HannWindow: signal,
  MelWeightMatrix: signal,
  STFT: signal,

  RegexFullMatch: strings,
  StringConcat: strings,
  StringNormalizer: strings,
  StringSplit: strings,
  TfIdfVectorizer: strings,

  AffineGrid: other,
  Bernoulli: other,
  BitCast: other,
  CenterCropPad: other,
  Col2Im: other,
  DeformConv: other,
  Det: other,
  EyeLike: other,
  GridSample: other,
  ImageDecoder: other,
  MaxRoiPool: other,
  MaxUnpool: other,
  Multinomial: other,
  NegativeLogLikelihoodLoss: other,
  RandomNormal: other,
  RandomNormalLike: other,
  RandomUniform: other,
  RandomUniformLike: other,
  Range: other,
  ReverseSequence: other,
  RoiAlign: other,
  RotaryEmbedding: other,
  SoftmaxCrossEntropyLoss: other,
  Trilu: other,
};

/** Operators of the runtime's own. */
const others: Readonly<Record<string, CouplingRule>> = {
  "com.microsoft:Attention": packedAttention,
  "com.microsoft:BiasGelu": elementwise,
  "com.microsoft:FastGelu": elementwise,
  "com.microsoft:FusedMatMul": fusedMatMul,
  "com.microsoft:Gelu": unary,
  "com.microsoft:MultiHeadAttention": multiHeadAttention,
  "com.microsoft:QuickGelu": unary,
  "com.microsoft:SkipLayerNormalization": normalize.skipNormalization,
  "com.microsoft:SkipSimplifiedLayerNormalization": normalize.skipNormalization,
  Affine: unary,
  Crop: pool,
  ParametricSoftplus: unary,
  Scale: unary,
  ScaledTanh: unary,
  SimplifiedLayerNormalization: normalize.layerNormalization,
};

const rules: Readonly<Record<string, CouplingRule>> = { ...onnx, ...others };

/** What an operator (with its domain before a colon where that is not ONNX's own) means for axes; others stay as they are. */
export function couplingRule(op: string): CouplingRule {
  return rules[op] ?? other;
}
