import { expect, test } from "vitest";
import { toFloat32 } from "../../tensor/tensor.ts";
import { normal } from "../testing.ts";
import { inverseFactor } from "./inverse-factor.ts";

test("the factor of the inverse Hessian is one", () => {
  const n = 7;
  const x = toFloat32(normal([n, 30], 5));
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) for (let k = 0; k < 30; k++) gram[i * n + j]! += x[i * 30 + k]! * x[j * 30 + k]!;
  const upper = inverseFactor(gram, n, 0.01);
  // gram is damped in place: (Uᵀ U) H = I
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++)
        for (let m = 0; m < n; m++) sum += upper[m * n + i]! * upper[m * n + k]! * gram[k * n + j]!;
      expect(sum).toBeCloseTo(i === j ? 1 : 0, 9);
      if (j < i) expect(Math.abs(upper[i * n + j]!)).toBe(0);
    }
  }
});

test("a matrix that rounding has made indefinite is damped until it is not", () => {
  const gram = Float64Array.of(1, 1.5, 1.5, 1);
  const upper = inverseFactor(gram, 2, 0.01);
  // 0.01 -> 0.1 -> 1: eigenvalues 2.5 and -0.5 before
  expect([...gram]).toEqual([2, 1.5, 1.5, 2]);
  expect(upper[0]! ** 2).toBeCloseTo(2 / (4 - 2.25), 12);
});
