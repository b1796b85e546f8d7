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
  const [perO, perI] = [o / group / block, i / group / block];
  const full = group === 1 ? filled(o - output, i - input) : w;
  const split = g.op("Reshape", [full, ints(g, [group, perO, block, perI, block, ...kernel])]);
  const turned = g.op("Transpose", [split], { perm: backward ? [0, 3, 1, 5, 6, 2, 4] : [0, 1, 3, 5, 6, 4, 2] });
  return g.op("Reshape", [turned, ints(g, backward ? [i, o / group, ...kernel] : [o, i / group, ...kernel])]);
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
  const { g } = layout;
  const [rows, columns] = shifts(x, dy, window, input, output, layout);
  const [n, , h] = output as [number, number, number];
  const places = columns ? h * input[3]! : h * output[3]!;
  const product = products(n, output[1]!, input[1]!, places, layout);
  const taps = columns
    ? rows.flatMap((row) => columns.map((column) => product(column, row)))
    : rows.map((row) => product(layout.plain(dy), row));
  const stacked = taps.length === 1 ? taps[0]! : g.op("Concat", taps, { axis: 0 });
  const ordered = g.op("Transpose", [stacked], { perm: [1, 2, 0] });
  layout.rename(g.op("Reshape", [ordered, ints(g, [output[1]!, input[1]!, ...window.kernel])]), node.outputs[0]!);
  return true;
};

/**
 * The images whose products are the taps of dW, in plain layout. At stride 1 each tap's shift is shared out: the image is
 * moved by rows, dy by columns, kh + kw moves instead of kh kw; else the image is sampled tap by tap. Moves are depthwise
 * convolutions with one tap, which run at the speed of memory.
 */
function shifts(
  x: string,
  dy: string,
  { kernel, strides, dilations, begins, ends }: Window,
  input: readonly number[],
  output: readonly number[],
  layout: Layout,
): [rows: string[], columns: string[] | undefined] {
  const [kh, kw] = kernel as [number, number];
  const moved = (name: string, channels: number, part: Window, place: number): string => {
    const { g } = layout;
    const pads = [...part.begins, ...part.ends];
    const still = count(part.kernel) === 1 && [...part.strides].every((s) => s === 1) && pads.every((p) => p === 0);
    if (still) return layout.plain(name);
    const attributes = attributesOf(part, pads, layout.padded(channels));
    const inputs = [layout.blocked(name), layout.tap(channels, part.kernel, place)];
    return g.op(`${nchwc}:ReorderOutput`, [g.op(`${nchwc}:Conv`, inputs, attributes)], { channels });
  };
  const reach = (kw - 1) * dilations[1]!;
  const [left, right] = [reach - begins[1]!, reach - ends[1]!];
  if (strides.some((stride) => stride > 1) || left < 0 || right < 0 || kernel.every((k) => k === 1)) {
    const whole: Window = { kernel, strides, dilations, begins, ends, group: 1 };
    return [Array.from({ length: kh * kw }, (_, place) => moved(x, input[1]!, whole, place)), undefined];
  }
  const down: Window = {
    kernel: [kh, 1],
    strides: [1, 1],
    dilations: [dilations[0]!, 1],
    begins: [begins[0]!, 0],
    ends: [ends[0]!, 0],
    group: 1,
  };
  const across: Window = {
    kernel: [1, kw],
    strides: [1, 1],
    dilations: [1, dilations[1]!],
    begins: [0, left],
    ends: [0, right],
    group: 1,
  };
  const rows = Array.from({ length: kh }, (_, place) => moved(x, input[1]!, down, place));
  const columns = Array.from({ length: kw }, (_, place) => moved(dy, output[1]!, across, kw - 1 - place));
  return [rows, columns];
}

/**
 * [1, O, C] = Σ over images and places of dy x. Image by image and summed where channels are few, all images as one
 * long product where the results would outweigh the images.
 */
function products(n: number, out: number, channels: number, places: number, { g }: Layout) {
  const merged = 2 * out * channels > (out + channels) * places;
  const known = new Map<string, string>();
  const prepared = (name: string, c: number): string => {
    const flat = merged
      ? (): string => {
          const flatImages = g.op("Reshape", [name, ints(g, [n, c, places])]);
          const byChannel = g.op("Transpose", [flatImages], { perm: [1, 0, 2] });
          return g.op("Reshape", [byChannel, ints(g, [c, n * places])]);
        }
      : (): string => g.op("Reshape", [name, ints(g, [n, c, places])]);
    const made = known.get(name) ?? flat();
    known.set(name, made);
    return made;
  };
  return (dy: string, x: string): string => {
    const [left, right] = [prepared(dy, out), prepared(x, channels)];
    if (merged) return g.op("Reshape", [g.op("Gemm", [left, right], { transB: 1 }), ints(g, [1, out, channels])]);
    const each = g.op("com.microsoft:FusedMatMul", [left, right], { transB: 1 });
    return g.op("ReduceSum", [each, ints(g, [0])], { keepdims: 1 });
  };
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
