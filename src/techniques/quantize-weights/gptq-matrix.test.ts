import { expect, test } from "vitest";
import { type Grid, levelsOf } from "../../tensor/block-grid.ts";
import { fromHalfBits, toHalfBits } from "../../tensor/half.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { normal } from "../testing.ts";
import { codingError, type GptqPlan, gptq, hessianOf, type MatrixCodes, rounded } from "./gptq-matrix.ts";
import { refine } from "./gptq-refine.ts";

const grid: Grid = { width: 4, symmetric: true, method: "search", fixed: { scale: 1, zero: 8 } };
const plan = (columns: number, over: Partial<GptqPlan> = {}): GptqPlan => {
  return { grid, block: columns, importance: new Float32Array(columns).fill(1), ...over };
};
const integers = ({ codes, zeros }: MatrixCodes): number[] => [...codes].map((code) => code - zeros[0]!);

/** X Xᵀ of inputs that lean on a few causes, as activations do. */
function gramOf(columns: number, samples: number, seed: number): Float64Array {
  const mixing = toFloat32(normal([columns, 8], 3));
  const causes = toFloat32(normal([8, samples], seed));
  const noise = toFloat32(normal([columns, samples], seed + 1));
  const x = Float64Array.from({ length: columns * samples }, (_, at) => {
    const [c, s] = [Math.floor(at / samples), at % samples];
    let sum = 0.02 * noise[at]!;
    for (let k = 0; k < 8; k++) sum += mixing[c * 8 + k]! * causes[k * samples + s]!;
    return sum;
  });
  const gram = new Float64Array(columns ** 2);
  for (let i = 0, at = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++, at++) {
      for (let s = 0; s < samples; s++) gram[at]! += x[i * samples + s]! * x[j * samples + s]!;
    }
  }
  return gram;
}

test("two inputs that are always the same make up for each other", () => {
  const weights = Float32Array.of(0.4, 0.4);
  const gram = Float64Array.of(1, 1, 1, 1);
  expect(integers(rounded(weights, { ...plan(2), grid: { ...grid, method: "rtn" } }))).toEqual([0, 0]);
  expect(integers(gptq(weights, hessianOf(gram, 2, 1e-6, false), plan(2)))).toEqual([0, 1]);
});

test("inputs that have nothing in common leave each weight at its nearest code", () => {
  const weights = Float32Array.of(0.4, -2.6, 7.9, -9);
  const gram = Float64Array.of(4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
  for (const actOrder of [false, true]) {
    const coded = gptq(weights.slice(), hessianOf(gram.slice(), 4, 0.01, actOrder), plan(4));
    expect(integers(coded)).toEqual([0, -3, 7, -8]);
  }
});

test("the weights left behind are what the codes stand for, in the order they were rounded in", () => {
  const columns = 40;
  const gram = gramOf(columns, 100, 5);
  for (const actOrder of [false, true]) {
    const weights = toFloat32(normal([6, columns], 2)).slice();
    const free: Grid = { width: 3, symmetric: false, method: "search" };
    const hessian = hessianOf(gram.slice(), columns, 0.01, actOrder);
    const { codes, scales, zeros } = gptq(weights, hessian, plan(columns, { grid: free, block: 16 }));
    for (const [at, left] of weights.entries()) {
      const [row, j] = [Math.floor(at / columns), at % columns];
      const column = hessian.order?.[j] ?? j;
      const b = row * 3 + Math.floor(column / 16);
      expect(left).toBe(Math.fround(scales[b]! * (codes[row * columns + column]! - zeros[b]!)));
    }
  }
});

test("errors of the products fall at every width, over blocks, with and without an order, beyond a lazy block", () => {
  const columns = 144;
  const weights = toFloat32(normal([12, columns], 2));
  const gram = gramOf(columns, 300, 5);
  const other = gramOf(columns, 300, 50);
  for (const width of [8, 4, 3, 2, "ternary", "binary"] as const) {
    for (const actOrder of [false, true]) {
      for (const block of [32, columns]) {
        const free: Grid = { width, symmetric: block === columns, method: "search" };
        const how = plan(columns, { grid: free, block });
        const coded = gptq(weights.slice(), hessianOf(gram.slice(), columns, 0.01, actOrder), how);
        const before = codingError(weights, rounded(weights, how), other, block);
        expect(codingError(weights, coded, other, block), `${width} ${actOrder} ${block}`).toBeLessThan(0.5 * before);
      }
    }
  }
});

test("refined codes and scales err less, and stay what can be stored", () => {
  const columns = 96;
  const weights = toFloat32(normal([10, columns], 2));
  const gram = gramOf(columns, 300, 5);
  for (const width of [8, 4, 3, "ternary", "binary"] as const) {
    for (const symmetric of [true, false]) {
      const how = plan(columns, { grid: { width, symmetric, method: "search", halfScales: true }, block: 32 });
      const coded = gptq(weights.slice(), hessianOf(gram, columns, 0.01, false), how);
      const before = codingError(weights, coded, gram, 32);
      refine(weights, coded, gram, how, 0.01);
      expect(codingError(weights, coded, gram, 32), `${width}`).toBeLessThan(0.97 * before);
      expect(coded.codes.every((code) => code < levelsOf(width))).toBe(true);
      expect([...coded.scales]).toEqual([...coded.scales].map((scale) => fromHalfBits(toHalfBits(scale))));
    }
  }
});

test("refining keeps a scale that is given, and moves a code that others made wrong", () => {
  const weights = Float32Array.of(0.4, 0.4);
  const coded = rounded(weights, { ...plan(2), grid: { ...grid, method: "rtn" } });
  refine(weights, coded, Float64Array.of(1, 1, 1, 1), plan(2), 1e-6);
  expect(integers(coded).sort()).toEqual([0, 1]);
  expect([...coded.scales]).toEqual([1]);
});
