import { expect, test } from "vitest";
import { float, floats, makeGraph, makeNode, type PlainAttribute } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { decompose, decompositions } from "./decompose.ts";

const onnx = await runtime({ threads: 1 });
const r = random(21);
const draw = (shape: readonly number[]): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.next() * 2 - 1),
  );

interface Case {
  readonly op: string;
  readonly note?: string;
  /** Shapes of the inputs; null leaves one out. */
  readonly inputs: readonly (readonly number[] | null | Tensor)[];
  readonly outputs: number;
  readonly attributes?: Readonly<Record<string, PlainAttribute>>;
  readonly opset?: number;
}

const [T, B, I, H] = [4, 2, 3, 5];
const recurrent = (gates: number, directions: number, more: Partial<Case> = {}) => ({
  inputs: [
    [T, B, I],
    [directions, gates * H, I],
    [directions, gates * H, H],
    [directions, 2 * gates * H],
  ],
  outputs: gates === 4 ? 3 : 2,
  attributes: { hidden_size: H, ...(directions === 2 ? { direction: "bidirectional" } : {}), ...more.attributes },
});
const lengths = tensor("int32", [B], Int32Array.of(4, 2));
const states = (directions: number) => [directions, B, H];

const cases: readonly Case[] = [
  ...[1, 2].flatMap((d) => [
    { op: "LSTM", ...recurrent(4, d) },
    { op: "GRU", ...recurrent(3, d) },
    { op: "GRU", note: "linear before reset", ...recurrent(3, d, { attributes: { linear_before_reset: 1 } }) },
    { op: "RNN", ...recurrent(1, d) },
  ]),
  { op: "LSTM", note: "reverse", ...recurrent(4, 1, { attributes: { direction: "reverse" } }) },
  { op: "LSTM", note: "clip", ...recurrent(4, 1, { attributes: { clip: float(0.3) } }) },
  {
    op: "LSTM",
    note: "all inputs",
    outputs: 3,
    attributes: { hidden_size: H, direction: "bidirectional" },
    inputs: [[T, B, I], [2, 4 * H, I], [2, 4 * H, H], [2, 8 * H], lengths, states(2), states(2), [2, 3 * H]],
  },
  {
    op: "GRU",
    note: "lengths and state, no bias",
    outputs: 2,
    attributes: { hidden_size: H },
    inputs: [[T, B, I], [1, 3 * H, I], [1, 3 * H, H], null, lengths, states(1)],
  },
  { op: "RNN", note: "relu", ...recurrent(1, 1, { attributes: { activations: ["Relu"] } }) },
  {
    op: "RNN",
    note: "affine",
    ...recurrent(1, 1, {
      attributes: { activations: ["Affine"], activation_alpha: floats([0.5]), activation_beta: floats([0.1]) },
    }),
  },
  {
    op: "com.microsoft:FusedMatMul",
    inputs: [
      [2, 4, 3],
      [2, 5, 4],
    ],
    outputs: 1,
    attributes: { transA: 1, transB: 1, alpha: float(0.5) },
  },
  {
    op: "com.microsoft:FusedConv",
    inputs: [[1, 2, 5, 5], [3, 2, 3, 3], [3]],
    outputs: 1,
    attributes: { activation: "Relu" },
  },
  {
    op: "com.microsoft:FusedConv",
    note: "clip",
    inputs: [[1, 2, 5, 5], [3, 2, 3, 3], [3]],
    outputs: 1,
    attributes: { activation: "Clip", activation_params: floats([-0.5, 0.5]) },
  },
  { op: "com.microsoft:BiasGelu", inputs: [[2, 4], [4]], outputs: 1 },
  { op: "com.microsoft:FastGelu", inputs: [[2, 4], [4]], outputs: 1 },
  { op: "com.microsoft:SkipLayerNormalization", inputs: [[2, 3, 8], [2, 3, 8], [8], [8], [8]], outputs: 1 },
  { op: "com.microsoft:SkipSimplifiedLayerNormalization", inputs: [[2, 3, 8], [2, 3, 8], [8]], outputs: 1 },
  {
    op: "com.microsoft:MultiHeadAttention",
    inputs: [[2, 3, 8], [2, 5, 8], [2, 5, 8], [24]],
    outputs: 1,
    attributes: { num_heads: 2 },
  },
  {
    op: "com.microsoft:Attention",
    inputs: [[2, 3, 8], [8, 24], [24]],
    outputs: 1,
    attributes: { num_heads: 2, unidirectional: 1 },
  },
  {
    op: "Attention",
    note: "4-D, grouped",
    inputs: [
      [2, 4, 3, 8],
      [2, 2, 5, 8],
      [2, 2, 5, 8],
    ],
    outputs: 1,
    opset: 23,
  },
  {
    op: "Attention",
    note: "3-D, causal",
    inputs: [
      [2, 3, 8],
      [2, 3, 8],
      [2, 3, 8],
    ],
    outputs: 1,
    attributes: { q_num_heads: 2, kv_num_heads: 2, is_causal: 1 },
    opset: 23,
  },
];

test.each(cases.map((c) => [`${c.op} ${c.note ?? ""}`, c] as const))("%s keeps its outputs", async (_, c) => {
  const given = c.inputs.map((input) =>
    input === null ? undefined : "dtype" in input ? (input as Tensor) : draw(input as readonly number[]),
  );
  const feeds = Object.fromEntries(given.flatMap((value, i) => (value ? [[`x${i}`, value]] : [])));
  const outputs = Array.from({ length: c.outputs }, (_, i) => `y${i}`);
  const graph = makeGraph({
    nodes: [
      makeNode(
        c.op,
        given.map((value, i) => (value ? `x${i}` : "")),
        outputs,
        c.attributes,
      ),
    ],
    inputs: Object.entries(feeds).map(([name, { dtype, shape }]) => ({ name, type: { kind: "tensor", dtype, shape } })),
    outputs: outputs.map((name) => ({ name })),
    opsets: { "": c.opset ?? 21, "com.microsoft": 1 },
  });
  const unrolled = decompose(graph, await observeTypes(graph, onnx, feeds), (node, reason) =>
    expect.fail(`${node.op}: ${reason}`),
  );
  expect(
    unrolled.nodes.some(({ op, domain }) => `${domain}:${op}` === `${graph.nodes[0]!.domain}:${graph.nodes[0]!.op}`),
  ).toBe(false);
  const run = async (g: typeof graph) => {
    const session = await onnx.open(g);
    const result = await session.run(feeds);
    await session.release();
    return result;
  };
  const [before, after] = [await run(graph), await run(unrolled)];
  for (const name of outputs) {
    expect(after[name]!.shape).toEqual(before[name]!.shape);
    const [a, b] = [toFloat32(before[name]!), toFloat32(after[name]!)];
    expect(Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))).toBeLessThan(1e-5);
  }
});

test("every decomposition is tried", () => {
  const tried = new Set(cases.map(({ op }) => op));
  expect(Object.keys(decompositions).filter((op) => !tried.has(op))).toEqual([]);
});
