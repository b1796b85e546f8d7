import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node, nodeLabel } from "../../../graph/graph.ts";
import { float32 } from "../../../tensor/tensor.ts";
import type { Plan } from "../plan.ts";
import { blockUnits, layerUnits, type Unit } from "./units.ts";

const conv = (x: string, y: string): Node => makeNode("Conv", [x, `w_${y}`], [y], {}, y);

function graphOf(nodes: readonly Node[], outputs = [nodes.at(-1)!.outputs[0]!]): Graph {
  const weights = nodes.filter(({ op }) => op === "Conv").map(({ inputs }) => inputs[1]!);
  return makeGraph({
    nodes,
    weights: new Map(weights.map((name) => [name, float32([4, 4, 1, 1], new Float32Array(16))])),
    inputs: [{ name: "x" }],
    outputs: outputs.map((name) => ({ name })),
  });
}

function planOf(graph: Graph, left: readonly string[] = []): Plan {
  const compute = new Set(graph.nodes.filter(({ op, name }) => op === "Conv" && !left.includes(name)));
  return {
    compute,
    integer: compute,
    absorbed: new Set(),
    values: new Map(),
    fixed: new Map(),
    left: new Map(),
    integerOutputs: false,
  };
}

/** "a b: x -> y" for a unit that learns a and b, reads x and gives y. */
const texts = (units: readonly Unit[]): string[] =>
  units.map(({ learns, inputs, output }) => `${learns.map(nodeLabel).join(" ")}: ${inputs.join(" ")} -> ${output}`);

const residual = graphOf([
  conv("x", "stem"),
  makeNode("Relu", ["stem"], ["r"]),
  makeNode("MaxPool", ["r"], ["p"], { kernel_shape: [2, 2] }),
  conv("p", "a"),
  makeNode("Relu", ["a"], ["ra"]),
  conv("ra", "b"),
  makeNode("Add", ["b", "p"], ["sum"]),
  makeNode("Relu", ["sum"], ["out"]),
  makeNode("GlobalAveragePool", ["out"], ["g"]),
  conv("g", "head"),
  makeNode("Softmax", ["head"], ["y"]),
]);

test("a layer is compared behind the activation functions that it alone feeds", () => {
  expect(texts(layerUnits(residual, planOf(residual)))).toEqual([
    "stem: x -> r",
    "a: p -> ra",
    "b: ra -> b",
    "head: g -> head",
  ]);
  expect(texts(layerUnits(residual, planOf(residual, ["b"])))).toHaveLength(3);
});

test("a residual branch is a block with its sum; pooling and softmax stay outside", () => {
  expect(texts(blockUnits(residual, planOf(residual)))).toEqual(["stem: x -> r", "a b: p -> out", "head: g -> head"]);
  // what stays float is computed with its block, and learns nothing
  expect(texts(blockUnits(residual, planOf(residual, ["a"])))[1]).toBe("b: p -> out");
});

test("chains are taken three layers at a time", () => {
  const names = ["c1", "c2", "c3", "c4"];
  const chain = graphOf(
    names.flatMap((y, i) => [conv(i === 0 ? "x" : `r${i}`, y), makeNode("Relu", [y], [`r${i + 1}`])]),
  );
  expect(texts(blockUnits(chain, planOf(chain)))).toEqual(["c1 c2 c3: x -> r3", "c4: r3 -> r4"]);
});

test("a block of more outputs than one, or of too many layers, is learned layer by layer", () => {
  const heads = graphOf([conv("x", "trunk"), conv("trunk", "left"), conv("trunk", "right")], ["left", "right"]);
  expect(texts(blockUnits(heads, planOf(heads)))).toEqual([
    "trunk: x -> trunk",
    "left: trunk -> left",
    "right: trunk -> right",
  ]);
  const many = Array.from({ length: 13 }, (_, i) => conv(i === 0 ? "x" : `c${i - 1}`, `c${i}`));
  const dense = graphOf([...many, makeNode("Sum", ["x", ...many.map(({ name }) => name)], ["s"])]);
  expect(texts(blockUnits(dense, planOf(dense)))).toHaveLength(13);
});
