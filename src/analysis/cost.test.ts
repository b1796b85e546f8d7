import { describe, expect, test } from "vitest";
import { float, type Graph, makeGraph, makeNode, type Node } from "../graph/graph.ts";
import { float32, int64, type Tensor, tensor } from "../tensor/tensor.ts";
import { costs, type Types } from "./cost.ts";
import type { InferredType } from "./infer.ts";

const shaped = (...shape: number[]): InferredType => ({ dtype: "float32", shape });
const zeros = (...shape: number[]): Tensor => float32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
const bytes = (...shape: number[]): Tensor => tensor("uint8", shape, new Uint8Array(shape.reduce((a, b) => a * b, 1)));

function graphOf(nodes: readonly Node[], weights: Record<string, Tensor> = {}, outputs = ["y"]): Graph {
  return makeGraph({
    nodes,
    weights: new Map(Object.entries(weights)),
    inputs: [{ name: "x" }],
    outputs: outputs.map((name) => ({ name })),
  });
}

function typesOf(graph: Graph, shapes: Record<string, InferredType>): Types {
  const weights = [...graph.weights].map(([name, { dtype, shape }]): [string, InferredType] => [
    name,
    { dtype, shape },
  ]);
  return new Map([...weights, ...Object.entries(shapes)]);
}

describe("multiply-accumulates", () => {
  const rows: Record<string, { node: Node; weights?: Record<string, Tensor>; x: number[]; y: number[]; macs: number }> =
    {
      "Conv 3x3": {
        node: makeNode("Conv", ["x", "w", "b"], ["y"]),
        weights: { w: zeros(8, 3, 3, 3), b: zeros(8) },
        x: [2, 3, 10, 10],
        y: [2, 8, 8, 8],
        macs: 2 * 8 * 8 * 8 * 27,
      },
      "Conv depthwise": {
        node: makeNode("Conv", ["x", "w"], ["y"], { group: 8 }),
        weights: { w: zeros(8, 1, 3, 3) },
        x: [1, 8, 10, 10],
        y: [1, 8, 8, 8],
        macs: 8 * 8 * 8 * 9,
      },
      ConvTranspose: {
        node: makeNode("ConvTranspose", ["x", "w"], ["y"], { strides: [2, 2] }),
        weights: { w: zeros(4, 6, 2, 2) },
        x: [1, 4, 5, 5],
        y: [1, 6, 10, 10],
        macs: 4 * 25 * 6 * 4,
      },
      "Gemm transA": {
        node: makeNode("Gemm", ["x", "w"], ["y"], { transA: 1 }),
        weights: { w: zeros(7, 5) },
        x: [7, 3],
        y: [3, 5],
        macs: 3 * 5 * 7,
      },
      "MatMul batched": {
        node: makeNode("MatMul", ["x", "w"], ["y"]),
        weights: { w: zeros(6, 4) },
        x: [2, 3, 6],
        y: [2, 3, 4],
        macs: 2 * 3 * 4 * 6,
      },
      "Einsum with an ellipsis": {
        node: makeNode("Einsum", ["x", "w"], ["y"], { equation: "...ik,kj->...ij" }),
        weights: { w: zeros(6, 4) },
        x: [5, 2, 3, 6],
        y: [5, 2, 3, 4],
        macs: 5 * 2 * 3 * 4 * 6,
      },
      "LSTM both ways": {
        node: makeNode("LSTM", ["x", "w", "r"], ["y"], { hidden_size: 8, direction: "bidirectional" }),
        weights: { w: zeros(2, 32, 6), r: zeros(2, 32, 8) },
        x: [10, 3, 6],
        y: [10, 2, 3, 8],
        macs: 10 * 3 * 2 * 32 * (6 + 8),
      },
      MatMulInteger: {
        node: makeNode("MatMulInteger", ["x", "w"], ["y"]),
        weights: { w: bytes(6, 4) },
        x: [3, 6],
        y: [3, 4],
        macs: 3 * 4 * 6,
      },
      QLinearConv: {
        node: makeNode("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"]),
        weights: { w: bytes(8, 3, 3, 3), s: zeros(), z: bytes() },
        x: [1, 3, 10, 10],
        y: [1, 8, 8, 8],
        macs: 8 * 8 * 8 * 27,
      },
      MatMulNBits: {
        node: makeNode("com.microsoft:MatMulNBits", ["x", "w", "s"], ["y"], { K: 64, N: 4, bits: 4, block_size: 32 }),
        weights: { w: bytes(4, 2, 16), s: zeros(8) },
        x: [3, 64],
        y: [3, 4],
        macs: 3 * 4 * 64,
      },
      "attention over 5 keys": {
        node: makeNode("Attention", ["x", "x", "x"], ["y"], { q_num_heads: 2, kv_num_heads: 2 }),
        x: [1, 5, 8],
        y: [1, 5, 8],
        macs: 2 * 5 * 5 * 8,
      },
      "one step over 7 keys of the past": {
        node: makeNode("com.microsoft:MultiHeadAttention", ["x", "x", "x", "", "", "", "past", "past"], ["y"], {
          num_heads: 2,
        }),
        weights: { past: zeros(1, 2, 7, 4) },
        x: [1, 1, 8],
        y: [1, 1, 8],
        macs: 2 * (7 + 1) * 8,
      },
      "one step of grouped queries, packed": {
        node: makeNode("com.microsoft:GroupQueryAttention", ["x", "", "", "past", "past"], ["y"], {
          num_heads: 4,
          kv_num_heads: 2,
        }),
        weights: { past: zeros(1, 2, 7, 4) },
        x: [1, 1, (4 + 2 * 2) * 4],
        y: [1, 1, 16],
        macs: 2 * (7 + 1) * 16,
      },
    };
  for (const [name, { node, weights, x, y, macs }] of Object.entries(rows)) {
    test(name, () => {
      const graph = graphOf([node], weights);
      const [cost] = costs(graph, typesOf(graph, { x: shaped(...x), y: shaped(...y) })).nodes;
      expect(cost).toMatchObject({ macs });
      expect(cost!.unknown).toBeUndefined();
    });
  }

  test("are unknown, with the reason, where a shape or the operator is", () => {
    const graph = graphOf([makeNode("MatMul", ["x", "w"], ["h"]), makeNode("custom:Own", ["h"], ["y"])], {
      w: zeros(4, 4),
    });
    const { nodes, unknown, macs } = costs(graph, typesOf(graph, { x: { dtype: "float32", shape: ["n", 4] } }));
    expect(nodes.map((node) => node.unknown)).toEqual([
      "the shape of 'h' is unknown",
      "operator 'custom:Own' is unknown",
    ]);
    expect([unknown, macs]).toEqual([2, 0]);
  });
});

