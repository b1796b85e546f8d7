import { intAttribute, intsAttribute, type Node, stringAttribute } from "../../graph/graph.ts";
import { type Backward, ints, type Rule, scalar } from "../rule.ts";
import { count, dyOf, reshaped, shapeIn, shapeOut, sumOver } from "./helpers.ts";

/** A convolution's geometry, one entry a spatial axis, padding resolved. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly begins: readonly number[];
  readonly ends: readonly number[];
  readonly group: number;
}

/**
 * Geometry of a convolution or pooling node.
 *
 * @param from spatial sizes before, `to` after (the larger side first for ConvTranspose)
 */
export function windowOf(
  node: Node,
  kernel: readonly number[],
  from: readonly number[],
  to: readonly number[],
): Window {
  const strides = intsAttribute(node, "strides") ?? kernel.map(() => 1);
  const dilations = intsAttribute(node, "dilations") ?? kernel.map(() => 1);
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  const group = intAttribute(node, "group", 1);
  if (auto === "SAME_UPPER" || auto === "SAME_LOWER") {
    const total = kernel.map((k, i) =>
      Math.max(0, (to[i]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1 - from[i]!),
    );
    const small = total.map((t) => Math.floor(t / 2));
    const large = total.map((t, i) => t - small[i]!);
    const [begins, ends] = auto === "SAME_UPPER" ? [small, large] : [large, small];
    return { kernel, strides, dilations, begins, ends, group };
  }
  const pads = auto === "VALID" ? undefined : intsAttribute(node, "pads");
  const begins = kernel.map((_, i) => pads?.[i] ?? 0);
  const ends = kernel.map((_, i) => pads?.[kernel.length + i] ?? 0);
  return { kernel, strides, dilations, begins, ends, group };
}

export const convRule: Rule = (g) => {
  const [x, w] = [shapeIn(g, 0), shapeIn(g, 1)];
  const window = windowOf(g.node, w.slice(2), x.slice(2), shapeOut(g).slice(2));
  const dy = dyOf(g);
  return [
    g.wants(0) ? convInput(g, dy, g.node.inputs[1]!, x.slice(2), shapeOut(g).slice(2), window) : undefined,
    g.wants(1)
      ? convWeight(g, { name: g.node.inputs[0]!, shape: x }, { name: dy, shape: shapeOut(g) }, window)
      : undefined,
    g.node.inputs[2] && g.wants(2) ? channelSum(g, dy, shapeOut(g)) : undefined,
  ];
};

/** The bias's gradient: the sum over everything but channels. */
function channelSum(g: Backward, dy: string, shape: readonly number[]): string {
  return sumOver(
    g,
    dy,
    shape.flatMap((_, axis) => (axis === 1 ? [] : [axis])),
    false,
  );
}

/**
 * dx of a convolution: the transposed convolution of dy with the same weights, padded at the end where the strides did
 * not reach.
 */
export function convInput(
  g: Backward,
  dy: string,
  w: string,
  from: readonly number[],
  to: readonly number[],
  window: Window,
): string {
  const { kernel, strides, dilations, begins, ends, group } = window;
  const reach = kernel.map((k, i) => (to[i]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1);
  // the transposed convolution makes reach - begin - end + output_padding elements
  const unreached = reach.map((r, i) => from[i]! - (r - begins[i]! - ends[i]!));
  return g.op("ConvTranspose", [dy, w], {
    kernel_shape: [...kernel],
    strides: [...strides],
    dilations: [...dilations],
    pads: [...begins, ...ends],
    output_padding: unreached,
    group,
  });
}

interface Shaped {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * dW of a convolution: dW[o, i, k] = Σ_{n, p} x[n, i, s p + d k - pad] dy[n, o, p]. By taps where there is one group or
 * one channel a group, which the runtime's matrix products and elementwise kernels do best; else as a convolution.
 */
export function convWeight(g: Backward, x: Shaped, dy: Shaped, window: Window): string {
  if (window.group === 1) return weightByTaps(g, x, dy, window);
  const depthwise = x.shape[1] === window.group && dy.shape[1] === window.group;
  return depthwise ? depthwiseByTaps(g, x, dy, window) : weightByConvolution(g, x, dy, window);
}

/** Every tap of a kernel as its coordinates, the last one moving fastest. */
function taps(kernel: readonly number[]): readonly (readonly number[])[] {
  return kernel.reduce<readonly (readonly number[])[]>(
    (all, size) => all.flatMap((tap) => Array.from({ length: size }, (_, k) => [...tap, k])),
    [[]],
  );
}

/** x with zeros around it, such that every tap of every window lies inside; more at the end of the first spatial axis. */
function padded(g: Backward, x: Shaped, dy: Shaped, window: Window, extra: number): Shaped {
  const { kernel, strides, dilations, begins } = window;
  const ends = kernel.map((k, i) => {
    const reach = (dy.shape[i + 2]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1;
    return Math.max(0, reach - x.shape[i + 2]! - begins[i]!) + (i === 0 ? extra : 0);
  });
  const shape = x.shape.map((dim, axis) => (axis < 2 ? dim : dim + begins[axis - 2]! + ends[axis - 2]!));
  if ([...begins, ...ends].every((n) => n === 0)) return x;
  return { name: g.op("Pad", [x.name, ints(g, [0, 0, ...begins, 0, 0, ...ends]), scalar(g, 0)]), shape };
}

/** The elements that one tap meets, [n, channels, ...places of dy]. */
function strided(g: Backward, x: Shaped, dy: Shaped, { strides, dilations }: Window, tap: readonly number[]): string {
  const starts = tap.map((k, i) => k * dilations[i]!);
  const ends = starts.map((start, i) => start + (dy.shape[i + 2]! - 1) * strides[i]! + 1);
  const axes = tap.map((_, i) => i + 2);
  if (ends.every((end, i) => starts[i] === 0 && end === x.shape[i + 2])) return x.name;
  const steps = strides.every((stride) => stride === 1) ? [] : [ints(g, strides)];
  return g.op("Slice", [x.name, ints(g, starts), ints(g, ends), ints(g, axes), ...steps]);
}

/**
 * One matrix product a tap, summed over the batch. At stride 1 the padded image is flattened, so that every tap is one
 * contiguous piece of it: dy then gets the padded image's rows, zeros at their ends.
 */
function weightByTaps(g: Backward, x: Shaped, dy: Shaped, window: Window): string {
  const { kernel, strides, dilations } = window;
  const [n, channels, out] = [x.shape[0]!, x.shape[1]!, dy.shape[1]!];
  const all = taps(kernel);
  const contiguous = all.length > 1 && strides.every((stride) => stride === 1);
  const image = padded(g, x, dy, window, contiguous && kernel.length > 1 ? 1 : 0);
  const places = count(dy.shape.slice(2));
  let pieces: (tap: readonly number[]) => string;
  let rows: string;
  if (contiguous) {
    const inner = image.shape.slice(3);
    const wide = [n, out, dy.shape[2]!, ...inner];
    const ends = wide.map((dim, axis) => dim - dy.shape[axis]!);
    const zeros = [...wide.map(() => 0), ...ends];
    const spread = ends.every((e) => e === 0) ? dy.name : g.op("Pad", [dy.name, ints(g, zeros), scalar(g, 0)]);
    const length = count(wide.slice(2));
    rows = g.op("Reshape", [spread, ints(g, [n, out, length])]);
    const flat = g.op("Reshape", [image.name, ints(g, [n, channels, count(image.shape.slice(2))])]);
    pieces = (tap) => {
      const start = tap.reduce((sum, k, i) => sum + k * dilations[i]! * count(image.shape.slice(i + 3)), 0);
      return g.op("Slice", [flat, ints(g, [start]), ints(g, [start + length]), ints(g, [2])]);
    };
  } else {
    rows = g.op("Reshape", [dy.name, ints(g, [n, out, places])]);
    pieces = (tap) => g.op("Reshape", [strided(g, image, dy, window, tap), ints(g, [n, channels, places])]);
  }
  const products = all.map((tap) => {
    const product = g.op("MatMul", [rows, g.op("Transpose", [pieces(tap)], { perm: [0, 2, 1] })]);
    return g.op("ReduceSum", [product, ints(g, [0])], { keepdims: 1 });
  });
  const stacked = products.length === 1 ? products[0]! : g.op("Concat", products, { axis: 0 });
  const ordered = g.op("Transpose", [stacked], { perm: [1, 2, 0] });
  return g.op("Reshape", [ordered, ints(g, [out, channels, ...kernel])]);
}

/** One channel a group: the sum over batch and places of x dy, tap by tap. */
function depthwiseByTaps(g: Backward, x: Shaped, dy: Shaped, window: Window): string {
  const image = padded(g, x, dy, window, 0);
  const axes = dy.shape.map((_, axis) => axis).filter((axis) => axis !== 1);
  const sums = taps(window.kernel).map((tap) => {
    const sum = sumOver(g, g.op("Mul", [strided(g, image, dy, window, tap), dy.name]), axes, false);
    return g.op("Reshape", [sum, ints(g, [dy.shape[1]!, 1])]);
  });
  const stacked = sums.length === 1 ? sums[0]! : g.op("Concat", sums, { axis: 1 });
  return g.op("Reshape", [stacked, ints(g, [dy.shape[1]!, 1, ...window.kernel])]);
}

/**
 * dW as a convolution in which batch and channels change places, and strides and dilations too.
 */
function weightByConvolution(g: Backward, x: Shaped, dy: Shaped, window: Window): string {
  const { kernel, strides, dilations, begins, group } = window;
  const spatial = kernel.map((_, i) => i + 2);
  const [n, channels] = [x.shape[0]!, x.shape[1]!];
  const perGroup = channels / group;
  const space = x.shape.slice(2);
  // [I / group, group, N, ...] seen as a batch of I / group with group * N channels
  const split = reshaped(g, x.name, x.shape, [n, group, perGroup, ...space]);
  const swapped = g.op("Transpose", [split], { perm: [2, 1, 0, ...spatial.map((axis) => axis + 1)] });
  const image = reshaped(g, swapped, [perGroup, group, n, ...space], [perGroup, group * n, ...space]);
  const filters = g.op("Transpose", [dy.name], { perm: [1, 0, ...spatial] });
  // how far the windows reach beyond the image: padding there; where they stop short, taps too many are cut off
  const over = kernel.map(
    (k, i) => (dy.shape[i + 2]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1 - space[i]! - begins[i]!,
  );
  const raw = g.op("Conv", [image, filters], {
    kernel_shape: dy.shape.slice(2),
    strides: [...dilations],
    dilations: [...strides],
    pads: [...begins, ...over.map((o) => Math.max(o, 0))],
    group,
  });
  const made = kernel.map((k, i) => k + Math.floor(Math.max(-over[i]!, 0) / dilations[i]!));
  const transposed = g.op("Transpose", [raw], { perm: [1, 0, ...spatial] });
  if (made.every((m, i) => m === kernel[i])) return transposed;
  return g.op("Slice", [
    transposed,
    ints(
      g,
      kernel.map(() => 0),
    ),
    ints(g, kernel),
    ints(g, spatial),
  ]);
}

/** The transposed convolution is dx of a convolution, so its dx is the convolution, and its dW that with roles exchanged. */
export const convTransposeRule: Rule = (g) => {
  const [x, w] = [shapeIn(g, 0), shapeIn(g, 1)];
  const window = transposedWindow(g, w.slice(2), x.slice(2), shapeOut(g).slice(2));
  const { kernel, strides, dilations, begins, ends, group } = window;
  const dy = dyOf(g);
  const dx = (): string => {
    const pads = [...begins, ...ends];
    return g.op("Conv", [dy, g.node.inputs[1]!], {
      kernel_shape: [...kernel],
      strides: [...strides],
      dilations: [...dilations],
      pads,
      group,
    });
  };
  const shaped = { name: dy, shape: shapeOut(g) };
  return [
    g.wants(0) ? dx() : undefined,
    g.wants(1) ? convWeight(g, shaped, { name: g.node.inputs[0]!, shape: x }, window) : undefined,
    g.node.inputs[2] && g.wants(2) ? channelSum(g, dy, shapeOut(g)) : undefined,
  ];
};

/** Padding such that a convolution over the output gives exactly the input's size. */
function transposedWindow(
  g: Backward,
  kernel: readonly number[],
  from: readonly number[],
  to: readonly number[],
): Window {
  const plain = windowOf(g.node, kernel, to, from);
  const { strides, dilations } = plain;
  const auto = stringAttribute(g.node, "auto_pad", "NOTSET");
  const reach = kernel.map((k, i) => (from[i]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1);
  const total = reach.map((r, i) => r - to[i]!);
  const fixed = auto === "NOTSET" && !intsAttribute(g.node, "output_shape");
  const begins = total.map((t, i) => {
    if (fixed) return plain.begins[i]!;
    const padded = Math.max(0, t);
    return auto === "SAME_UPPER" ? Math.floor(padded / 2) : padded - Math.floor(padded / 2);
  });
  return { ...plain, begins, ends: total.map((t, i) => Math.max(0, t - begins[i]!)) };
}
