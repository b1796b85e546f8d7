import { fail } from "../../errors.ts";
import type { BlockView } from "../../tensor/blockwise.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import type { WeightMatrix } from "../weight-matrices/matrix.ts";
import type { WeightTarget } from "./targets.ts";
import { arranged } from "./view.ts";

/**
 * A copy of a weight with a row [length] for each index of the outer and the inner axis of its view.
 *
 * @throws PareError naming the weight if it holds NaN or infinity
 */
export function weightRows(target: WeightTarget, { outer, length, inner }: BlockView): Float32Array {
  const values = toFloat32(arranged(target));
  if (!values.every(Number.isFinite)) {
    fail(`weight '${target.name}'`, "holds NaN or infinite values", "Repair the weight: it can't be quantized");
  }
  if (inner === 1) return values.slice();
  const rows = new Float32Array(values.length);
  for (let o = 0, at = 0; o < outer; o++) {
    for (let k = 0; k < length; k++) {
      for (let i = 0; i < inner; i++, at++) rows[(o * inner + i) * length + k] = values[at]!;
    }
  }
  return rows;
}

/** Rows on which ways of rounding are compared. */
const trialRows = 64;

/** Rows of a matrix at even distances, enough to compare ways of rounding by. */
export function someRows(weights: Float32Array, columns: number): Float32Array {
  const rows = weights.length / columns;
  const step = Math.ceil(rows / trialRows);
  const some = new Float32Array(Math.ceil(rows / step) * columns);
  for (let r = 0, at = 0; r < rows; r += step, at += columns) {
    some.set(weights.subarray(r * columns, (r + 1) * columns), at);
  }
  return some;
}

/** Mean squares of the inputs, their mean 1, with a floor that keeps inputs never seen in check. */
export function importanceOf(gram: Float64Array | undefined, columns: number): Float32Array {
  const diagonal = Float64Array.from({ length: columns }, (_, c) => gram?.[c * columns + c] ?? 1);
  const mean = diagonal.reduce((a, b) => a + b, 0) / columns;
  return Float32Array.from(diagonal, (v) => (mean > 0 ? v / mean : 1) + 1e-3);
}

/** The Gram matrix of a group in the order of the weight's layout, where the taps of a channel are neighbours. */
export function groupGram({ columns, channels }: WeightMatrix, sums: Float64Array, group: number): Float64Array {
  const size = columns ** 2;
  const gram = sums.subarray(group * size, (group + 1) * size);
  const taps = columns / channels;
  if (taps === 1) return gram;
  const place = (k: number): number => (k % taps) * channels + Math.floor(k / taps);
  const turned = new Float64Array(size);
  for (let i = 0, at = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++, at++) turned[at] = gram[place(i) * columns + place(j)]!;
  }
  return turned;
}
