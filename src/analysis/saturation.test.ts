import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { quantizeWeight } from "../tensor/affine.ts";
import { float32, tensor, typed } from "../tensor/tensor.ts";
import { convolutionSums, productSums } from "./saturation.ts";

const shape = { channels: 4, height: 5, width: 5, filters: 3, kernel: [3, 3] } as const;
// the worst there is: bright everywhere, neighbouring weights of one sign at the end of their range
const image = new Uint8Array(4 * 25).fill(255);
const weights = float32(
  [3, 4, 3, 3],
  Float32Array.from({ length: 108 }, (_, i) => (i < 36 ? 1 : i < 72 ? -1 : 0.01)),
);

function quantized(reduceRange: boolean): Int8Array {
  return typed(
    quantizeWeight(weights, { dtype: "int8", axis: null, symmetric: true, reduceRange }).values,
  ) as Int8Array;
}

test("full-range weights saturate 16-bit pairs, 7-bit weights do not", () => {
  const full = quantized(false);
  expect(convolutionSums(image, full, shape, true).clipped).toBeGreaterThan(0);
  expect(convolutionSums(image, full, shape, true).sums).not.toEqual(convolutionSums(image, full, shape, false).sums);
  const reduced = quantized(true);
  expect(convolutionSums(image, reduced, shape, true).clipped).toBe(0);
  expect(convolutionSums(image, reduced, shape, true).sums).toEqual(convolutionSums(image, reduced, shape, false).sums);
});

test("no 7-bit pair can saturate, every sign and order included", () => {
  const ends = [-64, -1, 0, 1, 64];
  for (const a of ends) {
    for (const b of ends) {
      const product = productSums(Uint8Array.of(255, 255), Int8Array.of(a, b), { rows: 1, depth: 2, columns: 1 }, true);
      expect(product.sums[0]).toBe(255 * (a + b));
    }
  }
  const worst = productSums(Uint8Array.of(255, 255), Int8Array.of(127, 127), { rows: 1, depth: 2, columns: 1 }, true);
  expect(worst.sums[0]).toBe(32767);
});

test("the sums are those of the runtime's integer convolution", async () => {
  const pixels = Uint8Array.from({ length: 100 }, (_, i) => (i * 37) % 256);
  const w = quantized(true);
  const graph = makeGraph({
    nodes: [makeNode("ConvInteger", ["x", "w"], ["y"], { kernel_shape: [3, 3] })],
    weights: new Map([["w", tensor("int8", [3, 4, 3, 3], w)]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "uint8", shape: [1, 4, 5, 5] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "int32" } }],
  });
  const session = await (await runtime({ threads: 1 })).open(graph);
  const { y } = await session.run({ x: tensor("uint8", [1, 4, 5, 5], pixels) });
  await session.release();
  expect(typed(y!)).toEqual(convolutionSums(pixels, w, shape, true).sums);
});
