import type { Node } from "../../graph/graph.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import { type Window, windowOf } from "../rules/convolution.ts";
import { ints, scalar } from "../writer.ts";
import { type BlockedLowering, type Layout, nchwc } from "./blocked.ts";
import { flipped, geometry, gradientPads } from "./convolution.ts";

/** Channels of a convolution, as the layout sees them. */
interface Channels {
  readonly input: number;
  readonly output: number;
  readonly group: number;
}

const isDepthwise = ({ input, output, group }: Channels): boolean => group === input && group === output;

/** Whether the layout can hold both sides; groups need whole blocks, or one channel each. */
function holds(layout: Layout, channels: Channels): boolean {
  const { input, output, group } = channels;
  if (!layout.fits(input) || !layout.fits(output)) return false;
  const whole = (n: number): boolean => (n / group) % layout.block === 0;
  return group === 1 || isDepthwise(channels) || (whole(input) && whole(output));
}

/**
 * Weights [O, I/g, kh, kw] in the order the blocked kernels read: [O/b, I/b, kh, kw, b of I, b of O].
 *
 * @param backward for dx: the roles of O and I exchanged; the caller has flipped the taps
 */
function filter(w: string, kernel: readonly number[], channels: Channels, layout: Layout, backward = false): string {
  const { g, block } = layout;
  const { input, output, group } = channels;
  const [o, i] = [layout.padded(output), layout.padded(input)];
  const filled = (rows: number, columns: number): string => {
    if (rows === 0 && columns === 0) return w;
    return g.op("Pad", [w, ints(g, [0, 0, 0, 0, rows, columns, 0, 0]), scalar(g, 0)]);
  };
  if (isDepthwise(channels)) {
    const split = g.op("Reshape", [filled(o - output, 0), ints(g, [o / block, block, ...kernel])]);
    const turned = g.op("Transpose", [split], { perm: [0, 2, 3, 1] });
    return g.op("Reshape", [turned, ints(g, [o, 1, ...kernel])]);
  }
  const full = group === 1 ? filled(o - output, i - input) : w;
  const [taps, perI] = [sizeOf(kernel), i / group / block];
  // in two steps of which each moves one axis: the runtime has no fast way for more at once
  const lanes =
    taps === 1
      ? full
      : g.op("Transpose", [g.op("Reshape", [full, ints(g, [o, perI, block, taps])])], { perm: [0, 1, 3, 2] });
  if (backward) {
    const split = g.op("Reshape", [lanes, ints(g, [group, o / group / block, block, perI, taps, block])]);
    const turned = g.op("Transpose", [split], { perm: [0, 3, 1, 4, 2, 5] });
    return g.op("Reshape", [turned, ints(g, [i, o / group, ...kernel])]);
  }
  const rows = g.op("Reshape", [lanes, ints(g, [o / block, block, perI * taps * block])]);
  const turned = g.op("Transpose", [rows], { perm: [0, 2, 1] });
  return g.op("Reshape", [turned, ints(g, [o, i / group, ...kernel])]);
}

/** Weights of a convolution that reads few plain channels: [O/b, I, kh, kw, b]. */
function filterOfPlain(w: string, input: number, output: number, kernel: readonly number[], layout: Layout): string {
  const { g, block } = layout;
  const o = layout.padded(output);
  const full = o === output ? w : g.op("Pad", [w, ints(g, [0, 0, 0, 0, o - output, 0, 0, 0]), scalar(g, 0)]);
  const split = g.op("Reshape", [full, ints(g, [o / block, block, input, ...kernel])]);
  const turned = g.op("Transpose", [split], { perm: [0, 2, 3, 4, 1] });
  return g.op("Reshape", [turned, ints(g, [o, input, ...kernel])]);
}

function attributesOf(window: Window, pads: readonly number[], group: number) {
  const { kernel, strides, dilations } = window;
  return { kernel_shape: [...kernel], strides: [...strides], dilations: [...dilations], pads: [...pads], group };
}

