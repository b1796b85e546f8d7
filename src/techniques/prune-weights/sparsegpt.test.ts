import { expect, test } from "vitest";
import { toFloat32 } from "../../tensor/tensor.ts";
import { normal } from "../testing.ts";
import { parsePattern } from "./patterns.ts";
import { inverseFactor, pruneWithUpdate } from "./sparsegpt.ts";

test("the factor of the inverse Hessian is one", () => {
  const n = 7;
  const x = toFloat32(normal([n, 30], 5));
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) for (let k = 0; k < 30; k++) gram[i * n + j]! += x[i * 30 + k]! * x[j * 30 + k]!;
  const upper = inverseFactor(gram, n, 0.01, () => {});
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

test("weights of inputs that are always zero go, and the rest is kept where it suffices", () => {
  const weights = Float32Array.of(1, 2, 3, 4, 5, 6);
  const gram = Float64Array.of(4, 0, 0, 0, 0, 0, 0, 0, 9);
  pruneWithUpdate(weights, { rows: 2, columns: 3 }, gram, {
    pattern: parsePattern("1x1")!,
    sparsity: 1 / 3,
    damping: 1e-9,
  });
  expect([...weights]).toEqual([1, 0, 3, 4, 0, 6]);
});
