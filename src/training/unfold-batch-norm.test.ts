import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { simplify } from "../techniques/simplify/index.ts";
import { testContext } from "../techniques/testing.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { unfoldBatchNorm } from "./unfold-batch-norm.ts";

const onnx = await runtime({ threads: 1 });
const r = random(5);
const draw = (shape: readonly number[], scale = 1): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal() * scale),
  );

function network(): Graph {
  return makeGraph({
    nodes: [
      makeNode("Conv", ["x", "w1", "b1"], ["c"], { pads: [1, 1, 1, 1] }, "first"),
      makeNode("Relu", ["c"], ["a"]),
      makeNode("Conv", ["a", "w2", "b2"], ["d"], { pads: [1, 1, 1, 1] }, "second"),
      makeNode("Add", ["d", "a"], ["s"]),
      makeNode("GlobalAveragePool", ["s"], ["p"]),
      makeNode("Flatten", ["p"], ["f"]),
      makeNode("Gemm", ["f", "w3", "b3"], ["g"], { transB: 1 }, "hidden"),
      makeNode("Relu", ["g"], ["h"]),
      makeNode("Gemm", ["h", "w4", "b4"], ["y"], { transB: 1 }, "head"),
    ],
    weights: new Map([
      ["w1", draw([4, 3, 3, 3])],
      ["b1", draw([4])],
      ["w2", draw([4, 4, 3, 3])],
      ["b2", draw([4])],
      ["w3", draw([6, 4])],
      ["b3", draw([6])],
      ["w4", draw([2, 6])],
      ["b4", draw([2])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 3, 6, 6] } }],
    outputs: [{ name: "y" }],
  });
}

const feeds = [5, 5, 3].map((n) => ({ x: draw([n, 3, 6, 6]) }));

async function outputs(graph: Graph, x: Tensor): Promise<Float32Array> {
  const session = await onnx.open(graph);
  const { y } = await session.run({ x });
  await session.release();
  return toFloat32(y!);
}

const difference = (a: Float32Array, b: Float32Array): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

test("normalizations come back behind every layer but the head, and change nothing", async () => {
  const model = network();
  const skipped: string[] = [];
  const unfolded = await unfoldBatchNorm(model, onnx, feeds, { skip: (node, why) => skipped.push(`${node}: ${why}`) });
  expect(unfolded.nodes.map(({ op }) => op).filter((op) => op !== "Relu")).toEqual([
    ...["Conv", "BatchNormalization", "Conv", "BatchNormalization", "Add", "GlobalAveragePool", "Flatten"],
    ...["Gemm", "BatchNormalization", "Gemm"],
  ]);
  expect(skipped).toEqual(["head: it is the network's head"]);
  const x = draw([7, 3, 6, 6]);
  expect(difference(await outputs(unfolded, x), await outputs(model, x))).toBeLessThan(1e-4);
});

test("the statistics are those of the data, and weights have the norm that rates are made for", async () => {
  const model = network();
  const unfolded = await unfoldBatchNorm(model, onnx, feeds, { selected: ({ name }) => name === "first" });
  const norm = unfolded.nodes.find(({ op }) => op === "BatchNormalization")!;
  const [scale, , mean, variance] = norm.inputs.slice(1).map((name) => toFloat32(unfolded.weights.get(name)!));
  const session = await onnx.open({ ...unfolded, outputs: [{ name: norm.inputs[0]! }] });
  const seen: number[] = [];
  for (const { x } of feeds) {
    const z = (await session.run({ x }))[norm.inputs[0]!]!;
    const values = toFloat32(z);
    for (let i = 0; i < z.shape[0]!; i++) seen.push(...values.subarray((i * 4 + 2) * 36, (i * 4 + 3) * 36));
  }
  await session.release();
  const average = seen.reduce((a, b) => a + b, 0) / seen.length;
  const spread = seen.reduce((a, b) => a + (b - average) ** 2, 0) / seen.length;
  expect(mean![2]).toBeCloseTo(average, 4);
  expect(variance![2]).toBeCloseTo(spread, 3);
  const before = model.weights.get("w1")!;
  const after = toFloat32(unfolded.weights.get("w1")!).subarray(2 * 27, 3 * 27);
  expect(Math.hypot(...after)).toBeCloseTo(Math.SQRT2, 5);
  const factor = after[0]! / toFloat32(before)[2 * 27]!;
  expect(scale![2]).toBeCloseTo(Math.sqrt(spread) / factor, 4);
});

test("simplify folds them again", async () => {
  const model = network();
  const unfolded = await unfoldBatchNorm(model, onnx, feeds);
  const folded = await simplify({}).apply(unfolded, testContext(onnx));
  expect(folded.nodes.map(({ op }) => op)).toEqual(model.nodes.map(({ op }) => op));
  const x = draw([2, 3, 6, 6]);
  expect(difference(await outputs(folded, x), await outputs(model, x))).toBeLessThan(1e-4);
});
