import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { float32, tensor, toFloat32 } from "../tensor/tensor.ts";
import { constantValue, weightReports } from "./weights.ts";

const type = { kind: "tensor", dtype: "float32", shape: [1, 3] } as const;
const values = [0.5, -1, 0.26, 2, 0, 1];
const before = makeGraph({
  inputs: [{ name: "x", type }],
  outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: [1, 2] } }],
  nodes: [makeNode("MatMul", ["x", "w"], ["y"], {}, "fc")],
  weights: new Map([["w", float32([3, 2], values)]]),
});
const after = makeGraph({
  ...before,
  nodes: [makeNode("DequantizeLinear", ["q", "s"], ["d"]), makeNode("MatMul", ["x", "d"], ["y"], {}, "fc")],
  weights: new Map([
    [
      "q",
      tensor(
        "int8",
        [3, 2],
        Int8Array.from(values, (v) => Math.round(v / 0.25)),
      ),
    ],
    ["s", float32([], [0.25])],
  ]),
});

test("a weight behind DequantizeLinear is compared with what it was", async () => {
  const engine = await runtime({ threads: 1 });
  const [report] = await weightReports(before, after, engine);
  expect(report).toMatchObject({ layer: "fc", weight: "w", before: { min: -1, max: 2 } });
  expect(report!.before.counts.reduce((a, b) => a + b)).toBe(6);
  expect(report!.after!.counts.reduce((a, b) => a + b)).toBe(6);
  // only 0.26 was rounded, to 0.25
  const signal = values.reduce((sum, v) => sum + v * v, 0);
  expect(report!.sqnr).toBeCloseTo(10 * Math.log10(signal / 0.01 ** 2), 1);
});

test("what depends on an input has no constant value", async () => {
  const engine = await runtime({ threads: 1 });
  expect(await constantValue(after, "y", engine)).toBeUndefined();
  expect(Array.from(toFloat32((await constantValue(after, "d", engine))!))).toEqual([0.5, -1, 0.25, 2, 0, 1]);
});

test("unchanged weights are not reported", async () => {
  expect(await weightReports(before, before, await runtime({ threads: 1 }))).toEqual([]);
});
