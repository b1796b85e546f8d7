import { describe, expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { channelBlock } from "../../platform/channel-block.ts";
import { runtime } from "../../platform/node.ts";
import { observeTypes } from "../../platform/observe.ts";
import { random } from "../../random.ts";
import { float32, int64, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { differentiate } from "../gradient.ts";
import { productsInBlocks } from "./blocked-products.ts";
import { lowered } from "./plain.ts";

const onnx = await runtime({ threads: 2 });
const block = await channelBlock(onnx);
const r = random(11);
const draw = (...shape: number[]): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal() / 16),
  );

/** Σ y² and its gradients, as they are and with products in blocks. */
async function bothWays(nodes: readonly Node[], weights: Readonly<Record<string, Tensor>>, x: Tensor) {
  const graph = makeGraph({
    nodes: [...nodes, makeNode("ReduceSumSquare", ["y"], ["loss"], { keepdims: 0 })],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: x.shape } }],
    outputs: [{ name: "loss" }],
    weights: new Map(Object.entries(weights)),
    opsets: { "": 21 },
  });
  const wrt = ["x", ...Object.keys(weights).filter((name) => weights[name]!.dtype === "float32")];
  const made = differentiate(graph, "loss", wrt, await observeTypes(graph, onnx, { x }));
  const outputs = [{ name: "loss" }, { name: "y" }, ...wrt.map((name) => ({ name: made.gradients.get(name)! }))];
  const plain = lowered({ ...made.graph, outputs });
  const { graph: laidOut } = productsInBlocks(plain, made.types, block!);
  const run = async (graph: Graph): Promise<Readonly<Record<string, Tensor>>> => {
    const session = await onnx.open(graph);
    const results = await session.run({ x });
    await session.release();
    return results;
  };
  return { plain, laidOut, expected: await run(plain), found: await run(laidOut) };
}

const count = (graph: Graph, op: string): number =>
  graph.nodes.filter((node) => node.op === op && node.domain.endsWith("nchwc")).length;

describe.skipIf(block === undefined)("products in blocks give the gradients of products", () => {
  const perceptron = [
    makeNode("MatMul", ["x", "w1"], ["p1"]),
    makeNode("Add", ["p1", "b1"], ["h"]),
    makeNode("Gelu", ["h"], ["a"], { approximate: "tanh" }),
    makeNode("MatMul", ["a", "w2"], ["p2"]),
  ];
  const wide = { w1: draw(384, 768), b1: draw(768), w2: draw(768, 384) };
  test.each<{ readonly name: string; readonly nodes: readonly Node[]; readonly weights: Record<string, Tensor> }>([
    {
      name: "two layers with an activation between them, beside a residual",
      nodes: [...perceptron, makeNode("Add", ["x", "p2"], ["y"])],
      weights: wide,
    },
    {
      name: "the bias before the product",
      nodes: [...perceptron, makeNode("Add", ["b2", "p2"], ["y"])],
      weights: { ...wide, b2: draw(384) },
    },
    {
      name: "layers with turned weights",
      nodes: [
        makeNode("Reshape", ["x", "rows"], ["r"]),
        makeNode("Gemm", ["r", "w1", "b1"], ["h"], { transB: 1 }),
        makeNode("Relu", ["h"], ["a"]),
        makeNode("Gemm", ["a", "w2"], ["y"], { transB: 1 }),
      ],
      weights: { rows: int64([512, 384]), w1: draw(768, 384), b1: draw(768), w2: draw(384, 768) },
    },
    {
      name: "a product that is taken apart again",
      nodes: [
        makeNode("MatMul", ["x", "w1"], ["p"]),
        makeNode("Add", ["p", "b1"], ["h"]),
        makeNode("Reshape", ["h", "heads"], ["s"]),
        makeNode("Transpose", ["s"], ["y"], { perm: [0, 2, 1, 3] }),
      ],
      weights: { w1: wide.w1, b1: wide.b1, heads: int64([4, 128, 12, 64]) },
    },
  ])("$name", async ({ nodes, weights }) => {
    const { plain, laidOut, expected, found } = await bothWays(nodes, weights, draw(4, 128, 384));
    const products = plain.nodes.filter(({ op }) => op === "MatMul" || op === "Gemm").length;
    expect(count(laidOut, "Conv")).toBe(products);
    for (const [name, t] of Object.entries(expected)) {
      expect(found[name]!.shape, name).toEqual(t.shape);
      const [right, other] = [toFloat32(t), toFloat32(found[name]!)];
      let [worst, scale] = [0, 0];
      for (const [i, value] of right.entries()) {
        worst = Math.max(worst, Math.abs(value - other[i]!));
        scale = Math.max(scale, Math.abs(value));
      }
      expect(worst / scale, name).toBeLessThan(2e-5);
    }
  });

  test("what lies between two products is never in plain layout", async () => {
    const nodes = [...perceptron, makeNode("Identity", ["p2"], ["y"])];
    const { laidOut } = await bothWays(nodes, wide, draw(4, 128, 384));
    const gelu = laidOut.nodes.find(({ op }) => op === "Gelu")!;
    const shapes = await observeTypes(laidOut, onnx, { x: draw(4, 128, 384) });
    expect(shapes.get(gelu.inputs[0]!)?.shape).toEqual([1, 768, 32, 16]);
    expect(laidOut.nodes.find(({ outputs }) => outputs[0] === gelu.inputs[0])?.op).toBe("Conv");
  });

  test("small products stay as they are", async () => {
    const { plain, laidOut } = await bothWays(
      [makeNode("MatMul", ["x", "w"], ["y"])],
      { w: draw(64, 64) },
      draw(2, 32, 64),
    );
    expect(laidOut).toBe(plain);
  });
});
