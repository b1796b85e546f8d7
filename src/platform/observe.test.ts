import { expect, test } from "vitest";
import { float, makeGraph, makeNode } from "../graph/graph.ts";
import { float32, int64, toFloat32 } from "../tensor/tensor.ts";
import { runtime } from "./node.ts";
import { exposed, observeTypes, observeValues } from "./observe.ts";

const graph = makeGraph({
  nodes: [
    makeNode("MatMul", ["x", "w"], ["h"]),
    makeNode("LeakyRelu", ["h"], ["a"], { alpha: float(1) }),
    makeNode("Shape", ["a"], ["s"]),
    makeNode("Reshape", ["a", "flat"], ["y"]),
  ],
  weights: new Map([
    ["w", float32([2, 3], [1, 2, 3, 4, 5, 6])],
    ["flat", int64([-1])],
  ]),
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["batch", 2] } }],
  outputs: [{ name: "y" }, { name: "s" }],
});
const feeds = (rows: number, value = 1) => ({ x: float32([rows, 2], new Float32Array(rows * 2).fill(value)) });

test("types and concrete shapes of every value", async () => {
  const types = await observeTypes(graph, await runtime(), feeds(4));
  expect(types.get("h")).toEqual({ dtype: "float32", shape: [4, 3] });
  expect(types.get("s")).toEqual({ dtype: "int64", shape: [2] });
  expect(types.get("y")).toEqual({ dtype: "float32", shape: [12] });
  expect(types.get("w")).toEqual({ dtype: "float32", shape: [2, 3] });
});

test("values come one run at a time, in parts when the budget is small", async () => {
  for (const budget of [undefined, 1]) {
    const seen: [string, number, number][] = [];
    await observeValues(
      graph,
      await runtime(),
      ["h", "a"],
      [feeds(1, 1), feeds(1, 2)],
      (name, value, index) => void seen.push([name, index, toFloat32(value)[0]!]),
      budget === undefined ? {} : { budget },
    );
    expect(seen.toSorted()).toEqual([
      ["a", 0, 5],
      ["a", 1, 10],
      ["h", 0, 5],
      ["h", 1, 10],
    ]);
  }
});

test("exposing drops what is not needed", () => {
  const small = exposed(graph, ["h"]);
  expect(small.nodes.map(({ op }) => op)).toEqual(["MatMul"]);
  expect([...small.weights.keys()]).toEqual(["w"]);
  expect(() => exposed(graph, ["nothing"])).toThrow("no value 'nothing'");
});

test("an empty stream is an error", async () => {
  await expect(observeValues(graph, await runtime(), ["h"], [], () => {})).rejects.toThrow(/no data/);
});
