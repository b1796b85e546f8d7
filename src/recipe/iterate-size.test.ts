import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { float32 } from "../tensor/tensor.ts";
import { limitOf, modelSize, parseSizeTarget } from "./iterate-size.ts";

test("targets are read as people write them", () => {
  expect(parseSizeTarget("sparsity=0.9")).toEqual({ quantity: "sparsity", value: 0.9, relative: false });
  expect(parseSizeTarget("sparsity=90%")).toEqual({ quantity: "sparsity", value: 0.9, relative: false });
  expect(parseSizeTarget(" macs = 0.5 ")).toEqual({ quantity: "macs", value: 0.5, relative: true });
  expect(parseSizeTarget("macs=20M")).toEqual({ quantity: "macs", value: 2e7, relative: false });
  expect(parseSizeTarget("bytes=200kB")).toEqual({ quantity: "bytes", value: 2e5, relative: false });
  expect(parseSizeTarget("bytes=1.5 MiB")).toEqual({ quantity: "bytes", value: 1.5 * 2 ** 20, relative: false });
  expect(parseSizeTarget("ms=0.5")).toEqual({ quantity: "ms", value: 0.5, relative: false });
  expect(parseSizeTarget("ms=50%")).toEqual({ quantity: "ms", value: 0.5, relative: true });
});

test("targets that can't be read or reached are refused", () => {
  const cases = [
    ["macs", "'macs' is no target. Write it as sparsity=0.9"],
    ["sparcity=0.5", "unknown size 'sparcity'. Did you mean 'sparsity'?"],
    ["bytes=1 lb", "'1 lb' is no bytes. It takes a number, or one with %, k, M, G, B,"],
    ["sparsity=1.2", "sparsity=1.2 can't be reached"],
    ["macs=1", "macs=1 can't be reached"],
    ["ms=0", "ms=0 can't be reached"],
    ["bytes=-3", "'-3' is no bytes"],
  ] as const;
  for (const [text, message] of cases) expect(() => parseSizeTarget(text), text).toThrow(message);
});

test("a model's size counts zeros of matrices alone, and one sample's work", async () => {
  const graph = makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["h"]), makeNode("Add", ["h", "b"], ["y"])],
    weights: new Map([
      ["w", float32([2, 4], [1, 0, 2, 3, 0, 4, 5, 6])],
      ["b", float32([4], [0, 0, 0, 0])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
    outputs: [{ name: "y" }],
  });
  const feeds = { x: float32([1, 2], [1, 1]) };
  const size = await modelSize(graph, { bytes: 100, scores: [] }, await runtime({ threads: 1 }), feeds);
  expect(size).toEqual({ sparsity: 0.25, macs: 8, parameters: 12, bytes: 100 });
  expect(limitOf(parseSizeTarget("macs=0.5"), size)).toBe(4);
  expect(limitOf(parseSizeTarget("macs=3"), size)).toBe(3);
  expect(limitOf(parseSizeTarget("sparsity=0.75"), size)).toBe(0.25);
});
