/** A matrix to walk over. */
export interface WalkedMatrix {
  /** [rows, columns]; each element is replaced with what it is settled to. */
  readonly weights: Float32Array;
  readonly rows: number;
  readonly columns: number;
  /** U of H⁻¹ = Uᵀ U, [columns, columns]; see inverse-factor.ts. */
  readonly upper: Float64Array;
}

/**
 * Settles a matrix's elements column by column, and lets the columns to the right make up for the error of each in the
 * product with the inputs, that of a block of columns at once (Frantar and Alistarh 2022, 2023):
 *
 *     e = (w_ij - settle(w_ij)) / U_jj,  w_ik -= e U_jk for k > j
 *
 * @param width columns of a block
 * @param settle what an element becomes, given its row, column and the value it has by then; row by row within a block
 * @param begin called before the columns `from` to `to`, a block, are walked
 */
export function walkColumns(
  matrix: WalkedMatrix,
  width: number,
  settle: (row: number, column: number, value: number) => number,
  begin: (from: number, to: number) => void = () => {},
): void {
  const { weights, rows, columns, upper } = matrix;
  const errors = new Float64Array(rows * width);
  for (let from = 0; from < columns; from += width) {
    const to = Math.min(columns, from + width);
    begin(from, to);
    for (let r = 0; r < rows; r++) {
      const row = weights.subarray(r * columns, (r + 1) * columns);
      for (let j = from; j < to; j++) {
        const value = row[j]!;
        const settled = settle(r, j, value);
        const error = (value - settled) / upper[j * columns + j]!;
        errors[r * width + j - from] = error;
        row[j] = settled;
        if (error !== 0) for (let k = j + 1, u = j * columns + k; k < to; k++, u++) row[k]! -= error * upper[u]!;
      }
    }
    for (let at = to; at < columns; at += tileColumns) {
      updateTile(matrix, errors, width, [from, to], at, Math.min(columns, at + tileColumns));
    }
  }
}

/** Columns updated at once: their part of a block's rows of U stays in the cache while all rows are passed over. */
const tileColumns = 128;

function updateTile(
  { weights, rows, columns, upper }: WalkedMatrix,
  errors: Float64Array,
  width: number,
  [from, to]: readonly [number, number],
  at: number,
  end: number,
): void {
  const n = end - at;
  const sums = new Float64Array(n);
  for (let r = 0; r < rows; r++) {
    sums.fill(0);
    for (let j = from; j < to; j += 2) {
      const e = errors[r * width + j - from]!;
      const f = j + 1 < to ? errors[r * width + j + 1 - from]! : 0;
      if (e === 0 && f === 0) continue;
      const u = j * columns + at;
      const v = f === 0 ? u : u + columns;
      for (let k = 0; k < n; k++) sums[k]! += e * upper[u + k]! + f * upper[v + k]!;
    }
    for (let k = 0, w = r * columns + at; k < n; k++, w++) weights[w]! -= sums[k]!;
  }
}
