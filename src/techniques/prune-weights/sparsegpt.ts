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
  for (let from = 0; from < columns; from += width) {
    const to = Math.min(columns, from + width);
    const removed =
      pattern.kind === "n:m" ? undefined : blockMask(weights, { rows, columns }, upper, from, to, options);
    for (let r = 0; r < rows; r++) {
      const row = weights.subarray(r * columns, (r + 1) * columns);
      pruneRow(row, upper, from, to, removed?.subarray(r * (to - from), (r + 1) * (to - from)), pattern);
    }
  }
}

/** Prunes columns `from` to `to` of one row, then updates what is to their right. */
function pruneRow(
  row: Float32Array,
  upper: Float64Array,
  from: number,
  to: number,
  removed: Uint8Array | undefined,
  pattern: Pattern,
): void {
  const columns = row.length;
  const errors = new Float64Array(to - from);
  const mask = removed ?? new Uint8Array(to - from);
  const scores = new Float32Array(removed ? 0 : to - from);
  for (let j = from; j < to; j++) {
    if (pattern.kind === "n:m" && (j - from) % pattern.of === 0) {
      for (let k = j; k < j + pattern.of; k++) scores[k - from] = Math.abs(row[k]! / upper[k * columns + k]!);
      markGroup(scores, mask, j - from, pattern);
    }
    if (!mask[j - from]) continue;
    const error = row[j]! / upper[j * columns + j]!;
    errors[j - from] = error;
    row[j] = 0;
    if (error !== 0) for (let k = j + 1, u = j * columns + k; k < to; k++, u++) row[k]! -= error * upper[u]!;
  }
  for (let j = from; j < to; j++) {
    const error = errors[j - from]!;
    if (error !== 0) for (let k = to, u = j * columns + k; k < columns; k++, u++) row[k]! -= error * upper[u]!;
  }
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

/**
 * The upper factor U with H⁻¹ = Uᵀ U of the damped Gram matrix, row by row. With J the reversal of rows and columns:
 * J H J = L Lᵀ, so U = J L⁻¹ J.
 *
 * @param dead called for columns whose inputs are always zero
 */
export function inverseFactor(
  gram: Float64Array,
  n: number,
  damping: number,
  dead: (column: number) => void,
): Float64Array {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i]!;
  const added = trace > 0 ? (damping * trace) / n : 1;
  for (let i = 0; i < n; i++) {
    if (gram[i * n + i]! <= 0) {
      dead(i);
      gram[i * n + i] = trace > 0 ? trace / n : 1;
    }
    gram[i * n + i]! += added;
  }
  const lower = new Float64Array(n * n);
  const at = (i: number, j: number): number => gram[(n - 1 - i) * n + (n - 1 - j)]!;
  for (let i = 0; i < n; i++) {
    const a = lower.subarray(i * n, (i + 1) * n);
    for (let j = 0; j <= i; j++) {
      const b = lower.subarray(j * n, (j + 1) * n);
      let sum = at(i, j);
      for (let k = 0; k < j; k++) sum -= a[k]! * b[k]!;
      // rounding can bring a pivot of a nearly singular matrix below what damping guarantees
      a[j] = i === j ? Math.sqrt(Math.max(sum, added / 2)) : sum / b[j]!;
    }
  }
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = inverse.subarray(i * n, (i + 1) * n);
    const pivot = lower[i * n + i]!;
    for (let k = 0; k < i; k++) {
      const factor = lower[i * n + k]! / pivot;
      if (factor === 0) continue;
      const other = k * n;
      for (let j = 0; j <= k; j++) row[j]! -= factor * inverse[other + j]!;
    }
    row[i] = 1 / pivot;
  }
  return inverse.reverse();
}
