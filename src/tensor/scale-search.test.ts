import { expect, test } from "vitest";
import { random } from "../random.ts";
import { dequantize, quantizeWeight } from "./affine.ts";
import { searchScales } from "./scale-search.ts";
import { float32 } from "./tensor.ts";

const generator = random(3);
const normal = (size: number): Float32Array => Float32Array.from({ length: size }, () => generator.normal());

type Settings = { dtype: "int8" | "uint8"; axis: number | null; symmetric: boolean; bits: number };

function error(data: Float32Array, shape: readonly number[], settings: Settings, searched: boolean, m?: Float32Array) {
  const grids = searched ? searchScales(data, shape, settings, m) : {};
  const { values, scales, zeroPoints } = quantizeWeight(float32(shape, data), { ...settings, ...grids });
  const back = dequantize(values, scales, zeroPoints, settings.axis);
  return data.reduce((sum, w, i) => sum + (m?.[i] ?? 1) * (w - back[i]!) ** 2, 0) / data.length;
}

test("normal weights come near the error of the best uniform quantizer (Max 1960)", () => {
  const data = normal(20_000);
  const settings = { dtype: "int8", axis: null, symmetric: true } as const;
  // of 16 and 4 levels placed symmetrically; here zero is a level, which costs a little
  expect(error(data, [20_000], { ...settings, bits: 4 }, true)).toBeLessThan(0.01154 * 1.15);
  expect(error(data, [20_000], { ...settings, bits: 4 }, false)).toBeGreaterThan(0.02);
  expect(error(data, [20_000], { ...settings, bits: 2 }, true)).toBeLessThan(0.19);
});

test("every channel has its own grid, along any axis, and one-sided weights use all integers of an asymmetric one", () => {
  const data = normal(4000).map((w, i) => Math.abs(w) * (i % 4 === 0 ? 100 : 1));
  for (const symmetric of [true, false]) {
    const settings = { dtype: "uint8", axis: 1, symmetric, bits: 4 } as const;
    const searched = error(data, [1000, 4], settings, true);
    expect(searched).toBeLessThan(0.8 * error(data, [1000, 4], settings, false));
    if (!symmetric) expect(Math.min(...searchScales(data, [1000, 4], settings).zeroPoints)).toBe(0);
  }
});

test("importance draws the grid to the weights that count", () => {
  const data = normal(512);
  const m = Float32Array.from(data, (w) => (Math.abs(w) > 2 ? 1000 : 1e-3));
  const settings = { dtype: "int8", axis: null, symmetric: true, bits: 3 } as const;
  const weighed = searchScales(data, [512], settings, m).scale[0]!;
  expect(weighed).toBeGreaterThan(1.2 * searchScales(data, [512], settings).scale[0]!);
});

test("constant and zero channels keep a usable scale", () => {
  const data = Float32Array.of(0, 0, 5, 5);
  const { scale } = searchScales(data, [2, 2], { dtype: "int8", axis: 0, symmetric: true, bits: 4 });
  expect(scale[0]).toBe(1);
  expect(error(data, [2, 2], { dtype: "int8", axis: 0, symmetric: true, bits: 4 }, true)).toBeLessThan(1e-12);
});
