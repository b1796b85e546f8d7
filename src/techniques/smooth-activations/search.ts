import type { Graph } from "../../graph/graph.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import type { ScalableChannels } from "../channel-scaling/places.ts";
import type { Channels } from "./channels.ts";

/** Exponents tried. */
const exponents = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/** Outputs of each weight by which exponents are compared. */
const comparedRows = 64;

/** The least scale before scales are centred. */
const leastScale = 1e-5;

/** The weights that read the same channels. */
export interface ReaderRows {
  /** Largest magnitude of each channel over all weights, [channels]. */
  readonly largest: Float64Array;
  /** Some rows of them, [channels] each: what one output sums. */
  readonly rows: readonly Float32Array[];
}

/** The weights that read some channels, a row an output. */
export function readerRows(graph: Graph, { readers, channels }: ScalableChannels): ReaderRows {
  const largest = new Float64Array(channels);
  const rows: Float32Array[] = [];
  for (const [name, axis] of new Map(readers.map(({ weight, axis }) => [weight, axis]))) {
    const values = toFloat32(graph.weights.get(name)!);
    const outputs = values.length / channels;
    const [across, along] = axis === 0 ? [1, outputs] : [channels, 1];
    const step = Math.ceil(outputs / comparedRows);
    for (let o = 0; o < outputs; o++) {
      const row = new Float32Array(o % step === 0 ? channels : 0);
      for (let c = 0, at = o * across; c < channels; c++, at += along) {
        const v = values[at]!;
        largest[c] = Math.max(largest[c]!, Math.abs(v));
        if (row.length > 0) row[c] = v;
      }
      if (row.length > 0) rows.push(row);
    }
  }
  return { largest, rows };
}

/**
 * Scales s_j = max|X_j|^a / max|W_j|^(1-a), their geometric mean 1, of a given exponent or of that with the least error;
 * undefined where nothing is to be scaled. Channels that are always zero, in the data or the weights, stay as they are.
 */
export function chooseScales(seen: Channels, readers: ReaderRows, alpha: number | undefined): Float64Array | undefined {
  const reach = seen.high.map((high, c) => Math.max(high, -seen.low[c]!));
  if (!seen.finite || !readers.largest.every(Number.isFinite)) return undefined;
  if (alpha !== undefined) return scalesOf(reach, readers.largest, alpha);
  const exact = products(seen.rows, readers.rows);
  let best: Float64Array | undefined;
  let least = integerError(seen, readers, new Float64Array(reach.length).fill(1), exact);
  for (const exponent of exponents) {
    const scales = scalesOf(reach, readers.largest, exponent);
    const error = integerError(seen, readers, scales, exact);
    if (error < least) [least, best] = [error, scales];
  }
  return best;
}

function scalesOf(reach: Float64Array, largest: Float64Array, exponent: number): Float64Array {
  const live = reach.map((x, c) => (x > 0 && largest[c]! > 0 ? 1 : 0));
  const scales = reach.map((x, c) => Math.max(leastScale, x ** exponent / largest[c]! ** (1 - exponent)));
  const count = live.reduce((a, b) => a + b, 0);
  const logs = scales.reduce((sum, s, c) => sum + (live[c] ? Math.log(s) : 0), 0);
  const mean = Math.exp(logs / Math.max(1, count));
  return scales.map((s, c) => (live[c] ? s / mean : 1));
}

/** X Wᵀ of rows, one after the other. */
function products(x: readonly ArrayLike<number>[], w: readonly ArrayLike<number>[]): Float64Array {
  const made = new Float64Array(x.length * w.length);
  let at = 0;
  for (const a of x) {
    for (const b of w) {
      let sum = 0;
      for (let k = 0; k < a.length; k++) sum += a[k]! * b[k]!;
      made[at++] = sum;
    }
  }
  return made;
}

/**
 * The squared error of the products when activations divided by the scales are rounded to 8 bits over their whole range, and
 * weights multiplied with them to 8 bits symmetrically, a row each.
 */
function integerError(seen: Channels, { rows }: ReaderRows, scales: Float64Array, exact: Float64Array): number {
  const low = seen.low.reduce((least, v, c) => Math.min(least, v / scales[c]!), 0);
  const high = seen.high.reduce((most, v, c) => Math.max(most, v / scales[c]!), 0);
  const step = (high - low) / 255 || 1;
  const zero = Math.round(-low / step);
  const x = seen.rows.map((row) =>
    Float64Array.from(row, (v, c) => {
      const code = Math.min(255, Math.max(0, Math.round(v / scales[c]! / step) + zero));
      return step * (code - zero);
    }),
  );
  const w = rows.map((row) => {
    const scaled = Float64Array.from(row, (v, c) => v * scales[c]!);
    const unit = scaled.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 127 || 1;
    return scaled.map((v) => unit * Math.round(v / unit));
  });
  return products(x, w).reduce((sum, v, at) => sum + (v - exact[at]!) ** 2, 0);
}
