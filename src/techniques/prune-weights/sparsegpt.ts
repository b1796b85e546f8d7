import { type WalkedMatrix, walkColumns } from "../weight-matrices/column-walk.ts";
import { inverseFactor } from "../weight-matrices/inverse-factor.ts";
import type { MatrixSize, Pattern } from "./patterns.ts";
import { lowestMask, markGroup } from "./patterns.ts";

/** How one matrix is pruned by {@link pruneWithUpdate}. */
export interface UpdateOptions {
  readonly pattern: Pattern;
  /** Share of the weights that go; unused for N:M. */
  readonly sparsity: number;
  /** Share of the mean of the Hessian's diagonal that is added to it. */
  readonly damping: number;
}

/** Columns between two choices of what goes, and after which the rest of the matrix is updated. */
const blockColumns = 128;

/**
 * Prunes a matrix in place so that its products with the inputs change little: column by column, the error of each weight
 * removed is made up for by the weights to the right (SparseGPT, Frantar and Alistarh 2023). What is zero stays so, and
 * goes first.
 *
 *     H = X Xᵀ + λ I,  H⁻¹ = Uᵀ U (U upper),  what goes: least w_ij² / U_jj²,  w_i,k -= (w_ij / U_jj) U_jk for k >= j
 *
 * @param weights rows x columns
 * @param gram X Xᵀ, columns x columns; its diagonal is damped in place
 */
export function pruneWithUpdate(
  weights: Float32Array,
  size: MatrixSize,
  gram: Float64Array,
  { pattern, sparsity, damping }: UpdateOptions,
): void {
  const { rows, columns } = size;
  const zeros = zerosOf(weights);
  const upper = inverseFactor(gram, columns, damping, (dead) => {
    for (let r = 0; r < rows; r++) weights[r * columns + dead] = 0;
  });
  const step = pattern.kind === "n:m" ? pattern.of : pattern.columns;
  const width = Math.max(step, blockColumns - (blockColumns % step));
  const matrix = { weights, rows, columns, upper };
  if (pattern.kind === "n:m") {
    walkColumns(matrix, width, groupwise(matrix, zeros, pattern));
    return;
  }
  const counts = countsOf(zeros, size, pattern, sparsity);
  let first = 0;
  let last = 0;
  let removed: Uint8Array = new Uint8Array(0);
  walkColumns(
    matrix,
    width,
    (row, column, value) =>
      removed[row * (last - first) + column - first] || zeros[row * columns + column] ? 0 : value,
    (from, to) => {
      [first, last] = [from, to];
      const part = { rows, columns: to - from };
      removed = lowestMask(scoresOf(matrix, zeros, from, to), part, pattern, counts(from, to));
    },
  );
}

/** 1 where a weight is zero: the updates would make it something else. */
function zerosOf(weights: Float32Array): Uint8Array {
  const zeros = new Uint8Array(weights.length);
  for (let i = 0; i < zeros.length; i++) if (weights[i] === 0) zeros[i] = 1;
  return zeros;
}

/** Lets all but N of M neighbours go, chosen when the first of them is settled. */
function groupwise(
  matrix: WalkedMatrix,
  zeros: Uint8Array,
  pattern: Pattern & { kind: "n:m" },
): (row: number, column: number, value: number) => number {
  const { columns } = matrix;
  const scores = new Float32Array(pattern.of);
  const mask = new Uint8Array(pattern.of);
  return (row, column, value) => {
    const place = column % pattern.of;
    if (place === 0) {
      for (let k = 0; k < pattern.of; k++) scores[k] = scoreOf(matrix, zeros, row, column + k);
      markGroup(scores, mask.fill(0), 0, pattern);
    }
    return mask[place] || zeros[row * columns + column] ? 0 : value;
  };
}

function scoresOf(matrix: WalkedMatrix, zeros: Uint8Array, from: number, to: number): Float32Array {
  const scores = new Float32Array(matrix.rows * (to - from));
  for (let r = 0, at = 0; r < matrix.rows; r++) {
    for (let j = from; j < to; j++, at++) scores[at] = scoreOf(matrix, zeros, r, j);
  }
  return scores;
}

/** |w_ij| / U_jj, and 0 for what was zero. */
function scoreOf({ weights, columns, upper }: WalkedMatrix, zeros: Uint8Array, row: number, column: number): number {
  const at = row * columns + column;
  return zeros[at] ? 0 : Math.abs(weights[at]! / upper[column * columns + column]!);
}

/**
 * How many blocks of the pattern go between two columns, asked for from left to right: those that are zero, and of the
 * others the same share everywhere, such that the counts add up to the matrix's.
 */
function countsOf(
  zeros: Uint8Array,
  { rows, columns }: MatrixSize,
  pattern: Pattern & { kind: "blocks" },
  sparsity: number,
): (from: number, to: number) => number {
  const block = pattern.rows * pattern.columns;
  const zeroBlocks = (from: number, to: number): number => {
    let count = 0;
    for (let r = 0; r < rows; r += pattern.rows) {
      for (let c = from; c < to; c += pattern.columns) {
        let all = 1;
        for (let i = r; i < r + pattern.rows; i++) {
          for (let j = c; j < c + pattern.columns; j++) all &= zeros[i * columns + j]!;
        }
        count += all;
      }
    }
    return count;
  };
  const total = (zeroBlocks(0, columns) * block) / (rows * columns);
  const share = total < sparsity ? (sparsity - total) / (1 - total) : 0;
  let [gone, zero] = [0, 0];
  return (from, to) => {
    const before = gone;
    zero += zeroBlocks(from, to);
    gone = zero + Math.round((share * rows * to) / block - share * zero);
    return gone - before;
  };
}
