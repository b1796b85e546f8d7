import { type NoRule, none, type Rule, unsupported } from "./rule.ts";
import { convRule, convTransposeRule } from "./rules/convolution.ts";
import * as elementwise from "./rules/elementwise.ts";
import { einsumRule, gemmRule, matMulRule } from "./rules/linear.ts";
import * as normalize from "./rules/normalize.ts";
import * as pooling from "./rules/pooling.ts";
import { dequantizeLinearRule, quantizeLinearRule, roundRule } from "./rules/quantize.ts";
import * as reduce from "./rules/reduce.ts";
import * as shaping from "./rules/shaping.ts";

const integers = none("its output is not a float");
const steps = none("its derivative is zero wherever it exists");
const noInput = none("its output does not depend on the values of its inputs");
const decomposed = unsupported("it is trained through its decomposition: apply decompose() first");

/** Gradient rules by operator, contrib ones with their domain before a colon. What has none says why. */
export const gradients: Readonly<Record<string, Rule | NoRule>> = {
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
  "com.microsoft:Gelu": elementwise.geluRule,
  "com.microsoft:QuickGelu": elementwise.swishRule,

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
  SimplifiedLayerNormalization: normalize.rmsNormalizationRule,
  "pare:BatchNormalization": normalize.batchStatisticsRule,

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
  GRU: decomposed,
  LSTM: decomposed,
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
};
