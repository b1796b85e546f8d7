import { intAttribute, intsAttribute, type Node } from "../../graph/graph.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import type { Window } from "../rules/convolution.ts";
import { reshaped, sumOver } from "../rules/helpers.ts";
import { ints, scalar, type Writer } from "../writer.ts";

/** Geometry of one of pare's convolution gradients, with the shapes of the convolution's input and output. */
export function geometry(node: Node): { window: Window; input: readonly number[]; output: readonly number[] } {
  const list = (name: string): readonly number[] => intsAttribute(node, name) ?? [];
  const [kernel, pads] = [list("kernel_shape"), list("pads")];
  const window: Window = {
    kernel,
    strides: list("strides"),
    dilations: list("dilations"),
    begins: pads.slice(0, kernel.length),
    ends: pads.slice(kernel.length),
    group: intAttribute(node, "group", 1),
  };
  return { window, input: list("input_shape"), output: list("output_shape") };
}

/**
 * Padding under which a convolution at stride 1 of dy with the flipped weights gives dx; undefined where it would be
 * negative.
 *
 * @param from the convolution's spatial sizes before, `to` after, zeros between strides counted in
 */
export function gradientPads(
  { kernel, dilations, begins }: Window,
  from: readonly number[],
  to: readonly number[],
): number[] | undefined {
  const before = kernel.map((k, i) => dilations[i]! * (k - 1) - begins[i]!);
  const after = kernel.map((k, i) => from[i]! - to[i]! - before[i]! + dilations[i]! * (k - 1));
  const pads = [...before, ...after];
  return pads.every((pad) => pad >= 0) ? pads : undefined;
}

/** Weights with every spatial axis reversed. */
export function flipped(g: Writer, w: string, kernel: readonly number[]): string {
  const axes = kernel.flatMap((k, i) => (k > 1 ? [i] : []));
  if (axes.length === 0) return w;
  const at = (value: number): string =>
    ints(
      g,
      axes.map(() => value),
    );
  const places = axes.map((axis) => axis + 2);
  return g.op("Slice", [w, at(-1), at(-(2 ** 31)), ints(g, places), at(-1)]);
}

/** dx of a convolution, in plain layout. */
export function convInputGradient(g: Writer, node: Node): string {
  const [dy, w] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  const pads = gradientPads(window, input.slice(2), output.slice(2));
  if (!pads || window.strides.some((stride) => stride > 1)) {
    return convInput(g, dy, w, input.slice(2), output.slice(2), window);
  }
  const { kernel, dilations, group } = window;
  const [out, channels] = [output[1]! / group, input[1]! / group];
  const grouped = [group, out, channels, ...kernel];
  const back = [group * channels, out, ...kernel];
  const perm = grouped.map((_, i) => (i === 1 ? 2 : i === 2 ? 1 : i));
  const turned = g.op("Transpose", [g.op("Reshape", [flipped(g, w, kernel), ints(g, grouped)])], { perm });
  return g.op("Conv", [dy, g.op("Reshape", [turned, ints(g, back)])], {
    kernel_shape: [...kernel],
    dilations: [...dilations],
    pads,
    group,
  });
}

/** dW of a convolution, in plain layout. */
export function convWeightGradient(g: Writer, node: Node): string {
  const [x, dy] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  return convWeight(g, { name: x, shape: input }, { name: dy, shape: output }, window);
}

/**
 * dx of a convolution: the transposed convolution of dy with the same weights, padded at the end where the strides did
 * not reach.
 */
