import { activation, elu, layerRelu, leakyRelu, prelu, softmax } from "./activation.ts";
import { multiHeadAttention } from "./attention.ts";
import { convolution, depthwise, separable, transposedConvolution } from "./convolution.ts";
import { dense, embedding } from "./dense.ts";
import { kerasFunctions, tensorflowCall } from "./functions.ts";
import type { LayerRule } from "./layer.ts";
import { dot, merge, mergeAll, scaledSum } from "./merge.ts";
import {
  batchNormalization,
  groupNormalization,
  layerNormalization,
  layerScale,
  normalization,
  rescaling,
  unitNormalization,
} from "./normalization.ts";
import { globalPooling, pooling } from "./pooling.ts";
import { bidirectional, recurrent } from "./recurrent.ts";
import {
  concatenate,
  cropping,
  flatten,
  identity,
  permute,
  repeatVector,
  reshape,
  upSampling,
  zeroPadding,
} from "./shape.ts";
import { timeDistributed } from "./wrappers.ts";

/** How each layer class of Keras is written as ONNX nodes. */
export const layerRules: Readonly<Record<string, LayerRule>> = {
  Activation: activation,
  ActivityRegularization: identity,
  Add: merge("Add"),
  AlphaDropout: identity,
  Average: mergeAll("Mean"),
  AveragePooling1D: pooling("AveragePool", 1),
  AveragePooling2D: pooling("AveragePool", 2),
  AveragePooling3D: pooling("AveragePool", 3),
  BatchNormalization: batchNormalization,
  Bidirectional: bidirectional,
  Concatenate: concatenate,
  Conv1D: convolution(1),
  Conv1DTranspose: transposedConvolution(1),
  Conv2D: convolution(2),
  Conv2DTranspose: transposedConvolution(2),
  Conv3D: convolution(3),
  Conv3DTranspose: transposedConvolution(3),
  Cropping1D: cropping(1),
  Cropping2D: cropping(2),
  Cropping3D: cropping(3),
  CustomScaleLayer: scaledSum,
  Dense: dense,
  DepthwiseConv1D: depthwise(1),
  DepthwiseConv2D: depthwise(2),
  Dot: dot,
  Dropout: identity,
  ELU: elu,
  Embedding: embedding,
  Flatten: flatten,
  GRU: recurrent,
  GaussianDropout: identity,
  GaussianNoise: identity,
  GlobalAveragePooling1D: globalPooling("GlobalAveragePool", 1),
  GlobalAveragePooling2D: globalPooling("GlobalAveragePool", 2),
  GlobalAveragePooling3D: globalPooling("GlobalAveragePool", 3),
  GlobalMaxPooling1D: globalPooling("GlobalMaxPool", 1),
  GlobalMaxPooling2D: globalPooling("GlobalMaxPool", 2),
  GlobalMaxPooling3D: globalPooling("GlobalMaxPool", 3),
  GroupNormalization: groupNormalization,
  Identity: identity,
  LSTM: recurrent,
  LayerNormalization: layerNormalization,
  LayerScale: layerScale,
  LeakyReLU: leakyRelu,
  MaxPooling1D: pooling("MaxPool", 1),
  MaxPooling2D: pooling("MaxPool", 2),
  MaxPooling3D: pooling("MaxPool", 3),
  Maximum: mergeAll("Max"),
  Minimum: mergeAll("Min"),
  MultiHeadAttention: multiHeadAttention,
  Multiply: merge("Mul"),
  Normalization: normalization,
  PReLU: prelu,
  Permute: permute,
  RandomBrightness: identity,
  RandomContrast: identity,
  RandomFlip: identity,
  RandomHue: identity,
  RandomRotation: identity,
  RandomSaturation: identity,
  RandomTranslation: identity,
  RandomZoom: identity,
  ReLU: layerRelu,
  RepeatVector: repeatVector,
  Rescaling: rescaling,
  Reshape: reshape,
  SeparableConv1D: separable(1),
  SeparableConv2D: separable(2),
  SimpleRNN: recurrent,
  Softmax: softmax,
  SpatialDropout1D: identity,
  SpatialDropout2D: identity,
  SpatialDropout3D: identity,
  StochasticDepth: identity,
  Subtract: merge("Sub"),
  TFOpLambda: tensorflowCall,
  ThresholdedReLU: layerRelu,
  TimeDistributed: timeDistributed,
  UnitNormalization: unitNormalization,
  UpSampling1D: upSampling(1),
  UpSampling2D: upSampling(2),
  UpSampling3D: upSampling(3),
  ZeroPadding1D: zeroPadding(1),
  ZeroPadding2D: zeroPadding(2),
  ZeroPadding3D: zeroPadding(3),
};

/** Layers that take whole numbers as they are; for all others numbers are cast to float32. */
export const takesIntegers: ReadonlySet<string> = new Set(["Embedding", "Flatten", "Identity", "Permute", "Reshape"]);

/**
 * The rule for a class.
 *
 * @param isFunction whether it is a function of `keras.ops`, some of which have a layer's name
 */
export function ruleOf(className: string, isFunction: boolean): LayerRule | undefined {
  const own = <T>(table: Readonly<Record<string, T>>): T | undefined =>
    Object.hasOwn(table, className) ? table[className] : undefined;
  return (isFunction ? own(kerasFunctions) : undefined) ?? own(layerRules) ?? own(kerasFunctions);
}
