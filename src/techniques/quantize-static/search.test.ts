import { expect, test } from "vitest";
import { makeNode } from "../../graph/graph.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import { network, noise, quantize, ratio } from "./testing.ts";

/** Samples whose first channel is a hundred times the others. */
const uneven = Array.from({ length: 24 }, () => {
  const x = toFloat32(noise([1, 3, 12, 12])).map((v, i) => (i < 144 ? 100 * v : v));
  return { x: float32([1, 3, 12, 12], x) };
});

/** A first layer that looks at the small channels alone, so that one grid for all leaves nothing; most work is in it. */
const graph = network({
  nodes: [
    makeNode("Conv", ["x", "w1"], ["a"], { pads: [1, 1, 1, 1] }, "first"),
    makeNode("Relu", ["a"], ["r"]),
    makeNode("Conv", ["r", "w2"], ["y"], {}, "second"),
  ],
  weights: {
    w1: float32(
      [32, 3, 3, 3],
      toFloat32(noise([32, 3, 3, 3])).map((w, i) => (i % 27 < 9 ? 0 : w)),
    ),
    w2: noise([16, 32, 1, 1]),
  },
});

test("a layer that ruins the outputs stays float, however much of the work it is", async () => {
  const { graph: quantized, skips } = await quantize(graph, { target: "size" }, uneven);
  expect(skips.get("first")).toMatch(/^it alone would lower the outputs to -?\d+ dB signal to noise$/);
  expect([...skips.keys()]).toEqual(["first"]);
  expect(await ratio(graph, quantized, uneven)).toBeGreaterThan(25);
});

test("without protection it does not", async () => {
  const { graph: quantized, skips } = await quantize(graph, { target: "size", protect: false }, uneven);
  expect(skips.size).toBe(0);
  expect(await ratio(graph, quantized, uneven)).toBeLessThan(20);
});

test("a layer whose rounding leaves nothing to divide by stays float", async () => {
  // of faint samples beside bright ones rounding leaves zeros
  const faint = Array.from({ length: 24 }, (_, i) => ({ x: noise([1, 3, 12, 12], i % 2 === 0 ? 1 : 1e-4) }));
  const divided = network({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["a"], {}, "denominator"),
      makeNode("Relu", ["a"], ["r"]),
      makeNode("ReduceSum", ["r"], ["s"], { keepdims: 0 }),
      makeNode("Conv", ["x", "w2"], ["b"], {}, "numerator"),
      makeNode("Div", ["b", "s"], ["y"]),
    ],
    weights: { w1: noise([8, 3, 3, 3]), w2: noise([8, 3, 3, 3]) },
  });
  const { graph: quantized, skips } = await quantize(divided, { target: "size" }, faint);
  expect([...skips]).toEqual([["denominator", "it alone would leave outputs that are not finite"]]);
  expect(Number.isFinite(await ratio(divided, quantized, faint))).toBe(true);
});
