import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { random } from "../random.ts";
import { float32 } from "../tensor/tensor.ts";
import { keepClusters } from "./keep-clusters.ts";

const values = [-0.5, 0, 0.25, 1];
const clustered = Float32Array.from({ length: 64 }, (_, i) => values[i % 4]!);
const r = random(1);
const graph = makeGraph({
  nodes: [makeNode("MatMul", ["x", "w"], ["h"]), makeNode("MatMul", ["h", "v"], ["y"])],
  weights: new Map([
    ["w", float32([8, 8], clustered)],
    [
      "v",
      float32(
        [8, 8],
        Float32Array.from({ length: 64 }, () => r.normal()),
      ),
    ],
    ["zeros", float32([8, 8], new Float32Array(64))],
    ["b", float32([64], clustered)],
  ]),
  inputs: [{ name: "x" }],
  outputs: [{ name: "y" }],
});

test("elements that share a value go on sharing one: the mean of where they went, and zero where it was zero", () => {
  const kept = keepClusters(graph);
  expect([...kept.clusters]).toEqual([["w", 4]]);
  const value = clustered.map((v, i) => v + 0.01 * i);
  const average = value.slice();
  const at = { step: 1, steps: 2, rate: 1 };
  kept.apply(at, new Map([["w", { shape: [8, 8], value, before: clustered, average }]]));
  // the members of cluster k are k, k + 4, ..., k + 60
  const wanted = values.map((v, k) => (v === 0 ? 0 : Math.fround(v + 0.01 * (k + 30))));
  for (const held of [value, average]) {
    for (const [i, v] of held.entries()) expect(v).toBeCloseTo(wanted[i % 4]!, 6);
    expect(new Set(held).size).toBe(4);
  }
});
