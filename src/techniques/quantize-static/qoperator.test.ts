import { describe, expect, test } from "vitest";
import { makeGraph, makeNode } from "../../graph/graph.ts";
import { float32, int64, tensor, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import { padIntegers } from "./qoperator.ts";
import { kernels, network, noise, quantize, ratio } from "./testing.ts";

test.each([
  [{ activationType: "uint16" }, "activations of 8 bits, got uint16"],
  [{ activationType: "int16" }, "activations of 8 bits, got int16"],
  [{ activationType: "int8", weightType: "uint8" }, "no uint8 weights beside int8 activations"],
])("%o has no operators on integers, and is refused before it is written", async (types, message) => {
  const graph = network({ nodes: [makeNode("Conv", ["x", "w"], ["y"], {})], weights: { w: noise([8, 3, 3, 3]) } });
  // with nothing to choose no candidate would be run
  const decided = { target: "size", method: "min-max", biasCorrection: false, equalize: false, protect: false };
  await expect(quantize(graph, { ...decided, ...types, format: "qoperator" })).rejects.toThrow(message);
  expect(await ratio(graph, (await quantize(graph, { ...decided, ...types })).graph)).toBeGreaterThan(25);
});

test("integer operators take weights with a zero point for each channel", async () => {
  const shifted = toFloat32(noise([8, 3, 3, 3], 0.2)).map((v, i) => v + (Math.floor(i / 27) % 2 === 0 ? 1 : -1));
  const graph = network({
    nodes: [makeNode("Conv", ["x", "w"], ["y"], {})],
    weights: { w: float32([8, 3, 3, 3], shifted) },
  });
  const settings = { target: "size", weightType: "uint8", symmetricWeights: false, format: "qoperator" };
  const { graph: quantized } = await quantize(graph, settings);
  expect(new Set(toNumbers(quantized.weights.get("w_zero_point")!))).toEqual(new Set([0, 255]));
  expect(quantized.nodes.map(({ op }) => op)).toContain("QLinearConv");
  expect(await ratio(graph, quantized)).toBeGreaterThan(25);
});

describe("a Pad between convolutions", () => {
  const padded = (amounts: readonly number[], channels: number, extra: readonly string[] = [], attributes = {}) =>
    network({
      nodes: [
        makeNode("Conv", ["x", "w1"], ["c"], {}),
        makeNode("Relu", ["c"], ["r"]),
        makeNode("Pad", ["r", "amounts", ...extra], ["p"], attributes),
        makeNode("Conv", ["p", "w2"], ["y"], {}),
      ],
      weights: {
        ...{ w1: noise([8, 3, 3, 3]), w2: noise([8, channels, 3, 3]) },
        ...{ amounts: int64(amounts), nothing: float32([], [0]) },
      },
    });
  const graphs = {
    "of channels": padded([0, 2, 0, 0, 0, 2, 0, 0], 12),
    "of channels, its value given": padded([0, 0, 0, 0, 0, 4, 0, 0], 12, ["nothing"]),
    "that reflects": padded([0, 0, 1, 1, 0, 0, 2, 2], 8, ["nothing"], { mode: "reflect" }),
  };
  for (const [name, graph] of Object.entries(graphs)) {
    test.each(["qdq", "qoperator"])(`${name} stays among integers: %s`, async (format) => {
      const { graph: quantized } = await quantize(graph, { target: "size", format });
      expect(await kernels(quantized)).toMatchObject({
        QLinearConv: 2,
        Pad: 1,
        QuantizeLinear: 1,
        DequantizeLinear: 1,
      });
      expect(await ratio(graph, quantized)).toBeGreaterThan(30);
    });
  }

  test("is left to float where integers have 16 bits", async () => {
    const { graph: quantized } = await quantize(graphs["of channels"], { target: "size", activationType: "uint16" });
    expect(await ratio(graphs["of channels"], quantized)).toBeGreaterThan(30);
  });

  test("is a standard operator on bytes", async () => {
    const { graph: quantized } = await quantize(graphs["of channels"], { target: "size" });
    expect(Object.keys(quantized.opsets)).toEqual([""]);
    const pad = quantized.nodes.find(({ op }) => op === "Pad")!;
    expect(quantized.weights.get(pad.inputs[2]!)?.dtype).toBe("uint8");
  });
});

test.each([
  ["one scale", "s", ["Pad"]],
  ["two scales", "finer", ["DequantizeLinear", "Pad", "QuantizeLinear"]],
])("integers are padded where %s lies around the Pad", (_, after, left) => {
  const graph = makeGraph({
    nodes: [
      makeNode("DequantizeLinear", ["q", "s", "z"], ["d"]),
      makeNode("Pad", ["d", "amounts"], ["p"]),
      makeNode("QuantizeLinear", ["p", after, "z"], ["y"]),
    ],
    weights: new Map(
      Object.entries({
        ...{ s: float32([], [0.1]), finer: float32([], [0.05]), z: tensor("uint8", [], Uint8Array.of(3)) },
        amounts: int64([1, 1]),
      }),
    ),
    inputs: [{ name: "q", type: { kind: "tensor", dtype: "uint8", shape: [4] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "uint8", shape: [6] } }],
  });
  expect(padIntegers(graph).nodes.map(({ op }) => op)).toEqual(left);
});
