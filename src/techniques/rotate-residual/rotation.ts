import type { Random } from "../../random.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { sizeOf, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";

/** An orthogonal map of row vectors, x -> x R. */
export interface Rotation {
  readonly size: number;
  /** Replaces x, [size], with x R. */
  apply(x: Float64Array): void;
}

/**
 * A random rotation that spreads every coordinate over all: R = S (H ⊗ Q), S random signs, H the Hadamard matrix of the
 * largest power of two that divides the size, Q random and orthogonal for what is left (QuaRot: Ashkboos et al. 2024).
 * Where the mean of the coordinates has to stay, a reflection in front of it brings R 1 = 1 about:
 *
 *     R <- (I - 2 v vᵀ / vᵀv) R,  v = R 1 - 1
 */
export function randomRotation(size: number, random: Random, keepsMean: boolean): Rotation {
  const rest = oddPart(size);
  const count = size / rest;
  const signs = Float64Array.from({ length: size }, () => (random.next() < 0.5 ? -1 : 1));
  const small = orthogonal(rest, random);
  const spread = (x: Float64Array): void => {
    for (let i = 0; i < size; i++) x[i]! *= signs[i]!;
    hadamard(x, rest);
    multiplyRows(x, small, rest);
  };
  if (!keepsMean) return { size, apply: spread };
  // H 1 is sqrt(count) in its first coordinate and 0 elsewhere
  const v = new Float64Array(size).fill(-1);
  for (let i = 0; i < rest; i++) {
    let sum = 0;
    for (let j = 0; j < rest; j++) sum += small[i * rest + j]!;
    v[i]! += signs[i]! * Math.sqrt(count) * sum;
  }
  const length = v.reduce((sum, a) => sum + a * a, 0);
  return {
    size,
    apply(x) {
      let along = 0;
      for (let i = 0; i < size; i++) along += x[i]! * v[i]!;
      const factor = length > 1e-12 ? (2 * along) / length : 0;
      for (let i = 0; i < size; i++) x[i]! -= factor * v[i]!;
      spread(x);
    },
  };
}

/** R, or its transpose, as a constant [size, size]. */
export function matrixOf(rotation: Rotation, transposed: boolean): Float32Array {
  const { size } = rotation;
  const matrix = new Float32Array(size * size);
  for (let i = 0; i < size; i++) {
    const x = new Float64Array(size);
    x[i] = 1;
    rotation.apply(x);
    for (let j = 0; j < size; j++) matrix[transposed ? j * size + i : i * size + j] = x[j]!;
  }
  return matrix;
}

/** A tensor with every vector along an axis rotated; x -> x R is what Rᵀ does to columns, too. */
export function rotatedAlong(value: Tensor, axis: number, rotation: Rotation): Tensor {
  const { size } = rotation;
  const from = toFloat32(value);
  const to = new Float32Array(from.length);
  const inner = sizeOf(value.shape.slice(axis + 1));
  const x = new Float64Array(size);
  for (let start = 0; start < from.length; start += size * inner) {
    for (let i = start; i < start + inner; i++) {
      for (let k = 0, at = i; k < size; k++, at += inner) x[k] = from[at]!;
      rotation.apply(x);
      for (let k = 0, at = i; k < size; k++, at += inner) to[at] = x[k]!;
    }
  }
  return tensor(value.dtype, value.shape, value.dtype === "float16" ? floatToHalf(to, "float16") : to);
}

function oddPart(size: number): number {
  let odd = size;
  while (odd % 2 === 0) odd /= 2;
  return odd;
}

/** The fast Walsh-Hadamard transform over the first axis of x, [size / inner, inner], normalized. */
function hadamard(x: Float64Array, inner: number): void {
  for (let step = inner; step < x.length; step *= 2) {
    for (let start = 0; start < x.length; start += 2 * step) {
      for (let i = start; i < start + step; i++) {
        const [a, b] = [x[i]!, x[i + step]!];
        x[i] = (a + b) * Math.SQRT1_2;
        x[i + step] = (a - b) * Math.SQRT1_2;
      }
    }
  }
}

/** Every row of x, [size / n, n], times a matrix [n, n]. */
function multiplyRows(x: Float64Array, matrix: Float64Array, n: number): void {
  const row = new Float64Array(n);
  for (let start = 0; start < x.length; start += n) {
    row.fill(0);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) row[j]! += x[start + i]! * matrix[i * n + j]!;
    x.set(row, start);
  }
}

/** A random orthogonal matrix: normal rows, made orthogonal one after the other, twice for the sake of rounding. */
function orthogonal(n: number, random: Random): Float64Array {
  const q = Float64Array.from({ length: n * n }, () => random.normal());
  for (let i = 0; i < n; i++) {
    const row = q.subarray(i * n, i * n + n);
    for (let k = 0; k < 2 * i; k++) {
      const other = q.subarray((k % i) * n, (k % i) * n + n);
      let dot = 0;
      for (let j = 0; j < n; j++) dot += row[j]! * other[j]!;
      for (let j = 0; j < n; j++) row[j]! -= dot * other[j]!;
    }
    const length = Math.sqrt(row.reduce((sum, v) => sum + v * v, 0));
    for (let j = 0; j < n; j++) row[j]! /= length;
  }
  return q;
}
