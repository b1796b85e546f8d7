import { type KerasTensor, range, type Shape, valueAxis } from "../builder.ts";
import { listOf } from "../settings.ts";
import { axisOf, input, type LayerCall, type LayerRule, spatial, unsupported } from "./layer.ts";

/** Layers that do nothing outside of training. */
export const identity: LayerRule = (c) => input(c);

/** Sizes multiplied; null where one is free. */
export function product(sizes: Shape): number | null {
  return sizes.reduce<number | null>((a, b) => (a === null || b === null ? null : a * b), 1);
}

/** Everything but the batch in one axis: written where somebody wants it, since a Dense layer takes any order. */
export const flatten: LayerRule = (c) => {
  const given = input(c);
  const first = c.settings.json.data_format === "channels_first" && given.shape.length > 2;
  // Keras flattens in the order of channels-last, whatever the tensor's
  const t = first ? movedLast(c, given) : given.unflattened ? c.b.plain(given) : given;
  const { shape } = t;
  const flat: KerasTensor = { ...t, shape: [shape[0]!, product(shape.slice(1))] };
  if (shape.length === 2) return t;
  if (shape.length === 1)
    return { ...t, shape: [shape[0]!, 1], value: c.b.op(c.name, "Reshape", [t.value, c.b.ints([-1, 1])]) };
  if (t.order === "keras") return { ...flat, value: c.b.op(c.name, "Flatten", [t.value]) };
  const single = shape.slice(1, -1).every((size) => size === 1);
  if (single) return { ...flat, order: "keras", value: c.b.op(c.name, "Flatten", [t.value]) };
  return { ...flat, unflattened: shape };
};

function movedLast(c: LayerCall, given: KerasTensor): KerasTensor {
  const t = c.b.plain(given);
  const { shape } = t;
  // the value stays as it is: what changes is which of its axes Keras counts as the last
  return { ...t, shape: [shape[0]!, ...shape.slice(2), shape[1]!], order: "channels-first" };
}

/** The given shape, one size of which may be -1, to a tensor of a given shape. */
export function reshaped(c: LayerCall, given: KerasTensor, target: readonly number[]): KerasTensor {
  const size = product(given.shape.slice(1));
  const known = target.filter((dim) => dim !== -1).reduce((a, b) => a * b, 1);
  if (target.filter((dim) => dim === -1).length > 1) unsupported(c, `its shape is [${target.join(", ")}]`);
  const shape = target.map((dim) => (dim === -1 ? (size === null ? null : size / known) : dim));
  if (size !== null && product(shape) !== size) {
    unsupported(c, `it makes [${target.join(", ")}] of ${size} elements`, "The file is damaged");
  }
  const batch = given.shape[0]!;
  // where every axis but the channels' has size 1, all orders of the axes are the same
  const single = !given.unflattened && given.shape.slice(1, -1).every((dim) => dim === 1);
  const t = single ? given : c.b.plain(given);
  const channelsOnly = target.length > 1 && shape.slice(0, -1).every((dim) => dim === 1) && shape.at(-1) !== null;
  const order = channelsOnly ? "channels-first" : "keras";
  const written = channelsOnly ? [target.at(-1)!, ...target.slice(0, -1)] : target;
  const value = c.b.op(c.name, "Reshape", [t.value, c.b.ints([0, ...written])]);
  return { ...t, value, shape: [batch, ...shape], order };
}

export const reshape: LayerRule = (c) => reshaped(c, input(c), c.settings.integers("target_shape"));

/** `dims` counts the axes behind the batch from 1. */
export const permute: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const order = [0, ...c.settings.integers("dims", t.shape.length - 1)];
  const valid = new Set(order).size === order.length && order.every((axis) => axis >= 0 && axis < order.length);
  if (!valid) return unsupported(c, `its dims are ${order.slice(1).join(", ")}`, "The file is damaged");
  const value = c.b.op(c.name, "Transpose", [t.value], { perm: order });
  return { ...t, value, shape: order.map((axis) => t.shape[axis]!) };
};

/** [n, features] to [n, times, features]. */
export const repeatVector: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const times = c.settings.number("n");
  const column = c.b.op(`${c.name}/Unsqueeze`, "Unsqueeze", [t.value, c.b.ints([1])]);
  const value = c.b.op(c.name, "Tile", [column, c.b.ints([1, times, 1])]);
  return { ...t, value, shape: [t.shape[0]!, times, ...t.shape.slice(1)] };
};