export const blockedConv: BlockedLowering = (node, layout) => {
  const [x, w, b] = node.inputs as [string, string, string | undefined];
  const [from, weights, to] = [layout.shape(x), layout.shape(w), layout.shape(node.outputs[0]!)];
  if (from?.length !== 4 || weights?.length !== 4 || to?.length !== 4) return false;
  const kernel = weights.slice(2);
  const window = windowOf(node, kernel, from.slice(2), to.slice(2));
  const channels = { input: from[1]!, output: to[1]!, group: window.group };
  const { g } = layout;
  const few = window.group === 1 && from[1]! < layout.block && !layout.isBlocked(x) && layout.fits(to[1]!);
  if (!few && !holds(layout, channels)) return false;
  const inputs = few
    ? [layout.plain(x), filterOfPlain(w, from[1]!, to[1]!, kernel, layout)]
    : [layout.blocked(x), filter(w, kernel, channels, layout)];
  if (b) inputs.push(layout.vector(b, to[1]!));
  const group = isDepthwise(channels) ? layout.padded(window.group) : window.group;
  const attributes = attributesOf(window, [...window.begins, ...window.ends], group);
  layout.give(node.outputs[0]!, g.op(`${nchwc}:Conv`, inputs, attributes), to);
  return true;
};

export const blockedInputGradient: BlockedLowering = (node, layout) => {
  const [dy, w] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  const channels = { input: input[1]!, output: output[1]!, group: window.group };
  if (window.kernel.length !== 2 || !holds(layout, channels)) return false;
  const { kernel, strides } = window;
  const spread = output.slice(2).map((size, i) => size * strides[i]!);
  const pads = gradientPads(window, input.slice(2), spread);
  if (!pads) return false;
  const { g } = layout;
  const back = filter(flipped(g, w, kernel), kernel, channels, layout, true);
  const group = isDepthwise(channels) ? layout.padded(window.group) : window.group;
  const attributes = attributesOf({ ...window, strides: [1, 1] }, pads, group);
  const conv = (x: string): string => g.op(`${nchwc}:Conv`, [x, back], attributes);
  const apart = (x: string, channelsOfX: number): string => zerosBetween(x, channelsOfX, output, strides, layout);
  const single = kernel.every((k) => k === 1) && pads.every((pad) => pad === 0);
  // with one tap the convolution can come first, on the smaller image
  const form = single
    ? apart(conv(layout.blocked(dy, output)), input[1]!)
    : conv(apart(layout.blocked(dy, output), output[1]!));
  layout.give(node.outputs[0]!, form, input);
  return true;
};

/** A blocked image with strides - 1 zeros behind each row and column. */
function zerosBetween(
  x: string,
  channels: number,
  [n, , h, w]: readonly number[],
  strides: readonly number[],
  { g, block, padded }: Layout,
): string {
  if (strides.every((stride) => stride === 1)) return x;
  const [down, right] = strides as [number, number];
  const c = padded(channels);
  const rows = g.op("Reshape", [x, ints(g, [(n! * c * h!) / block, 1, w!, 1, block])]);
  const wide = g.op("Pad", [rows, ints(g, [0, 0, 0, 0, 0, 0, down - 1, 0, right - 1, 0]), scalar(g, 0)]);
  return g.op("Reshape", [wide, ints(g, [n!, c, h! * down, w! * right])]);
}

export const blockedWeightGradient: BlockedLowering = (node, layout) => {
  const [x, dy] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  const channels = { input: input[1]!, output: output[1]!, group: window.group };
  if (window.kernel.length !== 2 || !holds(layout, channels)) return false;
  if (!layout.isBlocked(x) && !layout.isBlocked(dy)) return false;
  if (isDepthwise(channels)) return depthwiseWeights(node, layout);
  if (window.group !== 1) return false;
  const made = sizeOf(window.kernel) === 1 ? pointwiseWeights(node, layout) : spatialWeights(node, layout);
  const { g, padded } = layout;
  const [rows, columns] = [sizeOf(window.kernel) === 1 ? output[1]! : padded(output[1]!), padded(input[1]!)];
  const filled = rows > output[1]! || columns > input[1]!;
  const bounds = [ints(g, [0, 0]), ints(g, [output[1]!, input[1]!]), ints(g, [0, 1])];
  layout.rename(filled ? g.op("Slice", [made, ...bounds]) : made, node.outputs[0]!);
  return true;
};

