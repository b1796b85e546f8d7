import { expect, test } from "vitest";
import { fakeQuantizeNode } from "../autodiff/fake-quantize.ts";
import { makeGraph } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { float32 } from "../tensor/tensor.ts";
import { observeOwnTypes } from "./own-operators.ts";

test("types are those of a graph's own values, and of none that its operators are written out in", async () => {
  const graph = makeGraph({
    nodes: [
      fakeQuantizeNode(["x", "s"], "a", "a_clipped", { low: -7, high: 7, rule: "lsq" }, "first"),
      fakeQuantizeNode(["a", "s"], "y", "y_clipped", { low: -7, high: 7, rule: "lsq" }, "second"),
    ],
    weights: new Map([["s", float32([], [0.1])]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 3] } }],
    outputs: [{ name: "y" }],
    opsets: { "": 20, pare: 1 },
  });
  const types = await observeOwnTypes(graph, await runtime({ threads: 1 }), {
    x: float32([2, 3], new Float32Array(6)),
  });
  expect([...types.keys()].sort()).toEqual(["a", "a_clipped", "s", "x", "y", "y_clipped"]);
  expect(types.get("a_clipped")).toEqual({ dtype: "float32", shape: [2, 3] });
});