function convInput(
  g: Writer,
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
function convWeight(g: Writer, x: Shaped, dy: Shaped, window: Window): string {
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
function padded(g: Writer, x: Shaped, dy: Shaped, window: Window, extra: number): Shaped {
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
function strided(g: Writer, x: Shaped, dy: Shaped, { strides, dilations }: Window, tap: readonly number[]): string {
  const starts = tap.map((k, i) => k * dilations[i]!);
  const ends = starts.map((start, i) => start + (dy.shape[i + 2]! - 1) * strides[i]! + 1);
  const axes = tap.map((_, i) => i + 2);
  if (ends.every((end, i) => starts[i] === 0 && end === x.shape[i + 2])) return x.name;
  const steps = strides.every((stride) => stride === 1) ? [] : [ints(g, strides)];
  return g.op("Slice", [x.name, ints(g, starts), ints(g, ends), ints(g, axes), ...steps]);
}

/**
 * One matrix product a tap, of several taps where channels are few, summed over the batch. At stride 1 the padded image
 * is flattened, so that every tap is one contiguous piece of it: dy then gets the padded image's rows, zeros at their ends.
 */
function weightByTaps(g: Writer, x: Shaped, dy: Shaped, window: Window): string {
  const { kernel, strides, dilations } = window;
  const [n, channels, out] = [x.shape[0]!, x.shape[1]!, dy.shape[1]!];
  const all = taps(kernel);
  const contiguous = all.length > 1 && strides.every((stride) => stride === 1);
  const image = padded(g, x, dy, window, contiguous && kernel.length > 1 ? 1 : 0);
  const places = sizeOf(dy.shape.slice(2));
  let pieces: (tap: readonly number[]) => string;
  let rows: string;
  if (contiguous) {
    const inner = image.shape.slice(3);
    const wide = [n, out, dy.shape[2]!, ...inner];
    const ends = wide.map((dim, axis) => dim - dy.shape[axis]!);
    const zeros = [...wide.map(() => 0), ...ends];
    const spread = ends.every((e) => e === 0) ? dy.name : g.op("Pad", [dy.name, ints(g, zeros), scalar(g, 0)]);
    const length = sizeOf(wide.slice(2));
    rows = g.op("Reshape", [spread, ints(g, [n, out, length])]);
    const flat = g.op("Reshape", [image.name, ints(g, [n, channels, sizeOf(image.shape.slice(2))])]);
    pieces = (tap) => {
      const start = tap.reduce((sum, k, i) => sum + k * dilations[i]! * sizeOf(image.shape.slice(i + 3)), 0);
      return g.op("Slice", [flat, ints(g, [start]), ints(g, [start + length]), ints(g, [2])]);
    };
  } else {
    rows = g.op("Reshape", [dy.name, ints(g, [n, out, places])]);
    pieces = (tap) => g.op("Reshape", [strided(g, image, dy, window, tap), ints(g, [n, channels, places])]);
  }
  const perProduct = channels < fewChannels ? Math.ceil(productWidth / channels) : 1;
  const products = chunks(all, perProduct).map((some) => {
    const columns = some.length === 1 ? pieces(some[0]!) : g.op("Concat", some.map(pieces), { axis: 1 });
    const product = g.op("MatMul", [rows, g.op("Transpose", [columns], { perm: [0, 2, 1] })]);
    const sum = g.op("ReduceSum", [product, ints(g, [0])], { keepdims: 0 });
    return g.op("Reshape", [sum, ints(g, [out, some.length, channels])]);
  });
  const stacked = products.length === 1 ? products[0]! : g.op("Concat", products, { axis: 1 });
  const ordered = g.op("Transpose", [stacked], { perm: [0, 2, 1] });
  return g.op("Reshape", [ordered, ints(g, [out, channels, ...kernel])]);
}

/** With fewer channels than this, several taps share a matrix product: one of few columns takes as long as one of many. */
const fewChannels = 16;
const productWidth = 32;

function chunks<T>(values: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(values.length / size) }, (_, i) => values.slice(i * size, (i + 1) * size));
}

/** One channel a group: the sum over batch and places of x dy, tap by tap. */
function depthwiseByTaps(g: Writer, x: Shaped, dy: Shaped, window: Window): string {
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
function weightByConvolution(g: Writer, x: Shaped, dy: Shaped, window: Window): string {
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
