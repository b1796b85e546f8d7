import { expect, test } from "vitest";
import { random } from "../../../random.ts";
import { dequantize, quantizeWeight, type WeightOptions } from "../../../tensor/affine.ts";
import { float32, toFloat32, typed } from "../../../tensor/tensor.ts";
import { roundedCodes, softRounding } from "./soft-rounding.ts";

const generator = random(9);
const shape = [6, 5, 3];
const w = Float32Array.from({ length: 90 }, (_, i) => (i % 7 === 0 ? 0 : generator.normal()));
const weight = float32(shape, w);

/** What variables make of the weights: s (floor + h(V)). */
function soft(variables: Float32Array, floors: Int16Array, scale: (i: number) => number): Float32Array {
  return Float32Array.from(floors, (floor, i) => {
    const h = Math.min(1, Math.max(0, 1.2 / (1 + Math.exp(-variables[i]!)) - 0.1));
    return scale(i) * (floor + h);
  });
}

const cases: [string, WeightOptions][] = [
  ["symmetric, a scale for each of the middle axis", { dtype: "int8", axis: 1, symmetric: true, bits: 3 }],
  ["asymmetric, one scale", { dtype: "uint8", axis: null, symmetric: false, bits: 4 }],
  ["clipped", { dtype: "int8", axis: null, symmetric: true, bits: 4, scale: Float32Array.of(0.1) }],
];
test.each(cases)("variables start where soft weights are the float ones, within the grid: %s", (_, options) => {
  const grid = quantizeWeight(weight, options);
  const scale = (i: number): number => grid.scales[options.axis === null ? 0 : Math.floor(i / 3) % 5]!;
  const { floors, start, nearest } = softRounding(weight, grid, options);
  const rounded = dequantize(grid.values, grid.scales, grid.zeroPoints, options.axis);
  const codes = roundedCodes({ floors }, nearest);
  const channel = (i: number): number => (options.axis === null ? 0 : Math.floor(i / 3) % 5);
  for (const [i, code] of codes.entries())
    expect(code + grid.zeroPoints[channel(i)]!).toBe((typed(grid.values) as Int8Array)[i]);
  const [lowest, highest] = [Math.min(...rounded), Math.max(...rounded)];
  for (const [i, value] of soft(toFloat32(start), floors, scale).entries()) {
    const beyond = w[i]! < lowest || w[i]! > highest;
    expect(value).toBeCloseTo(beyond ? rounded[i]! : w[i]!, 4);
  }
  for (const variables of [-10, 10]) {
    const all = roundedCodes({ floors }, float32(shape, new Float32Array(90).fill(variables)));
    const limit = 2 ** (options.bits! - 1);
    for (const [i, code] of all.entries()) {
      const q = code + grid.zeroPoints[channel(i)]!;
      expect(q).toBeGreaterThanOrEqual(options.dtype === "int8" ? -limit : 0);
      expect(q).toBeLessThanOrEqual(options.dtype === "int8" ? limit - 1 : 2 * limit - 1);
    }
  }
});

test("zeros are decided from the start", () => {
  const options: WeightOptions = { dtype: "int8", axis: null, symmetric: true, bits: 4 };
  const { floors, start } = softRounding(weight, quantizeWeight(weight, options), options);
  const variables = toFloat32(start);
  for (let i = 0; i < 90; i += 7) expect([floors[i], variables[i]]).toEqual([0, -10]);
});
