/**
 * The upper factor U with H⁻¹ = Uᵀ U of a damped Gram matrix H + λ I, row by row. With J the reversal of rows and columns:
 * J H J = L Lᵀ, so U = J L⁻¹ J. Where rounding has eaten the damping, λ is ten times as large, and again.
 *
 * @param gram X Xᵀ [n, n]; its diagonal is damped in place
 * @param damping λ as a share of the mean of the diagonal
 * @param dead called for columns whose inputs are always zero
 */
export function inverseFactor(
  gram: Float64Array,
  n: number,
  damping: number,
  dead: (column: number) => void = () => {},
): Float64Array {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i]!;
  let added = trace > 0 ? (damping * trace) / n : 1;
  for (let i = 0; i < n; i++) {
    if (gram[i * n + i]! <= 0) {
      dead(i);
      gram[i * n + i] = trace > 0 ? trace / n : 1;
    }
    gram[i * n + i]! += added;
  }
  const lower = new Float64Array(n * n);
  while (!reversedFactor(gram, lower, n, added / 2)) {
    for (let i = 0; i < n; i++) gram[i * n + i]! += 9 * added;
    added *= 10;
  }
  return inverse(lower, n).reverse();
}

/** L of J H J = L Lᵀ, into `lower`; false where a pivot is below what damping guarantees but for rounding. */
function reversedFactor(gram: Float64Array, lower: Float64Array, n: number, least: number): boolean {
  const last = n * n - 1;
  for (let i = 0; i < n; i++) {
    const a = lower.subarray(i * n, (i + 1) * n);
    for (let j = 0; j <= i; j++) {
      const b = lower.subarray(j * n, (j + 1) * n);
      let sum = gram[last - i * n - j]!;
      for (let k = 0; k < j; k++) sum -= a[k]! * b[k]!;
      if (i === j && !(sum >= least)) return false;
      a[j] = i === j ? Math.sqrt(sum) : sum / b[j]!;
    }
  }
  return true;
}

/** The inverse of a lower factor. */
function inverse(lower: Float64Array, n: number): Float64Array {
  const made = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = made.subarray(i * n, (i + 1) * n);
    const pivot = lower[i * n + i]!;
    for (let k = 0; k < i; k++) {
      const factor = lower[i * n + k]! / pivot;
      if (factor === 0) continue;
      const other = k * n;
      for (let j = 0; j <= k; j++) row[j]! -= factor * made[other + j]!;
    }
    row[i] = 1 / pivot;
  }
  return made;
}
