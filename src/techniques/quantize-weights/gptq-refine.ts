import { levelsOf } from "../../tensor/block-grid.ts";
import { fromHalfBits, toHalfBits } from "../../tensor/half.ts";
import type { GptqPlan, MatrixCodes } from "./gptq-matrix.ts";

/** Times that codes and then scales are gone over. */
const rounds = 4;

/** One row while it is refined: its errors e = w - w', and g = (H + λ I) e. */
interface Row {
  readonly at: number;
  readonly errors: Float64Array;
  readonly slopes: Float64Array;
}

/**
 * Moves codes and scales, in place, while that lowers the error in the products, e H eᵀ + λ |e|² for each row: each code to
 * the nearest one to where the error is least given all others, d = g_j / H_jj, then the scale of each block to its least
 * squares given its codes, d = vᵀ g / vᵀ H v. GPTQ decides on every code once, before those to its right.
 *
 * Perplexity that a language model of 0.26 M parameters loses, as a share of what rounding to nearest loses, without and
 * with it: 4 bits in blocks of 32 58 % and 46 %, by channel 51 % and 50 %.
 *
 * @param weights [rows, columns]
 * @param gram H, [columns, columns]
 * @param damping λ as a share of the mean of the diagonal
 */
export function refine(
  weights: Float32Array,
  coded: MatrixCodes,
  gram: Float64Array,
  plan: GptqPlan,
  damping: number,
): void {
  const columns = plan.importance.length;
  const rows = weights.length / columns;
  const diagonal = Float64Array.from({ length: columns }, (_, c) => gram[c * columns + c]!);
  const added = (damping * diagonal.reduce((a, b) => a + b, 0)) / columns;
  if (!(added > 0)) return;
  const row: Row = { at: 0, errors: new Float64Array(columns), slopes: new Float64Array(columns) };
  for (let r = 0; r < rows; r++) {
    const one = { ...row, at: r };
    begin(one, weights, coded, gram, plan.block, added);
    for (let round = 0; round < rounds; round++) {
      const moved = moveCodes(one, coded, gram, plan, added);
      if (!plan.grid.fixed) moveScales(one, coded, gram, plan, added);
      if (moved === 0) break;
    }
  }
}

function begin(
  { at, errors, slopes }: Row,
  weights: Float32Array,
  { codes, scales, zeros }: MatrixCodes,
  gram: Float64Array,
  block: number,
  added: number,
): void {
  const columns = errors.length;
  const blocks = Math.ceil(columns / block);
  for (let c = 0; c < columns; c++) {
    const b = at * blocks + Math.floor(c / block);
    errors[c] = weights[at * columns + c]! - scales[b]! * (codes[at * columns + c]! - zeros[b]!);
  }
  for (let c = 0; c < columns; c++) slopes[c] = added * errors[c]!;
  for (let c = 0; c < columns; c++) shift(slopes, gram, c, errors[c]!);
}

/** Adds an error's part to the slopes. */
function shift(slopes: Float64Array, gram: Float64Array, column: number, by: number): void {
  const columns = slopes.length;
  if (by !== 0) for (let k = 0, g = column * columns; k < columns; k++, g++) slopes[k]! += by * gram[g]!;
}

/** Gives how many codes have moved. */
function moveCodes(
  { at, errors, slopes }: Row,
  { codes, scales }: MatrixCodes,
  gram: Float64Array,
  { grid, block }: GptqPlan,
  added: number,
): number {
  const columns = errors.length;
  const blocks = Math.ceil(columns / block);
  const top = levelsOf(grid.width) - 1;
  let moved = 0;
  for (let c = 0; c < columns; c++) {
    const scale = scales[at * blocks + Math.floor(c / block)]!;
    const place = at * columns + c;
    const code = codes[place]!;
    const ideal = slopes[c]! / (gram[c * columns + c]! + added);
    const next = Math.min(top, Math.max(0, Math.round(code + ideal / scale)));
    if (next === code) continue;
    const step = scale * (next - code);
    codes[place] = next;
    errors[c]! -= step;
    slopes[c]! -= added * step;
    shift(slopes, gram, c, -step);
    moved++;
  }
  return moved;
}

function moveScales(
  { at, errors, slopes }: Row,
  { codes, scales, zeros }: MatrixCodes,
  gram: Float64Array,
  { grid, block }: GptqPlan,
  added: number,
): void {
  const columns = errors.length;
  const blocks = Math.ceil(columns / block);
  const products = new Float64Array(columns);
  for (let b = 0; b < blocks; b++) {
    const [from, to, place] = [b * block, Math.min(columns, (b + 1) * block), at * blocks + b];
    const unit = (c: number): number => codes[at * columns + c]! - zeros[place]!;
    products.fill(0);
    for (let c = from; c < to; c++) shift(products, gram, c, unit(c));
    let [slope, curve] = [0, 0];
    for (let c = from; c < to; c++) {
      slope += unit(c) * slopes[c]!;
      curve += unit(c) * (products[c]! + added * unit(c));
    }
    const scale = scales[place]!;
    const wanted = scale + (curve > 0 ? slope / curve : 0);
    const next = grid.halfScales ? fromHalfBits(toHalfBits(wanted)) : Math.fround(wanted);
    const step = next - scale;
    // rounded to what can be stored it may be no better
    if (step === 0 || next === 0 || step * (step * curve - 2 * slope) >= 0) continue;
    scales[place] = next;
    for (let c = from; c < to; c++) {
      errors[c]! -= step * unit(c);
      slopes[c]! -= step * added * unit(c);
    }
    for (let k = 0; k < columns; k++) slopes[k]! -= step * products[k]!;
  }
}
