import type { Node } from "../../graph/graph.ts";
import { ints, scalar } from "../rule.ts";
import { type Window, windowOf } from "../rules/convolution.ts";
import { count } from "../rules/helpers.ts";
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
  const [taps, perI] = [count(kernel), i / group / block];
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
  const form = single ? apart(conv(layout.blocked(dy)), input[1]!) : conv(apart(layout.blocked(dy), output[1]!));
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
  const { g, block } = layout;
  const { rows, columns } = shifts(x, dy, window, input, output, layout);
  const [n, out, h] = output as [number, number, number];
  const blocks = layout.padded(input[1]!) / block;
  const places = h * (columns.length > 1 ? input[3]! : output[3]!);
  const left = columns.length === 1 ? columns[0]! : g.op("Concat", columns, { axis: 1 });
  const made = productsOf(left, rows, { n, out: columns.length * out, blocks, places }, layout);
  // rows of taps, blocks, columns of taps, O, lanes
  const split = g.op("Reshape", [made, ints(g, [rows.length, blocks, columns.length, out, block])]);
  const ordered = g.op("Transpose", [split], { perm: [3, 1, 4, 0, 2] });
  const whole = g.op("Reshape", [ordered, ints(g, [out, blocks * block, ...window.kernel])]);
  const cut =
    blocks * block === input[1] ? whole : g.op("Slice", [whole, ints(g, [0]), ints(g, [input[1]!]), ints(g, [1])]);
  layout.rename(cut, node.outputs[0]!);
  return true;
};

/**
 * The images whose products are the taps of dW: x blocked, which is a matrix [places, b] a block of channels, and dy in
 * plain layout, [channels, places]. At stride 1 each tap's shift is shared out: x is moved by rows, dy by columns,
 * kh + kw moves instead of kh kw; else x is sampled tap by tap. Moves are depthwise convolutions with one tap, which run
 * at the speed of memory.
 */
function shifts(
  x: string,
  dy: string,
  { kernel, strides, dilations, begins, ends }: Window,
  input: readonly number[],
  output: readonly number[],
  layout: Layout,
): { rows: string[]; columns: string[] } {
  const [kh, kw] = kernel as [number, number];
  const moved = (name: string, channels: number, part: Window, place: number): string => {
    const pads = [...part.begins, ...part.ends];
    const still = count(part.kernel) === 1 && part.strides.every((s) => s === 1) && pads.every((p) => p === 0);
    if (still) return layout.blocked(name);
    const inputs = [layout.blocked(name), layout.tap(channels, part.kernel, place)];
    return layout.g.op(`${nchwc}:Conv`, inputs, attributesOf(part, pads, layout.padded(channels)));
  };
  const reach = (kw - 1) * dilations[1]!;
  const [left, right] = [reach - begins[1]!, reach - ends[1]!];
  if (kw === 1 || strides.some((stride) => stride > 1) || left < 0 || right < 0) {
    const whole: Window = { kernel, strides, dilations, begins, ends, group: 1 };
    const sampled = Array.from({ length: kh * kw }, (_, place) => moved(x, input[1]!, whole, place));
    return { rows: sampled, columns: [layout.plain(dy)] };
  }
  const line = { strides: [1, 1], group: 1 };
  const down = {
    ...line,
    kernel: [kh, 1],
    dilations: [dilations[0]!, 1],
    begins: [begins[0]!, 0],
    ends: [ends[0]!, 0],
  };
  const across = { ...line, kernel: [1, kw], dilations: [1, dilations[1]!], begins: [0, left], ends: [0, right] };
  const channels = output[1]!;
  const columns = Array.from({ length: kw }, (_, place) => moved(dy, channels, across, kw - 1 - place));
  return {
    rows: Array.from({ length: kh }, (_, place) => moved(x, input[1]!, down, place)),
    columns: columns.map((form) =>
      form === layout.blocked(dy) ? layout.plain(dy) : layout.g.op(`${nchwc}:ReorderOutput`, [form], { channels }),
    ),
  };
}

interface Products {
  readonly n: number;
  /** Rows of the left matrix: O for each column of taps. */
  readonly out: number;
  readonly blocks: number;
  readonly places: number;
}

/**
 * [rows, blocks, O, b] of Σ dy x over images and places. Image by image and summed where channels are few; all images as
 * one long product where the single results would outweigh the images.
 */
function productsOf(dy: string, rows: readonly string[], { n, out, blocks, places }: Products, layout: Layout): string {
  const { g, block } = layout;
  const channels = blocks * block;
  const merged = rows.length * out * channels > (rows.length * channels + out) * places;
  const swap = (name: string, shape: readonly number[], to: readonly number[]): string => {
    const view = g.op("Reshape", [name, ints(g, shape)]);
    return merged
      ? g.op("Reshape", [
          g.op("Transpose", [view], { perm: shape.map((_, i) => (i === 0 ? 1 : i === 1 ? 0 : i)) }),
          ints(g, to),
        ])
      : view;
  };
  const left = merged ? swap(dy, [n, out, places], [1, out, n * places]) : swap(dy, [n, 1, out, places], []);
  const made = rows.map((row) => {
    const right = swap(row, [n, blocks, places, block], [blocks, n * places, block]);
    const product = g.op("MatMul", [left, right]);
    return merged ? product : g.op("ReduceSum", [product, ints(g, [0])], { keepdims: 0 });
  });
  return made.length === 1 ? made[0]! : g.op("Concat", made, { axis: 0 });
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
  const image = g.op("Reshape", [layout.blocked(x), ints(g, [1, all, ...input.slice(2)])]);
  const filters = g.op("Reshape", [layout.blocked(dy), ints(g, [all, 1, ...output.slice(2)])]);
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