describe("parameters and bytes", () => {
  test("a weight counts once, scales and indices not at all", () => {
    const graph = graphOf(
      [
        makeNode("DequantizeLinear", ["q", "s", "z"], ["w"], { axis: 0 }),
        makeNode("MatMul", ["x", "w"], ["h"]),
        makeNode("Reshape", ["h", "to"], ["r"]),
        makeNode("Mul", ["r", "m"], ["t"]),
        makeNode("Add", ["t", "m"], ["y"]),
      ],
      { q: bytes(4, 6), s: zeros(4), z: bytes(4), to: int64([-1, 6]), m: zeros(6) },
    );
    const { parameters, weightBytes, nodes } = costs(graph, new Map());
    expect(parameters).toBe(24 + 6);
    expect(weightBytes).toEqual({ uint8: 24 + 4, float32: 16 + 24, int64: 16 });
    expect(nodes.map((node) => node.parameters)).toEqual([0, 24, 0, 6, 0]);
  });

  test("packed weights count by their bits", () => {
    const node = makeNode("com.microsoft:MatMulNBits", ["x", "w", "s"], ["y"], {
      K: 64,
      N: 4,
      bits: 2,
      block_size: 32,
    });
    expect(costs(graphOf([node], { w: bytes(4, 2, 8), s: zeros(8) }), new Map()).parameters).toBe(64 * 4);
  });
});

describe("activation memory", () => {
  test("is what is alive at one time: a residual is kept, a view costs nothing", () => {
    const graph = graphOf([
      makeNode("Relu", ["x"], ["a"]),
      makeNode("Exp", ["a"], ["b"]),
      makeNode("Flatten", ["b"], ["c"]),
      makeNode("Concat", ["c", "c"], ["d"], { axis: 1 }),
      makeNode("ReduceMax", ["d"], ["e"]),
      makeNode("Add", ["a", "e"], ["y"]),
    ]);
    const small = shaped(1, 4, 2, 2);
    const types = { x: small, a: small, b: small, c: shaped(1, 16), d: shaped(1, 32), e: shaped(1, 1), y: small };
    const { peak, activationBytes } = costs(graph, typesOf(graph, types));
    // a, b (seen as c) and d while Concat runs
    expect(peak).toEqual({ bytes: 4 * (16 + 16 + 32), node: "Concat_d" });
    expect(activationBytes).toBe(4 * (16 + 16 + 16 + 32 + 1 + 16));
  });

  test("an output read by nobody lives for its node only, a graph output to the end", () => {
    const graph = graphOf(
      [makeNode("Split", ["x"], ["a", "b"], { axis: 0 }), makeNode("Elu", ["a"], ["y"], { alpha: float(1) })],
      {},
      ["y", "a"],
    );
    const types = typesOf(graph, { x: shaped(8), a: shaped(4), b: shaped(4), y: shaped(4) });
    expect(costs(graph, types).peak).toEqual({ bytes: 64, node: "Split_a" });
  });
});

test("a weight stored as packed codes counts as what it unpacks to", () => {
  const graph = makeGraph({
    nodes: [
      makeNode("Cast", ["codes"], ["index"], { to: 6 }),
      makeNode("Gather", ["table", "index"], ["digits"]),
      makeNode("Reshape", ["digits", "shape"], ["integers"]),
      makeNode("Cast", ["integers"], ["floats"], { to: 1 }),
      makeNode("Mul", ["floats", "scale"], ["w"]),
      makeNode("MatMul", ["x", "w"], ["y"]),
    ],
    weights: new Map([
      ["codes", tensor("uint8", [6], new Uint8Array(6))],
      ["table", tensor("int8", [256, 2], new Int8Array(512))],
      ["shape", int64([3, 4])],
      ["scale", float32([4], [1, 1, 1, 1])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 3] } }],
    outputs: [{ name: "y" }],
  });
  const types = typesOf(graph, { x: shaped(1, 3), w: shaped(3, 4), floats: shaped(3, 4), y: shaped(1, 4) });
  const found = costs(graph, types);
  expect(found.parameters).toBe(12);
  // unpacking is done on loading: an inference writes y alone, and multiplies for it alone
  expect([found.activationBytes, found.peak.bytes, found.macs, found.flops]).toEqual([16, 28, 12, 0]);
});
