import { describe, expect, test } from "vitest";
import { affineParams, dequantize, quantizedRange, quantizeWeight, roundHalfEven } from "./affine.ts";
import { floatToHalf } from "./half.ts";
import { float32, tensor, toNumbers } from "./tensor.ts";

describe("affineParams", () => {
  test("forces zero into the range and makes it exact", () => {
    expect(affineParams(2, 5.1, "uint8")).toEqual({ scale: Math.fround(0.02), zeroPoint: 0, qmin: 0, qmax: 255 });
    expect(affineParams(-5.1, -2, "uint8").zeroPoint).toBe(255);
    expect(affineParams(-1, 3, "int8")).toMatchObject({ scale: Math.fround(4 / 255), zeroPoint: -64 });
  });

  test.each([
    ["int8", -127, 127, 0],
    ["uint8", 1, 255, 128],
    ["int16", -32767, 32767, 0],
    ["int4", -8, 7, 0],
    ["uint4", 0, 15, 8],
  ] as const)("symmetric %s uses %i to %i around %i", (dtype, qmin, qmax, zeroPoint) => {
    const grid = affineParams(-3, 2, dtype, { symmetric: true });
    expect(grid).toMatchObject({ qmin, qmax, zeroPoint });
    expect(grid.scale * (qmin - zeroPoint)).toBeCloseTo(-3, 5);
  });

  test("symmetric int4 wastes no level: a dominant positive end takes 7 steps, a negative one 8", () => {
    expect(affineParams(-1, 7, "int4", { symmetric: true }).scale).toBe(1);
    expect(affineParams(-8, 1, "int4", { symmetric: true }).scale).toBe(1);
  });

  test("a reduced pair of products fits int16", () => {
    const [qmin, qmax] = quantizedRange("int8", { symmetric: true, reduceRange: true });
    expect([qmin, qmax]).toEqual([-64, 64]);
    expect(2 * 255 * qmax).toBeLessThanOrEqual(32767);
    expect(quantizedRange("uint8", { reduceRange: true })).toEqual([0, 127]);
  });

  test.each([
    [0, 0],
    [Number.NaN, 1],
    [0, Number.POSITIVE_INFINITY],
    [0, 1e-40],
  ])("the degenerate range %d to %d gives scale 1", (min, max) => {
    expect(affineParams(min, max, "uint8")).toMatchObject({ scale: 1, zeroPoint: 0 });
    expect(affineParams(min, max, "int8", { symmetric: true })).toMatchObject({ scale: 1, zeroPoint: 0 });
  });

  test("refuses types that are not integers", () => {
    expect(() => affineParams(0, 1, "float16")).toThrow("'float16' is not an integer type");
  });
});

test("roundHalfEven rounds halves to even and everything else to the nearest", () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, -7.6].map(roundHalfEven)).toEqual([-2, -2, 0, 0, 2, 2, 2, -8]);
});

describe("quantizeWeight", () => {
  const weight = float32([2, 3], [0.5, -1, 0.25, 20, 4, -10]);

  test("per channel along any axis: no error beyond half a step", () => {
    for (const axis of [0, 1, -1, null]) {
      const q = quantizeWeight(weight, { dtype: "int8", axis, symmetric: true });
      const back = dequantize(q.values, q.scales, q.zeroPoints, axis);
      toNumbers(weight).forEach((w, i) => {
        const channel = axis === null ? 0 : axis === 0 ? Math.floor(i / 3) : i % 3;
        expect(Math.abs(back[i]! - w)).toBeLessThanOrEqual(q.scales[channel]! * 0.5001);
      });
      expect(q.scale.shape).toEqual(axis === null ? [] : [axis === 0 ? 2 : 3]);
      expect(q.zeroPoint.shape).toEqual(q.scale.shape);
    }
    expect([...quantizeWeight(weight, { dtype: "int8", axis: 0, symmetric: true }).scales]).toEqual(
      [1 / 127, 20 / 127].map(Math.fround),
    );
  });

  test("asymmetric uint8 keeps zero exact", () => {
    const q = quantizeWeight(float32([3], [0, -0.3, 0.9]), { dtype: "uint8", axis: null });
    expect(toNumbers(q.values)).toEqual([64, 0, 255]);
    expect([...q.zeroPoints]).toEqual([64]);
  });

  test("packs types below 8 bits", () => {
    const q = quantizeWeight(float32([3], [-8, 7, 1]), { dtype: "int4", axis: null, symmetric: true });
    expect(toNumbers(q.values)).toEqual([-8, 7, 1]);
    expect(q.values.byteLength).toBe(2);
    expect([...dequantize(q.values, q.scales, q.zeroPoints)]).toEqual([-8, 7, 1]);
  });

  test("uses the scales it is given and clips to them", () => {
    const q = quantizeWeight(weight, { dtype: "int8", axis: 0, symmetric: true, scale: Float32Array.of(0.01, 0.1) });
    expect(toNumbers(q.values)).toEqual([50, -100, 25, 127, 40, -100]);
    expect(() => quantizeWeight(weight, { dtype: "int8", axis: 0, scale: Float32Array.of(1), name: "w" })).toThrow(
      "w: takes 2 scales, got 1",
    );
  });

  test("takes float16 and gives float16 scales that match what was used", () => {
    const half = tensor("float16", [4], floatToHalf(Float32Array.of(1, -3, 0.1, 2), "float16"));
    const q = quantizeWeight(half, { dtype: "int8", axis: null, symmetric: true, scaleType: "float16" });
    expect(q.scale.dtype).toBe("float16");
    expect(toNumbers(q.scale)).toEqual([...q.scales]);
  });

  test("a dead channel gets scale 1 and zeros", () => {
    const q = quantizeWeight(float32([2, 2], [0, 0, 1, 2]), { dtype: "int8", axis: 0, symmetric: true });
    expect(q.scales[0]).toBe(1);
    expect(toNumbers(q.values).slice(0, 2)).toEqual([0, 0]);
  });

  test("names the weight that is not finite, and the place", () => {
    const bad = float32([2, 2], [0, 1, Number.NaN, 1]);
    expect(() => quantizeWeight(bad, { dtype: "int8", axis: 0, name: "conv1.weight" })).toThrow(
      "conv1.weight: element 2 is NaN",
    );
    expect(() => quantizeWeight(weight, { dtype: "int8", axis: 2, name: "w" })).toThrow(
      "w: shape [2, 3] has no axis 2",
    );
  });
});
