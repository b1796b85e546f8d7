import type { KerasTensor, Shape } from "../builder.ts";
import { applied, gelu } from "./activation.ts";
import { axisOf, input, type LayerCall, type LayerRule, unsupported } from "./layer.ts";
import { merge } from "./merge.ts";
import { concatenate, reshaped } from "./shape.ts";

/** Keras 2 gives the second operand by name (`y`), Keras 3 by place. */
function both(c: LayerCall): readonly (KerasTensor | number)[] {
  const extra = c.named.y ?? c.named.x2;
  const number = typeof extra === "number" || (typeof extra === "object" && extra !== null && "order" in extra);
  return number ? [...c.operands, extra as KerasTensor | number] : c.operands;
}

const activation =
  (name: string): LayerRule =>
  (c) =>
    applied(c, input(c), name);

/** Mean over some axes. */
const mean: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const rank = t.shape.length;
  const given = c.named.axis ?? c.settings.json.axis;
  const list = given === undefined || given === null ? t.shape.map((_, axis) => axis) : [given].flat(1);
  const axes = (list as unknown[]).map((axis) => axisOf(c, typeof axis === "number" ? axis : Number.NaN, rank));
  const keep = (c.named.keepdims ?? c.settings.json.keepdims) === true;
  const value = c.b.op(c.name, "ReduceMean", [t.value, c.b.ints(axes)], { keepdims: keep ? 1 : 0 });
  const shape: Shape = t.shape.flatMap((size, axis) => (axes.includes(axis) ? (keep ? [1] : []) : [size]));
  return { ...t, value, shape };
};

const reshape: LayerRule = (c) => {
  const given = c.named.shape ?? c.named.newshape ?? c.settings.json.newshape ?? c.settings.json.shape;
  if (!Array.isArray(given) || !given.every(Number.isSafeInteger)) return unsupported(c, "its shape is not fixed");
  return reshaped(c, input(c), (given as number[]).slice(1));
};

const arithmetic = {
  add: merge("Add", both),
  subtract: merge("Sub", both),
  multiply: merge("Mul", both),
  divide: merge("Div", both),
  power: merge("Pow", both),
} as const;

/** Functions called on Keras tensors: `tf.math...` as Keras 2 records them, by the name it gives. */
export const tensorflowFunctions: Readonly<Record<string, LayerRule>> = {
  "__operators__.add": arithmetic.add,
  "math.add": arithmetic.add,
  "math.subtract": arithmetic.subtract,
  "math.multiply": arithmetic.multiply,
  "math.truediv": arithmetic.divide,
  "math.divide": arithmetic.divide,
  "math.pow": arithmetic.power,
  "math.reduce_mean": mean,
  "math.sigmoid": activation("sigmoid"),
  "math.tanh": activation("tanh"),
  "nn.relu": activation("relu"),
  "nn.relu6": activation("relu6"),
  "nn.sigmoid": activation("sigmoid"),
  "nn.silu": activation("silu"),
  "nn.softmax": activation("softmax"),
  "nn.tanh": activation("tanh"),
  concat: concatenate,
  reshape,
};

/** A call of a TensorFlow function that Keras 2 turned into a layer. */
export const tensorflowCall: LayerRule = (c) => {
  const name = c.settings.text("function");
  const rule = Object.hasOwn(tensorflowFunctions, name) ? tensorflowFunctions[name] : undefined;
  if (!rule) return unsupported(c, `the TensorFlow function '${name}' is not supported`);
  return rule(c);
};

/** Functions of `keras.ops` on Keras tensors, by the class that Keras 3 records; those with a layer's name are there. */
export const kerasFunctions: Readonly<Record<string, LayerRule>> = {
  Add: arithmetic.add,
  Concatenate: concatenate,
  Divide: arithmetic.divide,
  Elu: activation("elu"),
  Gelu: gelu,
  HardSigmoid: activation("hard_sigmoid"),
  HardSilu: activation("hard_silu"),
  Mean: mean,
  Multiply: arithmetic.multiply,
  Power: arithmetic.power,
  Relu: activation("relu"),
  Relu6: activation("relu6"),
  Reshape: reshape,
  Sigmoid: activation("sigmoid"),
  Silu: activation("silu"),
  Softmax: activation("softmax"),
  Subtract: arithmetic.subtract,
  Tanh: activation("tanh"),
  TrueDivide: arithmetic.divide,
};
