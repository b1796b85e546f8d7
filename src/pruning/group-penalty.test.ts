import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { LearningWeight } from "../training/constraint.ts";
import { couplings } from "./couplings.ts";
import { groupLasso, growingPenalty } from "./group-penalty.ts";

const ort = await runtime({ threads: 1 });

/** x [n, 2] -> 3 hidden units -> y [n, 1]. */
const weights = new Map<string, Tensor>([
  ["w1", float32([2, 3], [3, 0.1, 1, 4, 0, 1])],
  ["b1", float32([3], [1, 1, 1])],
  ["w2", float32([3, 1], [0, 0.1, 1])],
]);
const graph: Graph = makeGraph({
  nodes: [
    makeNode("Gemm", ["x", "w1", "b1"], ["h"]),
    makeNode("Relu", ["h"], ["a"]),
    makeNode("MatMul", ["a", "w2"], ["y"]),
  ],
  weights,
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
  outputs: [{ name: "y" }],
});
const found = couplings(graph, await observeTypes(graph, ort, { x: float32([1, 2], [1, 1]) }));
const group = found.groups.find(({ frozen }) => frozen === undefined)!;

function learning(): Map<string, LearningWeight> {
  return new Map(
    [...weights].map(([name, t]) => [name, { shape: t.shape, value: toFloat32(t).slice(), before: toFloat32(t) }]),
  );
}

const values = (some: Map<string, LearningWeight>): number[][] =>
  ["w1", "b1", "w2"].map((name) => [...some.get(name)!.value].map((v) => Math.round(v * 1e4) / 1e4));

test("group lasso shrinks each unit's norm by the same, over what makes and what reads it", () => {
  const lasso = groupLasso(found, [group], 2);
  const some = learning();
  lasso.apply({ step: 0, steps: 9, rate: 0.1 }, some);
  expect(values(some)).toEqual(values(learning()));
  lasso.apply({ step: 1, steps: 9, rate: 0.1 }, some);
  // 0.1 x 2 x sqrt(3 weights): off norms of 5, 0.1414 and sqrt(3); vectors stay
  const [kept, rest] = [1 - (0.2 * Math.sqrt(3)) / 5, 1 - 0.2];
  const close = (v: number): number => Math.round(v * 1e4) / 1e4;
  expect(values(some)).toEqual([
    [close(3 * kept), 0, close(rest), close(4 * kept), 0, close(rest)],
    [1, 1, 1],
    [0, 0, close(rest)],
  ]);
  expect(lasso.summaries!()).toEqual({ "units at zero": 1 });
});

test("the growing penalty shrinks what goes, more and more, and nothing else", () => {
  const growing = growingPenalty(found, new Map([[group, [0, 1]]]), 10);
  const some = learning();
  growing.apply({ step: 0, steps: 4, rate: 0.1 }, some);
  expect(values(some)).toEqual(values(learning()));
  growing.apply({ step: 4, steps: 4, rate: 0.1 }, some);
  expect(values(some)).toEqual([
    [3, 0.1, 0.5, 4, 0, 0.5],
    [1, 1, 1],
    [0, 0.1, 0.5],
  ]);
  expect(growing.summaries!()["norm of what goes"]).toBeCloseTo(Math.sqrt(0.75), 6);
});

test("weights that do not learn are left out", () => {
  const some = learning();
  some.delete("w1");
  groupLasso(found, [group], 2).apply({ step: 1, steps: 2, rate: 0.1 }, some);
  expect([...some.get("w2")!.value].map((v) => Math.round(v * 1e4) / 1e4)).toEqual([0, 0, 0.8]);
});
