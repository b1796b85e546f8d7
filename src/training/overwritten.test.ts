import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { optimizerOptions } from "./optimizers.ts";
import { canOverwrite } from "./overwritten.ts";
import { StateBuffers } from "./state.ts";
import { trainingStep } from "./step.ts";

const graph = (nodes: readonly Node[]): Graph =>
  makeGraph({ nodes, inputs: [{ name: "old" }, { name: "x" }], outputs: [{ name: "new" }, { name: "other" }] });

test.each([
  {
    name: "read on the way",
    nodes: [makeNode("Mul", ["old", "x"], ["a"]), makeNode("Sqrt", ["a"], ["new"])],
    can: true,
  },
  { name: "read by an elementwise writer", nodes: [makeNode("Add", ["old", "x"], ["new"])], can: true },
  { name: "read by another writer", nodes: [makeNode("MatMul", ["old", "x"], ["new"])], can: false },
  {
    name: "read by a node that may run later",
    nodes: [makeNode("Add", ["old", "x"], ["new"]), makeNode("Neg", ["old"], ["other"])],
    can: false,
  },
  {
    name: "read through a view by a node that may run later",
    nodes: [
      makeNode("Reshape", ["old", "x"], ["view"]),
      makeNode("Neg", ["view"], ["other"]),
      makeNode("Abs", ["view"], ["new"]),
    ],
    can: false,
  },
  { name: "not read at all", nodes: [makeNode("Neg", ["x"], ["new"])], can: true },
])("an input $name", ({ nodes, can }) => {
  expect(canOverwrite(graph(nodes), "old", "new")).toBe(can);
});

const onnx = await runtime({ threads: 2 });
const r = random(3);
const draw = (shape: readonly number[]): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal()),
  );

test.each(["sgd", "adamw"] as const)("overwritten state of %s moves as state in two places does", async (optimizer) => {
  const model = makeGraph({
    nodes: [
      makeNode("Gemm", ["x", "w1", "b1"], ["h"]),
      makeNode("Relu", ["h"], ["a"]),
      makeNode("MatMul", ["a", "w2"], ["y"]),
    ],
    weights: new Map([
      ["w1", draw([20, 300])],
      ["b1", draw([300])],
      ["w2", draw([300, 1])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 20] } }],
    outputs: [{ name: "y" }],
  });
  const batches = Array.from({ length: 5 }, () => ({ x: draw([16, 20]) }));
  const step = await trainingStep(model, onnx, batches[0]!, {
    objective: (a, { logits }) => ({ loss: a.op("ReduceSumSquare", [logits("y")], { keepdims: 0 }) }),
    optimizer: optimizerOptions.parse({ optimizer, rate: 1e-3 }),
    clipNorm: 1,
    average: 0.9,
    accumulate: 2,
  });
  const session = await onnx.open(step.graph);
  const buffers = new StateBuffers(step);
  let apart: Record<string, Tensor> = Object.fromEntries(step.state);
  for (const [i, batch] of batches.entries()) {
    const feeds = { ...batch, ...step.hyper(i, 1e-3) };
    const results = await session.run({ ...feeds, ...apart });
    apart = Object.fromEntries([...step.next].map(([name, output]) => [name, results[output]!]));
    await buffers.run(session, feeds);
  }
  await session.release();
  const held = Object.entries(buffers.before()).filter(([name, t]) => buffers.state().get(name) === t);
  expect(held.length).toBeGreaterThanOrEqual(step.parameters.length * 2);
  for (const [name, t] of buffers.state()) expect(toFloat32(t), name).toEqual(toFloat32(apart[name]!));
});
