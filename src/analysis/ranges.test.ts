import { expect, test } from "vitest";
import { random } from "../random.ts";
import { affineParams, roundHalfEven } from "../tensor/affine.ts";
import { addToHistogram, makeHistogram } from "../tensor/histogram.ts";
import { chooseRange, type Observation, type Range, rangeMethods } from "./ranges.ts";

const generator = random(11);
const normal = Float32Array.from({ length: 50000 }, () => generator.normal());
const withOutliers = Float32Array.from(normal, (x, i) => (i === 77 ? 40 : i === 78 ? -38 : x));
const options = { dtype: "uint8", symmetric: false, percentile: 99.99 } as const;

function observed(values: Float32Array): Observation {
  const histogram = makeHistogram(4096);
  addToHistogram(histogram, values);
  return { histogram, min: histogram.min, max: histogram.max, meanMin: -3.5, meanMax: 3.25 };
}

function squaredError(values: Float32Array, [min, max]: Range): number {
  const { scale, zeroPoint, qmin, qmax } = affineParams(min, max, "uint8");
  let sum = 0;
  for (const x of values) {
    const q = Math.min(qmax, Math.max(qmin, roundHalfEven(x / scale) + zeroPoint));
    sum += (x - scale * (q - zeroPoint)) ** 2;
  }
  return sum;
}

test("min-max keeps outliers, the other methods give them up", () => {
  const o = observed(withOutliers);
  expect(chooseRange(o, "min-max", options)).toEqual([-38, 40]);
  expect(chooseRange(o, "average", options)).toEqual([-3.5, 3.25]);
  for (const method of ["percentile", "entropy"] as const) {
    const [min, max] = chooseRange(o, method, options);
    expect(max).toBeGreaterThan(3);
    expect(max).toBeLessThan(6);
    expect(min).toBeGreaterThan(-6);
    expect(min).toBeLessThan(-3);
  }
});

test("mse finds a range with less error than any of a fine grid of others", () => {
  const few = withOutliers.subarray(0, 20000);
  const best = squaredError(few, chooseRange(observed(few), "mse", options));
  for (let reach = 2; reach <= 40; reach += 0.5) {
    expect(best).toBeLessThan(squaredError(few, [-reach, reach]) * 1.05);
  }
});

test("one-sided tensors keep zero as their end, exactly", () => {
  const relu = normal.map((x) => Math.max(0, x));
  for (const method of rangeMethods) {
    if (method === "average") continue;
    const [min, max] = chooseRange(observed(relu), method, options);
    expect(min).toBe(0);
    expect(max).toBeGreaterThan(2.5);
  }
});

test("symmetric ranges", () => {
  const [min, max] = chooseRange(observed(normal), "mse", { ...options, dtype: "int8", symmetric: true });
  expect(max).toBeGreaterThan(2.5);
  expect(min).toBeLessThan(-2.5);
});

test("a tensor of zeros has no range", () => {
  for (const method of rangeMethods)
    expect(chooseRange(observed(new Float32Array(9)), method, options)).toEqual([0, 0]);
});
