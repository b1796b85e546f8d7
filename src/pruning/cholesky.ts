/**
 * Solves A X = B for a symmetric positive definite A by Cholesky decomposition.
 *
 * @param a [n, n], row by row; its lower triangle is overwritten
 * @param b [m, n]: a right-hand side a row; overwritten with the solutions
 * @returns false where A is not positive definite
 */
export function solvePositive(a: Float64Array, b: Float64Array, n: number): boolean {
  for (let i = 0; i < n; i++) {
    const row = a.subarray(i * n, i * n + n);
    for (let j = 0; j <= i; j++) {
      const other = a.subarray(j * n, j * n + n);
      let sum = row[j]!;
      for (let k = 0; k < j; k++) sum -= row[k]! * other[k]!;
      if (j < i) row[j] = sum / other[j]!;
      else if (sum > 0) row[i] = Math.sqrt(sum);
      else return false;
    }
  }
  for (let start = 0; start < b.length; start += n) {
    const x = b.subarray(start, start + n);
    for (let i = 0; i < n; i++) {
      const row = a.subarray(i * n, i * n + n);
      let sum = x[i]!;
      for (let k = 0; k < i; k++) sum -= row[k]! * x[k]!;
      x[i] = sum / row[i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      const value = x[i]! / a[i * n + i]!;
      x[i] = value;
      for (let k = 0; k < i; k++) x[k]! -= value * a[i * n + k]!;
    }
  }
  return true;
}
