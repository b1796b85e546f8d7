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
 * removed is made up for by the weights to the right (SparseGPT, Frantar and Alistarh 2023).
 *
 *     H = X Xᵀ + λ I,  H⁻¹ = Uᵀ U (U upper),  what goes: least w_ij² / U_jj²,  w_i,k -= (w_ij / U_jj) U_jk for k >= j
 *
 * @param weights rows x columns
 * @param gram X Xᵀ, columns x columns; its diagonal is damped in place
 */
export function pruneWithUpdate(
  weights: Float32Array,
  { rows, columns }: MatrixSize,
  gram: Float64Array,
  options: UpdateOptions,
): void {
  const upper = inverseFactor(gram, columns, options.damping, (dead) => {
    for (let r = 0; r < rows; r++) weights[r * columns + dead] = 0;
  });
  const { pattern } = options;
  const step = pattern.kind === "n:m" ? pattern.of : pattern.columns;
  const width = Math.max(step, blockColumns - (blockColumns % step));
  const matrix = { weights, rows, columns, upper };
  if (pattern.kind === "n:m") {
    walkColumns(matrix, width, groupwise(matrix, pattern));
    return;
  }
  let first = 0;
  let last = 0;
  let removed: Uint8Array = new Uint8Array(0);
  walkColumns(
    matrix,
    width,
    (row, column, value) => (removed[row * (last - first) + column - first] ? 0 : value),
    (from, to) => {
      [first, last] = [from, to];
      removed = blockMask(weights, { rows, columns }, upper, from, to, options);
    },
  );
}

/** Lets all but N of M neighbours go, chosen when the first of them is settled. */
function groupwise(
  { weights, columns, upper }: WalkedMatrix,
  pattern: Pattern & { kind: "n:m" },
): (row: number, column: number, value: number) => number {
  const scores = new Float32Array(pattern.of);
  const mask = new Uint8Array(pattern.of);
  return (row, column, value) => {
    const place = column % pattern.of;
    if (place === 0) {
      for (let k = column; k < column + pattern.of; k++) {
        scores[k - column] = Math.abs(weights[row * columns + k]! / upper[k * columns + k]!);
      }
      markGroup(scores, mask.fill(0), 0, pattern);
    }
    return mask[place] ? 0 : value;
  };
}

function blockMask(
  weights: Float32Array,
  { rows, columns }: MatrixSize,
  upper: Float64Array,
  from: number,
  to: number,
  { pattern, sparsity }: UpdateOptions,
): Uint8Array {
  const width = to - from;
  const scores = new Float32Array(rows * width);
  for (let r = 0, at = 0; r < rows; r++) {
    for (let j = from; j < to; j++, at++) scores[at] = Math.abs(weights[r * columns + j]! / upper[j * columns + j]!);
  }
  const block = pattern.kind === "blocks" ? pattern.rows * pattern.columns : 1;
  // so that the blocks' counts add up to the matrix's
  const below = (end: number): number => Math.round((sparsity * rows * end) / block);
  return lowestMask(scores, { rows, columns: width }, pattern, below(to) - below(from));
}
