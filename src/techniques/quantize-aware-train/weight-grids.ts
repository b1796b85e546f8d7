import { type FakeQuantize, leastStep } from "../../autodiff/fake-quantize.ts";
import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { roundHalfEven } from "../../tensor/affine.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { bitsOf, type Options } from "./options.ts";

/** How the elements of a weight are rounded. */
export interface WeightGrid {
  readonly width: Options["weightBits"];
  readonly view: readonly [outer: number, length: number, inner: number];
  readonly how: FakeQuantize;
  /** Steps to start with, one an outer and inner index of the view; undefined where they are mean magnitudes. */
  readonly steps: Float32Array | undefined;
}

/** Window in which gradients of binary weights pass, in mean magnitudes: of normal weights one in sixty lies outside. */
const binaryWindow = 3;

/** Integers of a width. Symmetric, so that a negative factor of a channel only turns their signs; 2 bits take four. */
function boundsOf(width: Options["weightBits"]): readonly [low: number, high: number] {
  if (width === "binary") return [-binaryWindow, binaryWindow];
  if (width === "ternary") return [-1, 1];
  if (width === 2) return [-2, 1];
  const most = 2 ** (bitsOf(width) - 1) - 1;
  return [-most, most];
}

/**
 * The grid that a weight begins with.
 *
 * @param label the layer, for errors
 * @throws PareError where the weight is not finite
 */
export function weightGrid(
  weight: { readonly name: string; readonly shape: readonly number[]; readonly values: Float32Array },
  view: WeightGrid["view"],
  width: Options["weightBits"],
  options: Options,
): WeightGrid {
  const { name, shape, values } = weight;
  if (!values.every(Number.isFinite))
    fail(`weight '${name}'`, "holds NaN or infinite values", "Repair the weight: it can't be quantized");
  const [low, high] = boundsOf(width);
  const means = width === "binary" || (width === "ternary" && options.ternaryScale === "absmean");
  const learns = !means && options.steps !== "fixed";
  const how: FakeQuantize = {
    low,
    high,
    binary: width === "binary",
    // the mean magnitude of normal weights leaves two fifths of them outside
    everywhere: means && width !== "binary",
    rule: learns ? "lsq" : "none",
    gradient: 1 / Math.sqrt(view[1] * high),
    view,
    shape,
  };
  if (means) return { width, view, how, steps: undefined };
  const channel = channelsOf(view);
  const steps = new Float32Array(view[0] * view[2]);
  const of = starts[options.weightRange];
  for (let c = 0; c < steps.length; c++) steps[c] = of(channel(values, c), low, high) || 1;
  return { width, view, how, steps };
}

type Start = (w: Float32Array, low: number, high: number) => number;

const starts: Readonly<Record<Options["weightRange"], Start>> = {
  /** Esser et al. 2020. */
  lsq: (w, _, high) => (2 * meanMagnitude(w)) / Math.sqrt(high),
  max: (w, low, high) => reach(w) / Math.min(-low, high),
  mse: (w, low, high) => {
    const most = reach(w) / Math.min(-low, high);
    let [best, least] = [most, Number.POSITIVE_INFINITY];
    for (let i = ratios; i > 0; i--) {
      const step = (most * i) / ratios;
      const error = squaredError(w, step, low, high);
      if (error < least) [best, least] = [step, error];
    }
    return best;
  },
};

/** Steps tried by least squared error. */
const ratios = 64;

function squaredError(w: Float32Array, step: number, low: number, high: number): number {
  let sum = 0;
  for (let i = 0; i < w.length; i++) {
    const code = roundHalfEven(Math.min(Math.max(w[i]! / step, low), high));
    sum += (w[i]! - step * code) ** 2;
  }
  return sum;
}

function reach(w: Float32Array): number {
  let most = 0;
  for (let i = 0; i < w.length; i++) most = Math.max(most, Math.abs(w[i]!));
  return most;
}

function meanMagnitude(w: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < w.length; i++) sum += Math.abs(w[i]!);
  return sum / w.length;
}

/** Reads the elements of one channel. */
function channelsOf([, length, inner]: WeightGrid["view"]): (values: Float32Array, c: number) => Float32Array {
  const one = new Float32Array(length);
  return (values, c) => {
    const from = Math.floor(c / inner) * length * inner + (c % inner);
    for (let k = 0; k < length; k++) one[k] = values[from + k * inner]!;
    return one;
  };
}

/**
 * A factor on integers of few bits within 8: a bias is a whole number of products, and of few bits that is coarse. Not so
 * large that a sum of two products could leave 16 bits, as processors without VNNI add them.
 *
 * @param reads the largest integer that the weight is multiplied with
 */
export function spread({ how }: Pick<WeightGrid, "how">, reads: number): number {
  const most = how.binary ? 1 : Math.max(-how.low, how.high);
  return Math.max(1, Math.floor(Math.min(127 / most, 32767 / (2 * reads * most))));
}

/** The steps of a weight that are mean magnitudes. */
function meanSteps(values: Float32Array, view: WeightGrid["view"]): Float32Array {
  const channel = channelsOf(view);
  return Float32Array.from({ length: view[0] * view[2] }, (_, c) =>
    Math.max(leastStep, meanMagnitude(channel(values, c))),
  );
}

/** The steps that a weight has after training: learned, or its mean magnitudes. */
export function stepsOf(
  values: Float32Array,
  { grid, scale }: { readonly grid: WeightGrid; readonly scale: string | undefined },
  { weights }: Pick<Graph, "weights">,
): Float32Array {
  return scale === undefined ? meanSteps(values, grid.view) : toFloat32(weights.get(scale)!);
}

/** Which of the steps an element has. */
export function channelAt({ view: [, length, inner] }: Pick<WeightGrid, "view">, i: number): number {
  return Math.floor(i / (length * inner)) * inner + (i % inner);
}

/** The integers of a weight, in its order: what fake quantization rounds it to. */
export function codesOf(values: Float32Array, steps: Float32Array, grid: WeightGrid): Int8Array {
  const { how } = grid;
  return Int8Array.from(values, (value, i) => {
    const v = Math.fround(value / steps[channelAt(grid, i)]!);
    if (how.binary) return v > 0 ? 1 : -1;
    return roundHalfEven(Math.min(Math.max(v, how.low), how.high));
  });
}
