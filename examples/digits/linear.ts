/** A square or rectangular matrix of float64, row-major. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

/** The Gram matrix `XᵀX` of `rows` samples of `columns` features each. */
export function gram(x: ArrayLike<number>, rows: number, columns: number): Matrix {
  const data = new Float64Array(columns * columns);
  for (let r = 0; r < rows; r++) {
    const at = r * columns;
    for (let i = 0; i < columns; i++) {
      const xi = x[at + i]!;
      if (xi === 0) continue;
      for (let j = 0; j <= i; j++) data[i * columns + j]! += xi * x[at + j]!;
    }
  }
  for (let i = 0; i < columns; i++) for (let j = 0; j < i; j++) data[j * columns + i] = data[i * columns + j]!;
  return { rows: columns, columns, data };
}

/**
 * Solves `(A + ridge·I) X = B` for a symmetric positive definite A by Cholesky factorization.
 *
 * @param b `n` rows of right-hand sides
 * @returns X, in the layout of `b`
 */
export function solve(a: Matrix, b: Matrix, ridge: number): Matrix {
  const n = a.rows;
  const l = a.data.slice();
  for (let i = 0; i < n; i++) l[i * n + i]! += ridge;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = l[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j]!;
    }
  }
  const x = b.data.slice();
  const m = b.columns;
  for (let c = 0; c < m; c++) {
    for (let i = 0; i < n; i++) {
      let sum = x[i * m + c]!;
      for (let k = 0; k < i; k++) sum -= l[i * n + k]! * x[k * m + c]!;
      x[i * m + c] = sum / l[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = x[i * m + c]!;
      for (let k = i + 1; k < n; k++) sum -= l[k * n + i]! * x[k * m + c]!;
      x[i * m + c] = sum / l[i * n + i]!;
    }
  }
  return { rows: n, columns: m, data: x };
}
