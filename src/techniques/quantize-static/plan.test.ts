import { describe, expect, test } from "vitest";
import { type Graph, makeNode, type Node } from "../../graph/graph.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import { kernels, network, noise, quantize, ratio, samples } from "./testing.ts";

/** What a value's scale is called. */
const scaleOf = (quantized: Graph, value: string): string =>
  quantized.nodes.find(({ op, inputs }) => op === "QuantizeLinear" && inputs[0] === value)!.inputs[1]!;

test("what a Concat alone reads has its output's scale, what others read too has its own", async () => {
  const graph = network({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["a"], {}),
      makeNode("Conv", ["x", "w2"], ["b"], {}),
      makeNode("Conv", ["b", "w3"], ["c"], { pads: [1, 1, 1, 1] }),
      makeNode("Concat", ["a", "b", "c"], ["joined"], { axis: 1 }),
      makeNode("Conv", ["joined", "w4"], ["y"], {}),
    ],
    weights: {
      ...{ w1: noise([8, 3, 3, 3], 0.1), w2: noise([8, 3, 3, 3], 0.1), w3: noise([8, 8, 3, 3]) },
      w4: noise([8, 24, 3, 3]),
    },
  });
  const { graph: quantized } = await quantize(graph, { target: "size", method: "min-max", equalize: false });
  const scale = (value: string): number => toFloat32(quantized.weights.get(scaleOf(quantized, value))!)[0]!;
  expect(scale("a")).toBe(scale("joined"));
  expect(scale("c")).toBe(scale("joined"));
  expect(scale("b")).toBeLessThan(scale("joined"));
  expect(await kernels(quantized)).toMatchObject({ QLinearConv: 4, QLinearConcat: 1, QuantizeLinear: 1 });
  expect(await ratio(graph, quantized, samples)).toBeGreaterThan(30);
});

test("of nested Concats all have the outer one's scale", async () => {
  const graph = network({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["a"], {}),
      makeNode("Conv", ["x", "w2"], ["b"], {}),
      makeNode("Concat", ["a", "b"], ["inner"], { axis: 1 }),
      makeNode("Conv", ["x", "w3"], ["c"], {}),
      makeNode("Concat", ["inner", "c"], ["outer"], { axis: 1 }),
      makeNode("Conv", ["outer", "w4"], ["y"], {}),
    ],
    weights: {
      ...{ w1: noise([8, 3, 3, 3], 0.1), w2: noise([8, 3, 3, 3], 0.3), w3: noise([8, 3, 3, 3]) },
      w4: noise([8, 24, 3, 3]),
    },
  });
  const { graph: quantized } = await quantize(graph, { target: "size", equalize: false });
  const scales = quantized.nodes.filter(({ op }) => op === "QuantizeLinear").map(({ inputs }) => inputs[1]!);
  expect(new Set(scales)).toEqual(new Set(["x_scale", "outer_scale", "y_scale"]));
});

test("a clamp behind a Concat is left to the scale that it shares", async () => {
  const graph = network({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["a"], {}),
      makeNode("Conv", ["x", "w2"], ["b"], {}),
      makeNode("Concat", ["a", "b"], ["joined"], { axis: 1 }),
      makeNode("Relu", ["joined"], ["r"]),
      makeNode("Conv", ["r", "w3"], ["y"], {}),
    ],
    weights: { w1: noise([8, 3, 3, 3]), w2: noise([8, 3, 3, 3]), w3: noise([8, 16, 3, 3]) },
  });
  const { graph: quantized } = await quantize(graph, { target: "size", equalize: false });
  expect(await kernels(quantized)).toMatchObject({ QLinearConv: 3, QLinearConcat: 1, QuantizeLinear: 1 });
  expect(await ratio(graph, quantized)).toBeGreaterThan(30);
});

describe("clamps left to scales, around a Concat", () => {
  const joined = (...functions: readonly Node[]): Graph =>
    network({
      nodes: [
        makeNode("Conv", ["x", "w1"], ["a"], {}),
        makeNode("Conv", ["x", "w2"], ["b"], {}),
        ...functions,
        makeNode("Conv", ["j", "w3"], ["y"], {}),
      ],
      weights: {
        ...{ w1: noise([8, 3, 3, 3], 0.3), w2: noise([8, 3, 3, 3], 0.3), w3: noise([8, 16, 3, 3]) },
        ...{ zero: float32([], [0]), two: float32([], [2]) },
      },
    });
  const relu = (from: string, to: string): Node => makeNode("Relu", [from], [to]);
  const clip = (from: string, to: string): Node => makeNode("Clip", [from, "zero", "two"], [to]);
  const concat = (left: string, right: string, to = "j"): Node => makeNode("Concat", [left, right], [to], { axis: 1 });
  const pool = (from: string, to: string): Node =>
    makeNode("AveragePool", [from], [to], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
  const [shared, own] = ["j_scale", "c_scale"];

  test.each([
    ["Relu | nothing", [relu("a", "c"), concat("c", "b")], own, "b", shared],
    ["Clip | Relu", [clip("a", "c"), relu("b", "d"), concat("c", "d")], own, "d", shared],
    ["Relu | Relu", [relu("a", "c"), relu("b", "d"), concat("c", "d")], shared, "d", shared],
    ["Clip | Clip", [clip("a", "c"), clip("b", "d"), concat("c", "d")], shared, "d", shared],
    ["Relu | Clip, pooled", [relu("a", "c"), clip("b", "e"), pool("e", "d"), concat("c", "d")], shared, "d", shared],
    ["Clip | nothing, then Relu", [clip("a", "c"), concat("c", "b", "e"), relu("e", "j")], own, "b", shared],
  ])("%s: what is clipped stays so", async (_, functions, first, second, scale) => {
    const graph = joined(...functions);
    const { graph: quantized } = await quantize(graph, {
      ...{ target: "size", method: "min-max", equalize: false, protect: false },
    });
    expect([scaleOf(quantized, "c"), scaleOf(quantized, second)]).toEqual([first, scale]);
    expect(await kernels(quantized)).toMatchObject({ QLinearConv: 3, QLinearConcat: 1, QuantizeLinear: 1 });
    expect(await ratio(graph, quantized)).toBeGreaterThan(30);
  });
});