/** Numbers for each side of each spatial axis: one for all, one an axis, or two an axis. */
function sides(c: LayerCall, setting: string, axes: number): readonly (readonly [number, number])[] {
  const given = c.settings.json[setting];
  if (axes === 1) {
    const [start, end = start] = c.settings.integers(setting);
    return [[start!, end!]];
  }
  const list = listOf(given) ?? new Array<unknown>(axes).fill(given);
  const pairs = list.map((entry) => listOf(entry) ?? [entry, entry]);
  const valid = pairs.every(
    (pair) => pair.length === 2 && pair.every((n) => Number.isSafeInteger(n) && (n as number) >= 0),
  );
  if (pairs.length !== axes || !valid) return unsupported(c, `its '${setting}' can't be read`, "The file is damaged");
  return pairs as [number, number][];
}

export function zeroPadding(axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    const pads = sides(c, "padding", axes);
    const ends = [0, 0, ...pads.map(([start]) => start), 0, 0, ...pads.map(([, end]) => end)];
    const sizes = x.sizes.map((size, i) => (size === null ? null : size + pads[i]![0] + pads[i]![1]));
    return x.result(c.b.op(c.name, "Pad", [x.value, c.b.ints(ends)]), x.channels, sizes);
  };
}

export function cropping(axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    const cuts = sides(c, "cropping", axes);
    const sizes = x.sizes.map((size, i) => (size === null ? null : size - cuts[i]![0] - cuts[i]![1]));
    if (sizes.some((size) => size !== null && size <= 0))
      unsupported(c, "it cuts everything away", "The file is damaged");
    const starts = cuts.map(([start]) => start);
    const ends = cuts.map(([, end]) => (end === 0 ? Number.MAX_SAFE_INTEGER : -end));
    const inputs = [x.value, c.b.ints(starts), c.b.ints(ends), c.b.ints(range(2, axes + 2))];
    return x.result(c.b.op(c.name, "Slice", inputs), x.channels, sizes);
  };
}

/** Every element repeated, or interpolated between the centres of pixels. */
export function upSampling(axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    const factors = c.settings.integers("size", axes, new Array<number>(axes).fill(2));
    const mode = c.settings.text("interpolation", "nearest");
    if (mode !== "nearest" && mode !== "bilinear") unsupported(c, `its interpolation is '${mode}'`);
    const attributes =
      mode === "nearest"
        ? { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" }
        : { mode: "linear", coordinate_transformation_mode: "half_pixel" };
    const scales = c.b.floats([1, 1, ...factors]);
    const value = c.b.op(c.name, "Resize", [x.value, "", scales], attributes);
    return x.result(
      value,
      x.channels,
      x.sizes.map((size, i) => (size === null ? null : size * factors[i]!)),
    );
  };
}

/** Tensors joined along an axis. */
export const concatenate: LayerRule = (c) => {
  const [first] = c.inputs;
  if (!first) return unsupported(c, "it has no input", "The file is damaged");
  const rank = first.shape.length;
  const given = c.named.axis ?? c.settings.json.axis ?? -1;
  const axis = axisOf(c, typeof given === "number" ? given : -1, rank);
  if (c.inputs.some(({ shape }) => shape.length !== rank))
    unsupported(c, "its inputs have unlike numbers of axes", "The file is damaged");
  const channelsFirst = c.inputs.some(({ order, unflattened }) => order === "channels-first" && !unflattened);
  const tensors = c.inputs.map((t) => (channelsFirst ? c.b.channelsFirst(t) : c.b.plain(t)));
  const [lead] = tensors as [KerasTensor];
  const sizes = tensors.map(({ shape }) => shape[axis]!);
  const size = sizes.reduce<number | null>((a, b) => (a === null || b === null ? null : a + b), 0);
  const value = c.b.op(
    c.name,
    "Concat",
    tensors.map((t) => t.value),
    { axis: valueAxis(lead, axis) },
  );
  return { ...lead, value, shape: lead.shape.with(axis, size), masked: tensors.some(({ masked }) => masked === true) };
};
