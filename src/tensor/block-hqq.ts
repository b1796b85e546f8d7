import { type Block, clampCode, magic, nearest } from "./block-grid.ts";

const shrinkage = 10;
const shrinkageGrowth = 1.01;
const splittingRounds = 20;

/** Half-quadratic splitting for least sum |x - d (q - z)|^0.7, into `best`. */
export function hqq(b: Block): void {
  const { best, levels } = b;
  nearest(b);
  const step = best[0]!;
  const zero = best[1]!;
  best[2] = Number.POSITIVE_INFINITY;
  descend(b, step, zero);
  if (b.width === "ternary") return;
  if (b.symmetric) descend(b, -step, zero);
  else {
    const settled = settleZero(b, step, zero);
    descend(b, step, clampCode(Math.floor(settled), levels));
    descend(b, step, clampCode(Math.ceil(settled), levels));
  }
}

/** Half-quadratic splitting for the step, the zero point held; keeps the best iterate in `best`. */
function descend(b: Block, start: number, zero: number): void {
  const { best, sums } = b;
  let step = start;
  let beta = shrinkage;
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < splittingRounds; round++, beta *= shrinkageGrowth) {
    const loss = split(b, step, zero, beta);
    if (loss < best[2]!) {
      best[0] = step;
      best[1] = zero;
      best[2] = loss;
    }
    const next = sums[0]! / sums[1]!;
    if (!(loss < least) || !(sums[1]! > 0) || next === 0) return;
    least = loss;
    step = next;
  }
}

/**
 * One half-quadratic step: with r = x / d - (q - z), e = shrink(r), leaves in `sums` the sums whose quotient is the next
 * d, the least squares of d (x / d - e) on q - z. Returns sum m |d r|^p.
 */
function split({ x, at, n, m, sums, levels }: Block, step: number, zero: number, beta: number): number {
  const inverse = 1 / step;
  const f = -zero / 2;
  const g = (levels - 1 - zero) / 2;
  let qx = 0;
  let qq = 0;
  let loss = 0;
  for (let i = 0; i < n; i++) {
    const t = x[at + i]! * inverse;
    const h = t / 2;
    const q = Math.abs(h - f) - Math.abs(h - g) + (f + g) + magic - magic;
    const r = t - q;
    const weight = m ? m[i]! : 1;
    loss += weight * power(Math.abs(r));
    qx += weight * q * (t - shrink(r, beta));
    qq += weight * q * q;
  }
  sums[0] = qx * step;
  sums[1] = qq;
  return loss * Math.abs(step) ** p;
}

/** The real zero point that half-quadratic splitting settles on, the step held. */
function settleZero({ x, at, n, m, levels }: Block, step: number, start: number): number {
  const inverse = 1 / step;
  let zero = start;
  let beta = shrinkage;
  for (let round = 0; round < splittingRounds; round++, beta *= shrinkageGrowth) {
    let sum = 0;
    let total = 0;
    for (let i = 0; i < n; i++) {
      const t = x[at + i]! * inverse;
      const q = Math.min(levels - 1, Math.max(0, t + zero)) + magic - magic;
      const weight = m ? m[i]! : 1;
      sum += weight * (q - t + shrink(t - (q - zero), beta));
      total += weight;
    }
    const next = total > 0 ? sum / total : zero;
    const settled = Math.abs(next - zero) < 1e-3;
    zero = next;
    if (settled) break;
  }
  return zero;
}

const p = 0.7;
const tableScale = 1024;
const powers = Float64Array.from({ length: 2 * tableScale + 1 }, (_, i) => (i / tableScale) ** p);

/** r^p for r >= 0, by table below 2: it only ranks iterates. */
function power(r: number): number {
  return r < 2 ? powers[(r * tableScale + 0.5) | 0]! : r ** p;
}

/** The generalized soft threshold sign(r) max(0, |r| - |r|^(p-1) / beta). */
function shrink(r: number, beta: number): number {
  const a = Math.abs(r);
  // at beta = 10 the threshold is 10^(-1 / 1.3) = 0.17, and it falls to 0.148 in 20 rounds
  if (a < 0.148) return 0;
  const left = a - power(a) / (a * beta);
  return left > 0 ? Math.sign(r) * left : 0;
}
