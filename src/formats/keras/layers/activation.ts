import { didYouMean, fail } from "../../../errors.ts";
import { float } from "../../../graph/graph.ts";
import { arranged } from "../arrange.ts";
import { type Attributes, type KerasTensor, range, valueAxis } from "../builder.ts";
import { isJson } from "../settings.ts";
import {
  addWeight,
  axisOf,
  broadcastShape,
  elementwise,
  input,
  type LayerCall,
  type LayerRule,
  unsupported,
  weightsOf,
} from "./layer.ts";

/** Writes the nodes of a function. */
interface Writer {
  op(op: string, inputs: readonly string[], attributes?: Attributes): string;
  scalar(value: number): string;
  /** Major version of Keras. */
  readonly keras: number;
  /** Where the value has Keras' last axis. */
  readonly lastAxis: number;
}

type Activation = (w: Writer, x: string) => string;

const unary =
  (op: string, attributes: Attributes = {}): Activation =>
  (w, x) =>
    w.op(op, [x], attributes);

const timesItself =
  (gate: Activation): Activation =>
  (w, x) =>
    w.op("Mul", [x, gate(w, x)]);

/** Keras 2: 0.2 x + 0.5 between 0 and 1; Keras 3: x / 6 + 0.5. */
const hardSigmoid: Activation = (w, x) => w.op("HardSigmoid", [x], hardSigmoidAttributes(w.keras));

/** Slope and offset of Keras' hard sigmoid. */
export function hardSigmoidAttributes(keras: number): { readonly alpha: number; readonly beta: number } {
  return { alpha: keras < 3 ? 0.2 : 1 / 6, beta: 0.5 };
}

const clip =
  (low: number, high: number): Activation =>
  (w, x) =>
    w.op("Clip", [x, w.scalar(low), w.scalar(high)]);

/** Activation functions by the names that Keras gives them. */
export const activations: Readonly<Record<string, Activation>> = {
  celu: unary("Celu"),
  elu: unary("Elu"),
  exponential: unary("Exp"),
  gelu: unary("Gelu"),
  hard_sigmoid: hardSigmoid,
  hard_silu: unary("HardSwish"),
  hard_swish: unary("HardSwish"),
  hard_tanh: clip(-1, 1),
  leaky_relu: unary("LeakyRelu", { alpha: float(0.2) }),
  linear: (_, x) => x,
  log_sigmoid: (w, x) => w.op("Neg", [w.op("Softplus", [w.op("Neg", [x])])]),
  log_softmax: (w, x) => w.op("LogSoftmax", [x], { axis: w.lastAxis }),
  mish: unary("Mish"),
  relu: unary("Relu"),
  relu6: clip(0, 6),
  // ONNX's defaults are Keras' constants
  selu: unary("Selu"),
  sigmoid: unary("Sigmoid"),
  silu: timesItself(unary("Sigmoid")),
  softmax: (w, x) => w.op("Softmax", [x], { axis: w.lastAxis }),
  softplus: unary("Softplus"),
  softsign: unary("Softsign"),
  swish: timesItself(unary("Sigmoid")),
  tanh: unary("Tanh"),
  tanh_shrink: (w, x) => w.op("Sub", [x, w.op("Tanh", [x])]),
};

/** Functions that look at other elements than their own. */
const alongLastAxis = new Set(["softmax", "log_softmax"]);

/** The name of an activation as Keras 2 (text) and 3 (text, or an object) write it; undefined for a layer's object. */
export function activationName(c: LayerCall, setting = "activation", fallback = "linear"): string | undefined {
  const given = c.settings.json[setting] ?? fallback;
  if (typeof given === "string") return given;
  if (isJson(given) && typeof given.config === "string") return given.config;
  return isJson(given) && isJson(given.config) ? undefined : fail(c.settings.who, `its '${setting}' can't be read`);
}

/** Applies the activation that a layer's settings name. */
export function activate(c: LayerCall, t: KerasTensor): KerasTensor {
  const name = activationName(c);
  return name === undefined ? c.wrapped(c.settings.json.activation, "activation", [t])[0]! : applied(c, t, name);
}

