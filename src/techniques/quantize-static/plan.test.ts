import { expect, test } from "vitest";
import { makeNode } from "../../graph/graph.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { kernels, network, noise, quantize, ratio, samples } from "./testing.ts";

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
  const scaleOf = (value: string): number => {
    const pair = quantized.nodes.find(({ op, inputs }) => op === "QuantizeLinear" && inputs[0] === value)!;
    return toFloat32(quantized.weights.get(pair.inputs[1]!)!)[0]!;
  };
  expect(scaleOf("a")).toBe(scaleOf("joined"));
  expect(scaleOf("c")).toBe(scaleOf("joined"));
  expect(scaleOf("b")).toBeLessThan(scaleOf("joined"));
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
