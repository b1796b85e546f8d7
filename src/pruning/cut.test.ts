import { expect, test } from "vitest";
import { makeGraph, makeNode, type Value } from "../graph/graph.ts";
import { float32, toNumbers } from "../tensor/tensor.ts";
import { couplings } from "./couplings.ts";
import { cutUnits } from "./cut.ts";
import { maskUnits } from "./cut-mask.ts";

const value = (name: string, shape: number[]): Value => ({ name, type: { kind: "tensor", dtype: "float32", shape } });

/** x [1, 2] -> 3 hidden -> y [1, 2], all weights known. */
const graph = makeGraph({
  nodes: [
    makeNode("Gemm", ["x", "w1", "b1"], ["h"]),
    makeNode("Relu", ["h"], ["r"]),
    makeNode("MatMul", ["r", "w2"], ["y"]),
  ],
  weights: new Map([
    ["w1", float32([2, 3], [1, 2, 3, 4, 5, 6])],
    ["b1", float32([3], [7, 8, 9])],
    ["w2", float32([3, 2], [10, 11, 12, 13, 14, 15])],
  ]),
  inputs: [value("x", [1, 2])],
  outputs: [value("y", [1, 2])],
  declared: new Map([["h", value("h", [1, 3])]]),
});
const shapes = { x: [1, 2], h: [1, 3], r: [1, 3], y: [1, 2], w1: [2, 3], b1: [3], w2: [3, 2] };
const found = couplings(
  graph,
  new Map(Object.entries(shapes).map(([name, shape]) => [name, { dtype: "float32" as const, shape }])),
);
const hidden = found.groups.find(({ frozen }) => frozen === undefined)!;

test("a group says which weights its units lie in, and which values", () => {
  expect(hidden).toMatchObject({ name: "w1[1]", units: 3, nodes: ["Gemm_h", "MatMul_y"] });
  expect(hidden.members).toEqual([
    { name: "w1", axis: 1, indices: [[0], [1], [2]] },
    { name: "b1", axis: 0, indices: [[0], [1], [2]] },
    { name: "w2", axis: 0, indices: [[0], [1], [2]] },
  ]);
  expect(found.activations(hidden).map(({ name, axis }) => `${name}[${axis}]`)).toEqual(["h[1]", "r[1]"]);
  expect(found.groups.map(({ name, frozen }) => [name, frozen])).toEqual([
    ["w1[0]", "input 'x'"],
    ["w1[1]", undefined],
    ["w2[1]", "output 'y'"],
  ]);
});

test("a cut slices weights and declared shapes, a mask writes zeros", () => {
  const cut = cutUnits(found, new Map([[hidden, [0, 2]]]));
  expect([...cut.weights].map(([name, weight]) => [name, weight.shape, toNumbers(weight)])).toEqual([
    ["w1", [2, 2], [1, 3, 4, 6]],
    ["b1", [2], [7, 9]],
    ["w2", [2, 2], [10, 11, 14, 15]],
  ]);
  expect(cut.declared.get("h")).toEqual(value("h", [1, 2]));
  const masked = maskUnits(found, new Map([[hidden, [0, 2]]]));
  expect([...masked.weights].map(([, weight]) => toNumbers(weight))).toEqual([
    [1, 0, 3, 4, 0, 6],
    [7, 0, 9],
    [10, 11, 0, 0, 14, 15],
  ]);
  expect(graph.weights.get("w1")!.shape).toEqual([2, 3]);
});

test("a cut of nothing is the same graph", () => {
  expect(cutUnits(found, new Map())).toBe(graph);
  expect(cutUnits(found, new Map([[hidden, [0, 1, 2]]]))).toBe(graph);
});

test("refuses frozen groups, units that do not exist, and a cut that leaves nothing", () => {
  const frozen = found.groups.find((group) => group.frozen !== undefined)!;
  expect(() => cutUnits(found, new Map([[frozen, [0]]]))).toThrow("must stay: input 'x'");
  expect(() => cutUnits(found, new Map([[hidden, [1, 3]]]))).toThrow("can't keep unit 3");
  expect(() => cutUnits(found, new Map([[hidden, [1, 1]]]))).toThrow("can't keep unit 1");
  expect(() => cutUnits(found, new Map([[hidden, []]]))).toThrow("nothing would stay of axis 1 of 'w1'");
  expect(() => cutUnits(found, new Map([[{ ...hidden }, [0]]]))).toThrow("not a group of this graph");
});
