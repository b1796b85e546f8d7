import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Subgraph } from "../graph/graph.ts";
import { float32 } from "../tensor/tensor.ts";
import { graphDigest } from "./digest.ts";

function branch(value: number, name = "w"): Subgraph {
  return {
    name: "branch",
    nodes: [makeNode("Identity", [name], ["b"])],
    weights: new Map([[name, float32([2], [1, value])]]),
    sparse: new Map(),
    inputs: [],
    outputs: [{ name: "b" }],
    declared: new Map(),
  };
}

function graphOf(value: number): Graph {
  const attributes = {
    then_branch: { type: "graph", value: branch(value) },
    else_branch: { type: "graph", value: branch(3) },
  } as const;
  return makeGraph({
    nodes: [makeNode("If", ["x"], ["y"], attributes)],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "bool", shape: [] } }],
    outputs: [{ name: "y" }],
  });
}

test("a weight of a nested graph counts", async () => {
  expect(await graphDigest(graphOf(1))).toBe(await graphDigest(graphOf(1)));
  expect(await graphDigest(graphOf(1))).not.toBe(await graphDigest(graphOf(2)));
});
