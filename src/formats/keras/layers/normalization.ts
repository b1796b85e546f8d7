import { float } from "../../../graph/graph.ts";
import { float32, type Tensor, toFloat32 } from "../../../tensor/tensor.ts";
import { computed } from "../arrange.ts";
import type { KerasTensor } from "../builder.ts";
import {
  addWeight,
  axisOf,
  broadcastShape,
  expectChannels,
  input,
  type LayerCall,
  type LayerRule,
  unsupported,
  weightsOf,
} from "./layer.ts";

/** The one axis of a layer that Keras gives as a number or a list. */
function singleAxis(c: LayerCall, rank: number, fallback = -1): number {
  const [axis, ...more] = c.settings.integers("axis", undefined, [fallback]);
  if (axis === undefined || more.length > 0) return unsupported(c, "it normalizes along several axes");
  return axisOf(c, axis, rank);
}

export const batchNormalization: LayerRule = (c) => {
  const given = input(c);
  const axis = singleAxis(c, given.shape.length);
  const last = axis === given.shape.length - 1;
  if (!last && axis !== 1) unsupported(c, `it normalizes along axis ${axis}`);
  const t = last ? c.b.channelsFirst(given) : c.b.plain(given);
  const names = [
    c.settings.flag("scale", true) && "gamma",
    c.settings.flag("center", true) && "beta",
    "moving_mean",
    "moving_variance",
  ] as const;
  const found = weightsOf(c, names, [1, 1, 1, 1]);
  const channels = found[2]!.shape[0]!;
  expectChannels(c, channels, t.shape[axis]);
  const weights = (["gamma", "beta", "moving_mean", "moving_variance"] as const).map((name, i) =>
    addWeight(c, name, found[i] ?? filled(channels, name === "gamma" ? 1 : 0)),
  );
  return elementwiseWith(c, t, "BatchNormalization", weights);
};

function elementwiseWith(c: LayerCall, t: KerasTensor, op: string, weights: readonly string[]): KerasTensor {
  const epsilon = float(c.settings.number("epsilon", 1e-3));
  return { ...t, value: c.b.op(c.name, op, [t.value, ...weights], { epsilon }) };
}

function filled(size: number, value: number): Tensor {
  return computed([size], () => new Float32Array(size).fill(value));
}

/** Over the last axes; ONNX's operator wants them where Keras has them. */
export const layerNormalization: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const rank = t.shape.length;
  const axes = c.settings.integers("axis", undefined, [-1]).map((axis) => axisOf(c, axis, rank));
  const first = Math.min(...axes);
  if (axes.length !== rank - first || new Set(axes).size !== axes.length) {
    return unsupported(c, `it normalizes along the axes ${axes.join(", ")}, which are not the last ones`);
  }
  if (c.settings.flag("rms_scaling", false)) return unsupported(c, "it scales by the root mean square");
  const names = [c.settings.flag("scale", true) && "gamma", c.settings.flag("center", true) && "beta"] as const;
  const [gamma, beta] = weightsOf(c, names, [axes.length, axes.length]);
  const sizes = t.shape.slice(first);
  if (!gamma && sizes.includes(null)) return unsupported(c, "it has no scale and sizes that are free");
  const scale =
    gamma ?? float32(sizes as number[], new Float32Array((sizes as number[]).reduce((a, b) => a * b, 1)).fill(1));
  const inputs = [t.value, addWeight(c, "gamma", scale), ...(beta ? [addWeight(c, "beta", beta)] : [])];
  const attributes = { axis: first - rank, epsilon: float(c.settings.number("epsilon", 1e-3)) };
  return { ...t, value: c.b.op(c.name, "LayerNormalization", inputs, attributes) };
};

/** `groups` -1 is a group a channel. */
export const groupNormalization: LayerRule = (c) => {
  const given = input(c);
  const axis = singleAxis(c, given.shape.length);
  const last = axis === given.shape.length - 1;
  if (!last && axis !== 1) unsupported(c, `it normalizes along axis ${axis}`);
  const t = last ? c.b.channelsFirst(given) : c.b.plain(given);
  const channels = t.shape[axis]!;
  if (channels === null) return unsupported(c, "its input has a free number of channels");
  const names = [c.settings.flag("scale", true) && "gamma", c.settings.flag("center", true) && "beta"] as const;
  const [gamma, beta] = weightsOf(c, names, [1, 1]);
  for (const weight of [gamma, beta]) if (weight) expectChannels(c, weight.shape[0]!, channels);
  const groups = c.settings.number("groups", 32);
  const inputs = [
    t.value,
    addWeight(c, "gamma", gamma ?? filled(channels, 1)),
    addWeight(c, "beta", beta ?? filled(channels, 0)),
  ];
  const attributes = {
    num_groups: groups === -1 ? channels : groups,
    epsilon: float(c.settings.number("epsilon", 1e-3)),
  };
  return { ...t, value: c.b.op(c.name, "GroupNormalization", inputs, attributes) };
};

