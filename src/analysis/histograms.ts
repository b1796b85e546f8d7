import { type Graph, intAttribute, type Node, nodeLabel } from "../graph/graph.ts";
import { decibels } from "../metrics/reference.ts";
import type { Runtime } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { channelRanges } from "../tensor/statistics.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { effectiveWeight, type WeightUse } from "./effective-weight.ts";

/** Counts over equal bins between `min` and `max`. */
export interface BinCounts {
  readonly min: number;
  readonly max: number;
  readonly counts: readonly number[];
}

/** What became of a layer's weights. */
export interface WeightChange {
  readonly layer: string;
  readonly weight: string;
  readonly before: BinCounts;
  /** Over the same bins, in the original's scale. */
  readonly after: BinCounts;
  /** Smallest and largest original weight of output channels, at most 256 of them, evenly picked. */
  readonly channels: readonly (readonly [min: number, max: number])[];
  /** Signal to noise, decibels, after the factors of {@link weightChanges}. */
  readonly sqnr: number;
}

/** Bounds of {@link weightChanges}. */
export interface WeightChangeOptions {
  /** Layers to report; 6 by default. */
  readonly layers?: number;
  /** Bins of a histogram; 64 by default. */
  readonly bins?: number;
  readonly signal?: AbortSignal;
}

/**
 * The layers whose weights changed most, lowest signal to noise first. Folding a normalization or equalizing layers
 * multiplies weights by a factor per output and per input channel without changing what the network computes, so such
 * factors are fitted first, w ≈ a_o b_i w' by alternating least squares, and only what is left counts as noise. One
 * weight is in memory at a time; of large ones about four million elements are looked at. Unchanged weights, and those
 * that the changed graph has in no readable form, are left out.
 *
 * @throws PareError where the runtime refuses the constants of the changed graph
 */
export async function weightChanges(
  before: Graph,
  after: Graph,
  runtime: Runtime,
  options: WeightChangeOptions = {},
): Promise<WeightChange[]> {
  const { layers = 6, bins = 64, signal } = options;
  const found: WeightChange[] = [];
  for (const use of weightUses(before)) {
    signal?.throwIfAborted();
    if (after.weights.get(use.name) === use.tensor && after.nodes.includes(use.node)) continue;
    const changed = await effectiveWeight(after, use, runtime);
    const change = changed && changeOf(use, toFloat32(use.tensor), changed, bins);
    if (change && change.sqnr < unchanged) found.push(change);
  }
  return found.sort((a, b) => a.sqnr - b.sqnr).slice(0, layers);
}

/** Decibels from which only float rounding is left. */
const unchanged = 100;
/** Smaller weights have no distribution to speak of. */
const smallest = 32;

/** Every real weight of two axes or more with its first reader. */
function* weightUses(graph: Graph): Generator<WeightUse> {
  const seen = new Set<string>();
  for (const node of graph.nodes) {
    for (const [input, name] of node.inputs.entries()) {
      const tensor = graph.weights.get(name);
      if (!tensor || seen.has(name) || tensor.shape.length < 2 || tensor.size < smallest) continue;
      if (dtypes[tensor.dtype].kind !== "float") continue;
      seen.add(name);
      yield { node, input, name, tensor };
    }
  }
}

/** A weight as `[rows, columns, inner]`, and which of the first two is the output channel. */
interface View {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly output: 0 | 1;
}

function viewOf(node: Node, shape: readonly number[]): View {
  const size = shape.reduce((a, b) => a * b, 1);
  if (node.op === "MatMul") {
    const columns = shape.at(-1)!;
    return { rows: size / columns, columns, inner: 1, output: 1 };
  }
  const [rows = 1, columns = 1] = shape;
  const second = node.op === "ConvTranspose" || (node.op === "Gemm" && intAttribute(node, "transB", 0) === 0);
  return { rows, columns, inner: size / (rows * columns), output: second ? 1 : 0 };
}

const sampled = 2 ** 22;
const mostSweeps = 20;
const settled = 1e-6;

function changeOf(
  { node, name, tensor }: WeightUse,
  w: Float32Array,
  changed: Float32Array,
  bins: number,
): WeightChange | undefined {
  const view = viewOf(node, tensor.shape);
  const stride = Math.ceil(tensor.size / sampled);
  const { a, b } = channelFactors(w, changed, view, stride);
  let [signal, noise, low, high] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  forEach(view, stride, (i, row, column) => {
    const difference = w[i]! - a[row]! * b[column]! * changed[i]!;
    signal += w[i]! ** 2;
    noise += difference ** 2;
    low = Math.min(low, w[i]!);
    high = Math.max(high, w[i]!);
  });
  if (!Number.isFinite(signal + noise) || !(high > low)) return undefined;
  const counts = [new Array<number>(bins).fill(0), new Array<number>(bins).fill(0)] as const;
  const binOf = (x: number): number => Math.min(bins - 1, Math.max(0, Math.floor(((x - low) / (high - low)) * bins)));
  forEach(view, stride, (i, row, column) => {
    counts[0][binOf(w[i]!)]!++;
    counts[1][binOf(a[row]! * b[column]! * changed[i]!)]!++;
  });
  return {
    layer: nodeLabel(node),
    weight: name,
    before: { min: low, max: high, counts: counts[0] },
    after: { min: low, max: high, counts: counts[1] },
    channels: pickedChannels(w, view),
    sqnr: decibels(signal, noise),
  };
}

/** Visits the elements of every `stride`-th row. */
function forEach(
  { rows, columns, inner }: View,
  stride: number,
  visit: (i: number, row: number, column: number) => void,
): void {
  for (let row = 0; row < rows; row += stride) {
    for (let column = 0, i = row * columns * inner; column < columns; column++) {
      for (const end = i + inner; i < end; i++) visit(i, row, column);
    }
  }
}

/** Factors a of rows and b of columns that minimize Σ (w - a b w')², each solved with the other held. */
function channelFactors(
  w: Float32Array,
  changed: Float32Array,
  view: View,
  stride: number,
): { a: Float64Array; b: Float64Array } {
  const a = new Float64Array(view.rows).fill(1);
  const b = new Float64Array(view.columns).fill(1);
  for (let sweep = 0, moved = 1; sweep < mostSweeps && moved > settled; sweep++) {
    moved = 0;
    for (const side of [0, 1] as const) {
      const [solved, held] = side === 0 ? [a, b] : [b, a];
      const cross = new Float64Array(solved.length);
      const square = new Float64Array(solved.length);
      forEach(view, stride, (i, row, column) => {
        const at = side === 0 ? row : column;
        const x = held[side === 0 ? column : row]! * changed[i]!;
        cross[at]! += x * w[i]!;
        square[at]! += x * x;
      });
      for (let k = 0; k < solved.length; k++) {
        if (square[k]! === 0) continue;
        const factor = cross[k]! / square[k]!;
        moved = Math.max(moved, Math.abs(factor - solved[k]!));
        solved[k] = factor;
      }
    }
  }
  return { a, b };
}

const mostChannels = 256;

function pickedChannels(w: Float32Array, { rows, columns, inner, output }: View): [number, number][] {
  const { min, max } = channelRanges(w, [rows, columns, inner], output);
  const count = Math.min(min.length, mostChannels);
  return Array.from({ length: count }, (_, k) => {
    const channel = Math.floor((k * min.length) / count);
    return [min[channel]!, max[channel]!];
  });
}
