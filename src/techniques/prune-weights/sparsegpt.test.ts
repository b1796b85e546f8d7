import { expect, test } from "vitest";
import { parsePattern } from "./patterns.ts";
import { pruneWithUpdate } from "./sparsegpt.ts";

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