/** Keras' smallest standard deviation (keras.config.epsilon). */
const smallest = 1e-7;

/** (x - mean) / max(sqrt(variance), 1e-7), or back with `invert`; mean and variance are settings or weights. */
export const normalization: LayerRule = (c) => {
  const given = input(c);
  const axes = c.settings.json.axis === null ? [] : c.settings.integers("axis", undefined, [-1]);
  const kept = axes.map((axis) => axisOf(c, axis, given.shape.length)).sort((a, b) => a - b);
  // constants over several axes are in Keras' order
  const t = kept.length > 1 ? c.b.plain(given) : direct(c, given);
  let [mean, variance] = [c.settings.values("mean"), c.settings.values("variance")];
  if (!mean || !variance) {
    const [m, v] = weightsOf(c, ["mean", "variance"], [kept.length, kept.length]);
    [mean, variance] = [[...toFloat32(m!)], [...toFloat32(v!)]];
  }
  const deviation = variance.map((v) => Math.max(Math.sqrt(v), smallest));
  if (c.settings.flag("invert", false)) return scaled(c, t, kept, deviation, mean);
  const shifted = { ...t, value: combine(c, t, kept, "Sub", "mean", mean) };
  return { ...t, value: combine(c, shifted, kept, "Div", "deviation", deviation) };
};

/** scale x + offset, numbers or one for each channel. */
export const rescaling: LayerRule = (c) => {
  const t = direct(c, input(c));
  const [scale, offset] = [c.settings.values("scale") ?? [1], c.settings.values("offset") ?? [0]];
  return scaled(c, t, [t.shape.length - 1], scale, offset);
};

/** `gamma` x along the last axis (ConvNeXt's layer scale). */
export const layerScale: LayerRule = (c) => {
  const t = direct(c, input(c));
  const [gamma] = weightsOf(c, ["gamma"], [1]);
  const shape = broadcastShape(t, new Map([[t.shape.length - 1, gamma!.shape[0]!]]));
  const weight = addWeight(c, "gamma", { ...gamma!, shape }, t.order);
  return { ...t, value: c.b.op(c.name, "Mul", [t.value, weight]) };
};

function direct(c: LayerCall, t: KerasTensor): KerasTensor {
  return t.unflattened ? c.b.plain(t) : t;
}

function scaled(
  c: LayerCall,
  t: KerasTensor,
  axes: readonly number[],
  scale: readonly number[],
  offset: readonly number[],
): KerasTensor {
  let y = t;
  if (scale.some((v) => v !== 1)) y = { ...t, value: combine(c, t, axes, "Mul", "scale", scale) };
  if (offset.some((v) => v !== 0)) y = { ...y, value: combine(c, y, axes, "Add", "offset", offset) };
  return y;
}

/** Combines a tensor with constants along some of its axes, or with one number. */
function combine(
  c: LayerCall,
  t: KerasTensor,
  axes: readonly number[],
  op: string,
  name: string,
  values: readonly number[],
): string {
  const wanted = axes.map((axis) => t.shape[axis]!);
  if (values.length === 1) return c.b.op(c.name, op, [t.value, c.b.scalar(values[0]!)]);
  const expected = wanted.reduce<number>((a, b) => a * (b ?? 1), 1);
  if (expected !== values.length || axes.length === 0) {
    return unsupported(c, `its ${values.length} values of '${name}' do not fit its input`, "The file is damaged");
  }
  const sizes = new Map(axes.map((axis, i) => [axis, wanted[i]!]));
  const constant = float32(broadcastShape(t, sizes), [...values]);
  return c.b.op(c.name, op, [t.value, addWeight(c, name, constant, t.order)]);
}

/** x / max(norm, 1e-12) along some axes. */
export const unitNormalization: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const axes = c.settings.integers("axis", undefined, [-1]).map((axis) => axisOf(c, axis, t.shape.length));
  const norm = c.b.op(`${c.name}/norm`, "ReduceL2", [t.value, c.b.ints(axes)], { keepdims: 1 });
  const least = c.b.op(`${c.name}/Max`, "Max", [norm, c.b.scalar(1e-12)]);
  return { ...t, value: c.b.op(c.name, "Div", [t.value, least]) };
};
