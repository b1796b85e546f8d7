import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type PlainAttribute } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { observeTypes } from "../../platform/observe.ts";
import { random } from "../../random.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { decompose } from "../decompose.ts";
import { gradient } from "../gradient.ts";
import { isUsualRecurrence } from "./recurrent.ts";

const onnx = await runtime({ threads: 1 });
const r = random(9);
const draw = (shape: readonly number[]): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.next() * 2 - 1),
  );
const [batch, inputs, hidden] = [2, 3, 4];

interface Case {
  readonly op: "LSTM" | "GRU";
  readonly direction: "forward" | "reverse" | "bidirectional";
  readonly steps?: number;
  readonly attributes?: Readonly<Record<string, PlainAttribute>>;
  /** Left out: "bias", "states"; outputs that the loss reads. */
  readonly without?: readonly string[];
  readonly outputs?: readonly number[];
}

/** A layer and a loss over some of its outputs. */
function layer({ op, direction, steps = 5, attributes = {}, without = [], outputs = [0, 1, 2] }: Case) {
  const gates = op === "LSTM" ? 4 : 3;
  const d = direction === "bidirectional" ? 2 : 1;
  const states = op === "LSTM" ? 2 : 1;
  const feeds: Record<string, Tensor> = {
    x: draw([steps, batch, inputs]),
    w: draw([d, gates * hidden, inputs]),
    r: draw([d, gates * hidden, hidden]),
    ...(!without.includes("bias") && { b: draw([d, 2 * gates * hidden]) }),
    ...(!without.includes("states") && { h: draw([d, batch, hidden]) }),
    ...(!without.includes("states") && states === 2 && { c: draw([d, batch, hidden]) }),
  };
  const named = (name: string): string => (name in feeds ? name : "");
  const made = ["y0", "y1", "y2"].slice(0, 1 + states);
  const read = outputs.filter((i) => i <= states);
  const scores = read.flatMap((i) => [
    makeNode("Mul", [`y${i}`, `m${i}`], [`p${i}`]),
    makeNode("ReduceSum", [`p${i}`], [`s${i}`], { keepdims: 0 }),
  ]);
  const graph: Graph = makeGraph({
    nodes: [
      makeNode(op, ["x", "w", "r", named("b"), "", named("h"), ...(states === 2 ? [named("c")] : [])], made, {
        hidden_size: hidden,
        direction,
        ...attributes,
      }),
      ...scores,
      makeNode(
        "Sum",
        read.map((i) => `s${i}`),
        ["loss"],
      ),
    ],
    weights: new Map(read.map((i) => [`m${i}`, draw(i === 0 ? [steps, d, batch, hidden] : [d, batch, hidden])])),
    inputs: Object.entries(feeds).map(([name, { shape }]) => ({
      name,
      type: { kind: "tensor", dtype: "float32", shape },
    })),
    outputs: [{ name: "loss" }],
    opsets: { "": 21 },
  });
  return { graph, feeds };
}

async function gradientsOf(graph: Graph, feeds: Record<string, Tensor>): Promise<Record<string, Float32Array>> {
  const names = Object.keys(feeds);
  const { graph: whole, gradients } = gradient(graph, "loss", names, await observeTypes(graph, onnx, feeds));
  const session = await onnx.open({ ...whole, outputs: names.map((name) => ({ name: gradients.get(name)! })) });
  const results = await session.run(feeds);
  await session.release();
  return Object.fromEntries(names.map((name) => [name, toFloat32(results[gradients.get(name)!]!)]));
}

const cases: readonly Case[] = (["forward", "reverse", "bidirectional"] as const).flatMap((direction): Case[] => [
  { op: "LSTM", direction },
  { op: "GRU", direction },
  { op: "GRU", direction, attributes: { linear_before_reset: 1 } },
]);
const more: readonly Case[] = [
  { op: "LSTM", direction: "forward", without: ["bias", "states"] },
  { op: "GRU", direction: "forward", without: ["bias", "states"] },
  { op: "GRU", direction: "reverse", without: ["bias"], attributes: { linear_before_reset: 1 } },
  { op: "LSTM", direction: "reverse", steps: 1 },
  { op: "GRU", direction: "forward", steps: 1 },
  { op: "LSTM", direction: "forward", outputs: [0] },
  { op: "LSTM", direction: "bidirectional", outputs: [2] },
  { op: "GRU", direction: "bidirectional", outputs: [1] },
  { op: "GRU", direction: "forward", outputs: [1], attributes: { activations: ["Sigmoid", "Tanh"] } },
];

test.each([...cases, ...more])("%j has the gradients of its decomposition, in fewer nodes", async (c) => {
  const { graph, feeds } = layer(c);
  expect(isUsualRecurrence(graph.nodes[0]!)).toBe(true);
  const own = await gradientsOf(graph, feeds);
  const unrolled = await gradientsOf(decompose(graph, await observeTypes(graph, onnx, feeds)), feeds);
  for (const name of Object.keys(feeds)) {
    expect(own[name]!.length, name).toBe(unrolled[name]!.length);
    const apart = Math.max(...own[name]!.map((value, i) => Math.abs(value - unrolled[name]![i]!)));
    expect(apart, name).toBeLessThan(2e-5);
  }
});

test.each<[string, Readonly<Record<string, PlainAttribute>>]>([
  ["LSTM", { activations: ["Relu", "Tanh", "Tanh"] }],
  ["LSTM", { input_forget: 1 }],
  ["GRU", { layout: 1 }],
  ["RNN", {}],
])("%s with %j is left to the decomposition", (op, attributes) => {
  expect(isUsualRecurrence(makeNode(op, ["x", "w", "r"], ["y"], { hidden_size: 4, ...attributes }))).toBe(false);
});
