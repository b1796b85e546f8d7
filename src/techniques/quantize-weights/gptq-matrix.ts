import { type BlockFitter, blockFitter } from "../../tensor/block-fit.ts";
import { type Grid, levelsOf, magic } from "../../tensor/block-grid.ts";
import { walkColumns } from "../weight-matrices/column-walk.ts";
import { inverseFactor } from "../weight-matrices/inverse-factor.ts";

/** A matrix in codes: element = scale of its block * (code - zero of its block). */
export interface MatrixCodes {
  /** [rows, columns] */
  readonly codes: Uint8Array;
  /** [rows, blocks] */
  readonly scales: Float32Array;
  /** [rows, blocks] */
  readonly zeros: Float32Array;
}

/** The Hessian of a layer's squared error, made ready for {@link gptq}. */
export interface Hessian {
  /** U of H⁻¹ = Uᵀ U, [columns, columns], in the order below. */
  readonly upper: Float64Array;
  /** The columns in the order that they are rounded in, those of the largest inputs first; as they stand if absent. */
  readonly order: Uint32Array | undefined;
}

/** How a matrix is put into codes by {@link gptq}. */
export interface GptqPlan {
  readonly grid: Grid;
  /** Columns of a block. */
  readonly block: number;
  /** Weight of each column in the squared error by which a block's scale is found. */
  readonly importance: Float32Array;
}

/** Columns after which the rest of the matrix is updated. */
const lazyColumns = 128;

/**
 * Makes a Gram matrix X Xᵀ ready.
 *
 * @param gram [columns, columns]
 * @param damping share of the mean of the diagonal that is added to it
 */
export function hessianOf(gram: Float64Array, columns: number, damping: number, actOrder: boolean): Hessian {
  const order = actOrder ? descending(gram, columns) : undefined;
  return { upper: inverseFactor(order ? permuted(gram, order) : gram.slice(), columns, damping), order };
}

/**
 * Rounds a matrix column by column to the grid of its blocks; the columns not yet rounded make up for the error (GPTQ:
 * Frantar et al. 2022). A block's scale is found when its first column comes, on the values that the block has by then;
 * where columns go in another order than they stand, all scales are found before. Inputs that were always zero on the data
 * are rounded as the rest: other data may need them.
 *
 * @param weights [rows, columns]; overwritten with what the codes stand for, in the Hessian's order
 */
export function gptq(
  weights: Float32Array,
  { upper, order }: Hessian,
  { grid, block, importance }: GptqPlan,
): MatrixCodes {
  const columns = importance.length;
  const rows = weights.length / columns;
  const blocks = Math.ceil(columns / block);
  const { codes, scales, zeros } = emptyCodes(rows, columns, blocks);
  const fitter = blockFitter(grid, Math.min(block, columns), importance);
  const fitAt = (row: number, b: number): void => {
    fitBlock(fitter, weights, row * columns, columns, b * block, block);
    scales[row * blocks + b] = fitter.scale();
    zeros[row * blocks + b] = fitter.zero();
  };
  if (order) {
    for (let r = 0; r < rows; r++) for (let b = 0; b < blocks; b++) fitAt(r, b);
    permuteColumns(weights, rows, order);
  }
  const binary = grid.width === "binary";
  const top = levelsOf(grid.width) - 1;
  const width = block <= 2 * lazyColumns ? Math.max(block, lazyColumns - (lazyColumns % block)) : lazyColumns;
  const matrix = { weights, rows, columns, upper };
  walkColumns(matrix, width, (row, j, value) => {
    const column = order ? order[j]! : j;
    const b = Math.floor(column / block);
    const at = row * blocks + b;
    if (!order && j % block === 0) fitAt(row, b);
    const nearest = binary ? (value >= 0 ? 1 : 0) : value / scales[at]! + zeros[at]! + magic - magic;
    const code = Math.min(top, Math.max(0, nearest));
    codes[row * columns + column] = code;
    return scales[at]! * (code - zeros[at]!);
  });
  return { codes, scales, zeros };
}

/**
 * Rounds each block by itself.
 *
 * @param weights [rows, columns]
 */
export function rounded(weights: Float32Array, { grid, block, importance }: GptqPlan): MatrixCodes {
  const columns = importance.length;
  const rows = weights.length / columns;
  const blocks = Math.ceil(columns / block);
  const made = emptyCodes(rows, columns, blocks);
  const fitter = blockFitter(grid, Math.min(block, columns), importance);
  for (let r = 0, at = 0; r < rows; r++) {
    for (let b = 0; b < blocks; b++, at++) {
      fitBlock(fitter, weights, r * columns, columns, b * block, block);
      made.scales[at] = fitter.scale();
      made.zeros[at] = fitter.zero();
      const start = b * block;
      made.codes.set(fitter.codes.subarray(0, Math.min(block, columns - start)), r * columns + start);
    }
  }
  return made;
}

/**
 * The squared error in the products of a matrix with inputs, tr(E H Eᵀ), where E is what codes change.
 *
 * @param weights [rows, columns]
 * @param gram H, [columns, columns]
 */
export function codingError(weights: Float32Array, coded: MatrixCodes, gram: Float64Array, block: number): number {
  const columns = Math.sqrt(gram.length);
  const rows = weights.length / columns;
  const blocks = coded.scales.length / rows;
  const errors = new Float64Array(columns);
  let total = 0;
  for (let r = 0, at = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++, at++) {
      const b = r * blocks + Math.floor(c / block);
      errors[c] = weights[at]! - coded.scales[b]! * (coded.codes[at]! - coded.zeros[b]!);
    }
    for (let i = 0, g = 0; i < columns; i++) {
      let sum = 0;
      for (let j = 0; j < columns; j++, g++) sum += gram[g]! * errors[j]!;
      total += sum * errors[i]!;
    }
  }
  return total;
}

function emptyCodes(rows: number, columns: number, blocks: number): MatrixCodes {
  const [codes, scales] = [new Uint8Array(rows * columns), new Float32Array(rows * blocks)];
  return { codes, scales, zeros: new Float32Array(rows * blocks) };
}

function fitBlock(
  fitter: BlockFitter,
  weights: Float32Array,
  row: number,
  columns: number,
  start: number,
  block: number,
): void {
  fitter.run(weights, row + start, Math.min(block, columns - start), start);
}

function descending(gram: Float64Array, n: number): Uint32Array {
  return Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => gram[b * n + b]! - gram[a * n + a]! || a - b);
}

function permuted(gram: Float64Array, order: Uint32Array): Float64Array {
  const n = order.length;
  const made = new Float64Array(n * n);
  for (let i = 0, at = 0; i < n; i++) {
    const row = order[i]! * n;
    for (let j = 0; j < n; j++, at++) made[at] = gram[row + order[j]!]!;
  }
  return made;
}

function permuteColumns(weights: Float32Array, rows: number, order: Uint32Array): void {
  const columns = order.length;
  const before = new Float32Array(columns);
  for (let r = 0; r < rows; r++) {
    const row = weights.subarray(r * columns, (r + 1) * columns);
    before.set(row);
    for (let j = 0; j < columns; j++) row[j] = before[order[j]!]!;
  }
}
