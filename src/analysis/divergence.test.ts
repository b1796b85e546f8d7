import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { float32, tensor } from "../tensor/tensor.ts";
import { measureDivergence } from "./divergence.ts";

const cpu = await runtime({ threads: 1 });
const io = {
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 4] } }],
  outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: ["n", 4] } }],
} as const;
const scale = makeNode("Mul", ["x", "two"], ["a"], {}, "scale");
const relu = makeNode("Relu", ["a"], ["b"], {}, "relu");
const shift = makeNode("Add", ["b", "one"], ["y"], {}, "shift");
const [one, two] = [float32([], [1]), float32([], [2])];
const original = makeGraph({
  ...io,
  nodes: [scale, relu, shift],
  weights: new Map([
    ["one", one],
    ["two", two],
  ]),
});
const feeds = [{ x: float32([2, 4], [-1, 0.5, 0.25, -0.75, 1, -0.5, 0.125, 0.9]) }];

test("a value whose range stands for a Relu is compared behind its integers", async () => {
  const quantized = makeGraph({
    ...original,
    nodes: [
      { ...scale, outputs: ["b"] },
      makeNode("QuantizeLinear", ["b", "s", "z"], ["q"]),
      makeNode("DequantizeLinear", ["q", "s", "z"], ["d"]),
      { ...shift, inputs: ["d", "one"] },
    ],
    weights: new Map([
      ["one", one],
      ["two", two],
      ["s", float32([], [2 / 255])],
      ["z", tensor("uint8", [], Uint8Array.of(0))],
    ]),
  });
  const { layers, firstBad } = await measureDivergence(original, quantized, cpu, feeds);
  expect(layers.map(({ node }) => node)).toEqual(["relu", "shift"]);
  for (const { sqnr } of layers) expect(sqnr).toBeGreaterThan(40);
  expect(firstBad).toBeUndefined();
});

test("the first bad node and the largest drop are named", async () => {
  const broken = makeGraph({ ...original, nodes: [scale, { ...relu, op: "Neg" }, shift] });
  const { layers, firstBad, largestDrop } = await measureDivergence(original, broken, cpu, feeds);
  expect(layers[0]).toMatchObject({ node: "scale", sqnr: 200, maxError: 0 });
  expect(firstBad).toBe("relu");
  expect(largestDrop?.node).toBe("relu");
});

test("what was opened is released where the runtime refuses the next model", async () => {
  let [opened, open, most] = [0, 0, Number.POSITIVE_INFINITY];
  const counting: typeof cpu = {
    ...cpu,
    async open(graph, options) {
      if (opened === most) throw new Error("no memory");
      const session = await cpu.open(graph, options);
      opened++;
      open++;
      const release: typeof session.release = async () => {
        open--;
        await session.release();
      };
      return { ...session, release };
    },
  };
  await measureDivergence(original, original, counting, feeds);
  [most, opened] = [opened - 1, 0];
  await expect(measureDivergence(original, original, counting, feeds)).rejects.toThrow("no memory");
  expect(open).toBe(0);
});
