import type { OnnxOperator } from "../ops/catalog.ts";
import { type NoRule, none, type Rule, unsupported } from "./rule.ts";
import { convRule, convTransposeRule } from "./rules/convolution.ts";
import * as elementwise from "./rules/elementwise.ts";
import { fakeQuantizeRule } from "./rules/fake-quantize.ts";
import { einsumRule, gemmRule, matMulRule } from "./rules/linear.ts";
import * as normalize from "./rules/normalize.ts";
import * as pooling from "./rules/pooling.ts";
import { dequantizeLinearRule, quantizeLinearRule, roundRule } from "./rules/quantize.ts";
import { gruRule, lstmRule } from "./rules/recurrent.ts";
import * as reduce from "./rules/reduce.ts";
import * as shaping from "./rules/shaping.ts";

const integers = none("its output is not a float");
const steps = none("its derivative is zero wherever it exists");
const noInput = none("its output does not depend on the values of its inputs");
const decomposed = unsupported("it is trained through its decomposition: apply decompose() first");
const quantized = none("it computes in integers: train the float model, or with fake quantization");
const sequences = unsupported("sequences of tensors");
const made = none("its output is made of constants");
const chosen = unsupported("which elements it picks is known only when it runs");

type Row = Rule | NoRule;

/** ONNX's own operators: the compiler demands a row for every one of the catalogue. */
const onnx: Readonly<Record<OnnxOperator, Row>> = {
  // arithmetic and activations
  Abs: elementwise.absRule,
  Add: elementwise.addRule,
  Cast: elementwise.castRule,
  CastLike: elementwise.castRule,
  Celu: elementwise.celuRule,
  Clip: elementwise.clipRule,
  Cos: elementwise.cosRule,
  Div: elementwise.divRule,
  Dropout: elementwise.dropoutRule,
  Elu: elementwise.eluRule,
  Erf: elementwise.erfRule,
  Exp: elementwise.expRule,
  Gelu: elementwise.geluRule,
  HardSigmoid: elementwise.hardSigmoidRule,
  HardSwish: elementwise.hardSwishRule,
  Identity: elementwise.identityRule,
  LeakyRelu: elementwise.leakyReluRule,
  Log: elementwise.logRule,
  Max: elementwise.extremeRule,
  Mean: elementwise.meanRule,
  Min: elementwise.extremeRule,
  Mish: elementwise.mishRule,
  Mul: elementwise.mulRule,
  Neg: elementwise.negRule,
  PRelu: elementwise.preluRule,
  Pow: elementwise.powRule,
  Reciprocal: elementwise.reciprocalRule,
  Relu: elementwise.reluRule,
  Selu: elementwise.seluRule,
  Sigmoid: elementwise.sigmoidRule,
  Sin: elementwise.sinRule,
  Softplus: elementwise.softplusRule,
  Softsign: elementwise.softsignRule,
  Sqrt: elementwise.sqrtRule,
  Sub: elementwise.subRule,
  Sum: elementwise.addRule,
  Swish: elementwise.swishRule,
  Tanh: elementwise.tanhRule,
  ThresholdedRelu: elementwise.thresholdedReluRule,
  Where: elementwise.whereRule,

  // products
  Conv: convRule,
  ConvTranspose: convTransposeRule,
  Einsum: einsumRule,
  Gemm: gemmRule,
  MatMul: matMulRule,

  // reductions
  LogSoftmax: reduce.logSoftmaxRule,
  LpNormalization: reduce.lpNormalizationRule,
  ReduceL1: reduce.reduceL1Rule,
  ReduceL2: reduce.reduceL2Rule,
  ReduceLogSum: reduce.reduceLogSumRule,
  ReduceLogSumExp: reduce.reduceLogSumExpRule,
  ReduceMax: reduce.reduceExtremeRule,
  ReduceMean: reduce.reduceMeanRule,
  ReduceMin: reduce.reduceExtremeRule,
  ReduceProd: reduce.reduceProdRule,
  ReduceSum: reduce.reduceSumRule,
  ReduceSumSquare: reduce.reduceSumSquareRule,
  Softmax: reduce.softmaxRule,

  // normalization
  BatchNormalization: normalize.batchNormalizationRule,
  GroupNormalization: normalize.groupNormalizationRule,
  InstanceNormalization: normalize.instanceNormalizationRule,
  LRN: normalize.lrnRule,
  LayerNormalization: normalize.layerNormalizationRule,
  MeanVarianceNormalization: normalize.meanVarianceNormalizationRule,
  RMSNormalization: normalize.rmsNormalizationRule,

  // pooling and resizing
  AveragePool: pooling.averagePoolRule,
  GlobalAveragePool: pooling.globalAveragePoolRule,
  GlobalLpPool: pooling.globalLpPoolRule,
  GlobalMaxPool: pooling.globalMaxPoolRule,
  MaxPool: pooling.maxPoolRule,
  Resize: pooling.resizeRule,

  // moving elements
  Concat: shaping.concatRule,
  CumSum: shaping.cumSumRule,
  DepthToSpace: shaping.depthToSpaceRule,
  Expand: shaping.expandRule,
  Flatten: shaping.reshapeRule,
  Gather: shaping.gatherRule,
  GatherElements: shaping.gatherElementsRule,
  GatherND: shaping.gatherNdRule,
  Pad: shaping.padRule,
  Reshape: shaping.reshapeRule,
  ScatterElements: shaping.scatterElementsRule,
  ScatterND: shaping.scatterNdRule,
  Slice: shaping.sliceRule,
  SpaceToDepth: shaping.spaceToDepthRule,
  Split: shaping.splitRule,
  Squeeze: shaping.reshapeRule,
  Tile: shaping.tileRule,
  TopK: shaping.topKRule,
  Transpose: shaping.transposeRule,
  Trilu: shaping.triluRule,
  Unsqueeze: shaping.reshapeRule,

  // straight-through estimators
  DequantizeLinear: dequantizeLinearRule,
  QuantizeLinear: quantizeLinearRule,
  Round: roundRule,

  // recurrent
  GRU: gruRule,
  LSTM: lstmRule,
  RNN: decomposed,

  // nothing to pass on
  And: integers,
  ArgMax: integers,
  ArgMin: integers,
  BitwiseAnd: integers,
  BitwiseNot: integers,
  BitwiseOr: integers,
  BitwiseXor: integers,
  BitShift: integers,
  Equal: integers,
  Greater: integers,
  GreaterOrEqual: integers,
  IsInf: integers,
  IsNaN: integers,
  Less: integers,
  LessOrEqual: integers,
  NonMaxSuppression: integers,
  NonZero: integers,
  Not: integers,
  OneHot: integers,
  Or: integers,
  Shape: integers,
  Size: integers,
  Xor: integers,
  Ceil: steps,
  Floor: steps,
  Sign: steps,
  Constant: noInput,
  ConstantOfShape: noInput,
  EyeLike: noInput,
  RandomNormal: noInput,
  RandomNormalLike: noInput,
  RandomUniform: noInput,
  RandomUniformLike: noInput,
  Range: noInput,

  If: unsupported("control flow"),
  Loop: unsupported("control flow"),
  Scan: unsupported("control flow"),

  // hyperbolic and inverse functions
  Acos: elementwise.acosRule,
  Acosh: elementwise.acoshRule,
  Asin: elementwise.asinRule,
  Asinh: elementwise.asinhRule,
  Atan: elementwise.atanRule,
  Atanh: elementwise.atanhRule,
  Cosh: elementwise.coshRule,
  Shrink: elementwise.shrinkRule,
  Sinh: elementwise.sinhRule,
  Tan: elementwise.tanRule,
  ReverseSequence: shaping.reverseSequenceRule,

  Attention: decomposed,
  Bernoulli: none("its output is random"),
  BitCast: integers,
  BlackmanWindow: made,
  ConvInteger: quantized,
  DynamicQuantizeLinear: quantized,
  HammingWindow: made,
  HannWindow: made,
  Hardmax: steps,
  ImageDecoder: integers,
  MatMulInteger: quantized,
  MelWeightMatrix: made,
  Multinomial: integers,
  QLinearConv: quantized,
  QLinearMatMul: quantized,
  RegexFullMatch: integers,
  StringConcat: integers,
  StringNormalizer: integers,
  StringSplit: integers,
  TfIdfVectorizer: none("its output does not depend on the values of its inputs smoothly"),

  Compress: chosen,
  Unique: chosen,
  ConcatFromSequence: sequences,
  Optional: sequences,
  OptionalGetElement: sequences,
  OptionalHasElement: integers,
  SequenceAt: sequences,
  SequenceConstruct: sequences,
  SequenceEmpty: sequences,
  SequenceErase: sequences,
  SequenceInsert: sequences,
  SequenceLength: integers,
  SequenceMap: sequences,
  SplitToSequence: sequences,

  AffineGrid: unsupported("its grid is meant for GridSample, which has no rule"),
  CenterCropPad: unsupported("cropping to a computed size; spell it as Slice and Pad"),
  Col2Im: unsupported("folding of columns; spell it as ConvTranspose"),
  CumProd: unsupported("cumulative products"),
  DFT: unsupported("Fourier transforms; a product with a constant matrix has a rule"),
  DeformConv: unsupported("sampling at learned offsets"),
  Det: unsupported("determinants"),
  GridSample: unsupported("sampling at computed places"),
  LpPool: unsupported("windows of norms"),
  MaxRoiPool: unsupported("regions of interest"),
  MaxUnpool: unsupported("unpooling by indices"),
  Mod: unsupported("remainders of floats"),
  NegativeLogLikelihoodLoss: unsupported("losses are written by the objective, from simpler operators"),
  RoiAlign: unsupported("regions of interest"),
  RotaryEmbedding: unsupported("spelled as Mul, Add and Concat it has rules"),
  STFT: unsupported("Fourier transforms; a convolution with constant windows has a rule"),
  Scatter: unsupported("it became ScatterElements: convert the model"),
  SoftmaxCrossEntropyLoss: unsupported("losses are written by the objective, from simpler operators"),
  TensorScatter: unsupported("caches"),
  Upsample: unsupported("it became Resize: convert the model"),
};

/** Operators of the runtime's own, and pare's. */
const others: Readonly<Record<string, Row>> = {
  "com.microsoft:Gelu": elementwise.geluRule,
  "com.microsoft:QuickGelu": elementwise.swishRule,
  SimplifiedLayerNormalization: normalize.rmsNormalizationRule,
  "pare:BatchNormalization": normalize.batchStatisticsRule,
  "pare:FakeQuantize": fakeQuantizeRule,
  "pare:FoldedBias": normalize.foldedBiasRule,
  "pare:ChannelSum": none("a batch statistic: the gradient passes through pare:BatchNormalization"),
  "pare:ChannelAffine": none("centring: the gradient passes through pare:BatchNormalization"),
  "pare:ChannelDot": none("a batch statistic: the gradient passes through pare:BatchNormalization"),
};

/** Gradient rules by operator, those of other domains with the domain before a colon. What has none says why. */
export const gradients: Readonly<Record<string, Row>> = { ...onnx, ...others };