/**
 * [O, C, kh, kw] as a convolution of x with dy for its weights. A blocked image read row by row is one channel of
 * [H, W b] elements; a kernel of dy whose columns lie b apart finds at the place kx b + i what channel i gives tap kx, so
 * that the results of a block and of all taps of a row lie side by side, as the runtime's kernels like it. A few images
 * at a time are the channels of a group, and their groups' results are summed.
 */
function spatialWeights(node: Node, layout: Layout): string {
  const { g, block, padded } = layout;
  const [x, dy] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  const { kernel, strides, dilations, begins } = window;
  const [given, , height, width] = input as [number, number, number, number];
  const [, , h, w] = output as [number, number, number, number];
  // images are channels here: from a whole block on the kernel takes whole blocks alone, and empty images fill the last
  const n = given < block ? given : padded(given);
  const [ins, outs] = [padded(input[1]!) / block, padded(output[1]!) / block];
  const [rows, columns] = kernel.map((k, i) => (output[i + 2]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1) as [
    number,
    number,
  ];
  const lines = g.op("Reshape", [layout.blocked(x, input), ints(g, [given * ins, height, width * block])]);
  const ends = [rows - height - begins[0]!, columns - width - begins[1]!] as const;
  const pads = [0, begins[0]!, begins[1]! * block, (n - given) * ins, ends[0], ends[1] * block];
  const whole = pads.every((pad) => pad === 0) ? lines : g.op("Pad", [lines, ints(g, pads), scalar(g, 0)]);
  const images = g.op("Reshape", [whole, ints(g, [n, ins, rows, columns * block])]);
  const planes =
    ins === 1
      ? g.op("Reshape", [images, ints(g, [1, n, rows, columns * block])])
      : g.op("Transpose", [images], { perm: [1, 0, 2, 3] });
  // one image a group needs no reordering of dy, but makes more results to be summed
  const few = 2 * padded(output[1]!) * sizeOf(kernel) <= h * w;
  const together = few ? 1 : ([8, 4, 2].find((size) => n % size === 0) ?? 1);
  const groups = n / together;
  const errors = layout.blocked(dy, output);
  const all = n === given ? errors : g.op("Pad", [errors, ints(g, [0, 0, 0, 0, n - given, 0, 0, 0]), scalar(g, 0)]);
  const split = g.op("Reshape", [all, ints(g, [groups, together, outs, h * w * block])]);
  const swapped = together === 1 || outs === 1 ? split : g.op("Transpose", [split], { perm: [0, 2, 1, 3] });
  const filters = g.op("Reshape", [swapped, ints(g, [groups * outs * block, together, h, w])]);
  const taps = g.op(`${nchwc}:Conv`, [planes, filters], {
    kernel_shape: [h, w],
    strides: [dilations[0]!, 1],
    dilations: [strides[0]!, strides[1]! * block],
    group: groups,
  });
  const reached = (kernel[1]! - 1) * dilations[1]! + 1;
  const perGroup = g.op("Reshape", [taps, ints(g, [ins, groups, outs * kernel[0]! * reached * block * block])]);
  const summed = g.op("ReduceSum", [perGroup, ints(g, [1])], { keepdims: 0 });
  const places = g.op("Reshape", [summed, ints(g, [ins, outs, kernel[0]!, reached, block, block])]);
  const bounds = [ints(g, [0]), ints(g, [reached]), ints(g, [3]), ints(g, [dilations[1]!])];
  const kept = dilations[1] === 1 ? places : g.op("Slice", [places, ...bounds]);
  const ordered = g.op("Transpose", [kept], { perm: [1, 5, 0, 4, 2, 3] });
  return g.op("Reshape", [ordered, ints(g, [outs * block, ins * block, ...kernel])]);
}

/**
 * [O, C, 1, 1] = Σ dy x over images and places, a matrix product: x blocked is a matrix [places, b] a block of channels,
 * dy in plain layout one of [O, places]. Image by image and summed where channels are few; all images as one long
 * product where the single results would outweigh the images.
 */
function pointwiseWeights(node: Node, layout: Layout): string {
  const { g, block, padded } = layout;
  const [x, dy] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  const [n, out] = output as [number, number];
  const [ins, places] = [padded(input[1]!) / block, sizeOf(output.slice(2))];
  const pads = [...window.begins, ...window.ends];
  const whole = window.strides.every((stride) => stride === 1) && pads.every((pad) => pad === 0);
  // where there are strides or padding, the places that dy meets are copied out by a convolution
  const ones = [layout.blocked(x, input), layout.tap(input[1]!)];
  const met = whole ? ones[0]! : g.op(`${nchwc}:Conv`, ones, attributesOf(window, pads, ins * block));
  const merged = out * ins * block > (out + ins * block) * places;
  const [left, right] = [
    g.op("Reshape", [layout.plain(dy), ints(g, merged ? [n, out, places] : [n, 1, out, places])]),
    g.op("Reshape", [met, ints(g, [n, ins, places, block])]),
  ];
  const together = (name: string, perm: number[], shape: number[]): string =>
    g.op("Reshape", [g.op("Transpose", [name], { perm }), ints(g, shape)]);
  const product = merged
    ? g.op("MatMul", [
        together(left, [1, 0, 2], [1, out, n * places]),
        together(right, [1, 0, 2, 3], [ins, n * places, block]),
      ])
    : g.op("ReduceSum", [g.op("MatMul", [left, right]), ints(g, [0])], { keepdims: 0 });
  const ordered = g.op("Transpose", [product], { perm: [1, 0, 2] });
  return g.op("Reshape", [ordered, ints(g, [out, ins * block, 1, 1])]);
}

/**
 * One channel a group: every channel of every image is a group of its own, whose filter is its dy, strides and dilations
 * exchanged; one pass over both. The sum over images follows.
 */
function depthwiseWeights(node: Node, layout: Layout): boolean {
  const { g, block } = layout;
  const [x, dy] = node.inputs as [string, string];
  const { window, input, output } = geometry(node);
  const { kernel, strides, dilations, begins } = window;
  const [n, channels] = input as [number, number];
  const all = n * layout.padded(channels);
  const ends = kernel.map((k, i) => {
    const reach = (output[i + 2]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1;
    return Math.max(0, reach - input[i + 2]! - begins[i]!);
  });
  // where the strides stop short of the end, taps too many are made
  const made = kernel.map((_, i) => {
    const room = input[i + 2]! + begins[i]! + ends[i]! - ((output[i + 2]! - 1) * strides[i]! + 1);
    return Math.floor(room / dilations[i]!) + 1;
  });
  const image = g.op("Reshape", [layout.blocked(x, input), ints(g, [1, all, ...input.slice(2)])]);
  const filters = g.op("Reshape", [layout.blocked(dy, output), ints(g, [all, 1, ...output.slice(2)])]);
  const swapped: Window = { ...window, kernel: output.slice(2), strides: dilations, dilations: strides };
  const taps = g.op(`${nchwc}:Conv`, [image, filters], attributesOf(swapped, [...begins, ...ends], all));
  const perImage = g.op("Reshape", [taps, ints(g, [n, all / n / block, ...made, block])]);
  const summed = g.op("ReduceSum", [perImage, ints(g, [0])], { keepdims: 0 });
  const ordered = g.op("Transpose", [summed], { perm: [0, 3, 1, 2] });
  const plain = g.op("Reshape", [ordered, ints(g, [all / n, 1, ...made])]);
  const exact = all / n === channels && made.every((m, i) => m === kernel[i]);
  const cut = exact
    ? plain
    : g.op("Slice", [plain, ints(g, [0, 0, 0]), ints(g, [channels, ...kernel]), ints(g, [0, 2, 3])]);
  layout.rename(cut, node.outputs[0]!);
  return true;
}
