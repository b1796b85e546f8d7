import { expect } from "vitest";
import { type Graph, makeGraph, makeNode, type Node } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { simplify } from "../src/techniques/simplify/index.ts";
import { normal, operators, outputOf, type Skip, sqnr, testContext } from "../src/techniques/testing.ts";
import { float32, type Tensor } from "../src/tensor/tensor.ts";

export const onnx = await runtime({ threads: 1 });

export function graphOf(
  nodes: readonly Node[],
  weights: Readonly<Record<string, Tensor>>,
  shape: readonly (number | string)[] = ["batch", 4, 6, 6],
  init: Partial<Graph> = {},
): Graph {
  return makeGraph({
    nodes,
    weights: new Map(Object.entries(weights)),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    ...init,
  });
}

/** Simplifies, checks that the output stays and that nothing is left to do, and lists the operators that are left. */
export async function simplified(
  graph: Graph,
  options: Parameters<typeof simplify>[0] = {},
  feeds: Tensors = { x: normal([2, 4, 6, 6]) },
): Promise<{ left: string; graph: Graph; skips: Skip[] }> {
  const skips: Skip[] = [];
  const result = await simplify(options).apply(graph, testContext(onnx, skips));
  const [before, after] = [await outputOf(onnx, graph, feeds), await outputOf(onnx, result, feeds)];
  expect(after.length).toBe(before.length);
  expect(sqnr(before, after)).toBeGreaterThan(110);
  expect(await simplify(options).apply(result, testContext(onnx))).toBe(result);
  return { left: operators(result.nodes), graph: result, skips };
}

export const positive = (size: number, seed: number): Tensor =>
  float32(
    [size],
    Float32Array.from({ length: size }, (_, i) => 0.5 + ((i * 7 + seed) % 5) / 3),
  );
export const statistics = (size: number): Record<string, Tensor> => ({
  gamma: normal([size], 11),
  beta: normal([size], 12),
  mean: normal([size], 13),
  variance: positive(size, 1),
});
export const norm = (x: string, y: string): Node =>
  makeNode("BatchNormalization", [x, "gamma", "beta", "mean", "variance"], [y]);
export const pads = [1, 1, 1, 1];