/** Applies an activation function. */
export function applied(c: LayerCall, t: KerasTensor, name: string): KerasTensor {
  if (name === "linear") return t;
  const activation = Object.hasOwn(activations, name) ? activations[name] : undefined;
  if (!activation) {
    return unsupported(c, `its activation '${name}' is not known`, didYouMean(name, Object.keys(activations)));
  }
  const x = t.unflattened && alongLastAxis.has(name) ? c.b.plain(t) : t;
  // the first function of a layer that is nothing but its activation takes the layer's name
  const alone = c.inputs.some(({ value }) => value === t.value);
  const write: Writer = {
    op: (op, inputs, attributes) => c.b.op(alone ? c.name : `${c.name}/${op}`, op, inputs, attributes),
    scalar: c.b.scalar,
    keras: c.keras,
    lastAxis: valueAxis(x, x.shape.length - 1),
  };
  return { ...x, value: activation(write, x.value) };
}

/** f(x) = max_value where x >= max_value, x where x >= threshold, else negative_slope (x - threshold). */
export const layerRelu: LayerRule = (c) => {
  const t = input(c);
  const { b, settings } = c;
  const most = settings.json.max_value == null ? undefined : settings.number("max_value");
  const slope = settings.number("negative_slope", 0);
  const threshold = settings.number("threshold", settings.number("theta", 0));
  if (threshold === 0 && slope === 0) {
    if (most === undefined) return elementwise(c, t, "Relu");
    return { ...t, value: b.op(c.name, "Clip", [t.value, b.scalar(0), b.scalar(most)]) };
  }
  let y: string;
  if (threshold === 0) y = b.op(c.name, "LeakyRelu", [t.value], { alpha: float(slope) });
  else {
    const limit = b.scalar(threshold);
    const below = b.op(`${c.name}/below`, "Mul", [b.op(`${c.name}/shift`, "Sub", [t.value, limit]), b.scalar(slope)]);
    y = b.op(c.name, "Where", [b.op(`${c.name}/less`, "Less", [t.value, limit]), below, t.value]);
  }
  return { ...t, value: most === undefined ? y : b.op(`${c.name}/Min`, "Min", [y, b.scalar(most)]) };
};

/** The settings that Keras 2 and 3 name differently. */
export const leakyRelu: LayerRule = (c) => {
  const alpha = c.settings.number("negative_slope", c.settings.number("alpha", 0.3));
  return elementwise(c, input(c), "LeakyRelu", { alpha: float(alpha) });
};

export const elu: LayerRule = (c) => elementwise(c, input(c), "Elu", { alpha: float(c.settings.number("alpha", 1)) });

/** A slope for every element of a sample, or for each along the axes that are not shared. */
export const prelu: LayerRule = (c) => {
  const given = input(c);
  const t = given.unflattened ? c.b.plain(given) : given;
  const axes = t.shape.length - 1;
  const [alpha] = weightsOf(c, ["alpha"], [axes]);
  const sizes = new Map(alpha!.shape.map((size, i) => [i + 1, size]));
  const shape = broadcastShape(t, sizes);
  const order = t.order === "keras" ? range(0, axes) : [axes - 1, ...range(0, axes - 1)];
  const slope = addWeight(c, "alpha", arranged(alpha!, alpha!.shape, order, shape), t.order);
  return { ...t, value: c.b.op(c.name, "PRelu", [t.value, slope]) };
};

export const softmax: LayerRule = (c) => {
  const given = input(c);
  const t = given.unflattened ? c.b.plain(given) : given;
  if (c.inputs.length > 1) return unsupported(c, "it is called with a mask");
  const [axis, ...more] = c.settings.integers("axis", undefined, [-1]);
  if (axis === undefined || more.length > 0) return unsupported(c, "it runs over several axes at once");
  return { ...t, value: c.b.op(c.name, "Softmax", [t.value], { axis: valueAxis(t, axisOf(c, axis, t.shape.length)) }) };
};

/** An activation layer, whose function its settings name. */
export const activation: LayerRule = (c) => activate(c, input(c));

/** `keras.ops.gelu` and its layer: exact, or with tanh. */
export const gelu: LayerRule = (c) => {
  const approximate = c.named.approximate ?? c.settings.json.approximate ?? true;
  return elementwise(c, input(c), "Gelu", { approximate: approximate === true ? "tanh" : "none" });
};
