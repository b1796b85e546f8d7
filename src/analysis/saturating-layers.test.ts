import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type PlainAttribute } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { float32, type Tensor, tensor, typed } from "../tensor/tensor.ts";
import { type SaturatingLayer, saturatingLayers } from "./saturating-layers.ts";

const engine = await runtime({ threads: 1 });
const generator = random(4);
const bytes = (count: number, low: number, high: number): number[] =>
  Array.from({ length: count }, () => low + generator.int(high - low + 1));

/** A layer between DequantizeLinear nodes; scales are 1. */
function layer(
  op: string,
  w: Tensor,
  shape: readonly number[],
  type: "uint8" | "int8",
  attributes: Record<string, PlainAttribute> = {},
): Graph {
  const zero = type === "uint8" ? tensor("uint8", [], Uint8Array.of(3)) : tensor("int8", [], Int8Array.of(-125));
  return makeGraph({
    nodes: [
      makeNode("QuantizeLinear", ["x", "one", "zx"], ["q"]),
      makeNode("DequantizeLinear", ["q", "one", "zx"], ["d"]),
      makeNode("DequantizeLinear", ["w", "one", "zw"], ["dw"]),
      makeNode(op, ["d", "dw"], ["y"], attributes, "layer"),
    ],
    weights: new Map<string, Tensor>([
      ["one", float32([], [1])],
      ["zx", zero],
      ["w", w],
      ["zw", tensor("int8", [], Int8Array.of(0))],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
}

test.each(["uint8", "int8"] as const)(
  "bright pictures saturate pairs of large weights of one sign, %s",
  async (type) => {
    const feeds = [{ x: float32([1, 4, 5, 5], new Float32Array(100).fill(252)) }];
    const of = (value: number): Promise<readonly SaturatingLayer[]> =>
      saturatingLayers(
        layer("Conv", tensor("int8", [2, 4, 3, 3], new Int8Array(72).fill(value)), [1, 4, 5, 5], type),
        engine,
        feeds,
      );
    const [full] = await of(127);
    expect(full).toMatchObject({ pairs: 9 * 2 * 18, clipped: 9 * 2 * 18, largest: 2 * 255 * 127 });
    expect((await of(64))[0]).toMatchObject({ clipped: 0, largest: 2 * 255 * 64, possible: 2 * 255 * 64 });
  },
);

test("strides, dilations, padding and groups pair what the convolution multiplies", async () => {
  const w = bytes(2 * 2 * 6, -90, 90);
  const graph = layer("Conv", tensor("int8", [4, 2, 3, 2], Int8Array.from([...w, ...w])), [2, 4, 9, 7], "uint8", {
    group: 2,
    strides: [2, 1],
    dilations: [1, 2],
    pads: [1, 0, 2, 1],
  });
  const x = Float32Array.from(bytes(2 * 4 * 63, 0, 252));
  const [found] = await saturatingLayers(graph, engine, [{ x: float32([2, 4, 9, 7], x) }]);
  // rows: 5 x 6 positions of 2 pictures, all 60 looked at; 2 groups of 2 filters of 12 weights
  expect(found!.pairs).toBe(60 * 4 * 6);
  // padding is the zero point, so that of a single channel the sums can be made again with two ones as weights
  const ones = Int8Array.from({ length: 48 }, (_, i) => (i % 12 === 0 || i % 12 === 6 ? 1 : 0));
  const sums = layer(
    "Conv",
    tensor("int8", [4, 2, 3, 2], ones),
    [2, 4, 9, 7],
    "uint8",
    graph.nodes[3]!.attributes as never,
  );
  const session = await engine.open(sums);
  const { y } = await session.run({ x: float32([2, 4, 9, 7], x) });
  await session.release();
  const [made] = await saturatingLayers(sums, engine, [{ x: float32([2, 4, 9, 7], x) }]);
  // both channels at the first tap make one pair; the zero point 3 counts twice
  expect(made!.largest).toBe(Math.max(...(typed(y!) as Float32Array)) + 6);
});

test("matrix products, either way round, and what is not on integers is left out", async () => {
  const w = Int8Array.from(bytes(6 * 4, -127, 127));
  const x = float32([5, 6], bytes(30, 100, 252));
  const turned = Int8Array.from({ length: 24 }, (_, i) => w[(i % 6) * 4 + Math.floor(i / 6)]!);
  const [product] = await saturatingLayers(layer("MatMul", tensor("int8", [6, 4], w), [5, 6], "uint8"), engine, [
    { x },
  ]);
  const gemm = layer("Gemm", tensor("int8", [4, 6], turned), [5, 6], "uint8", { transB: 1 });
  const [same] = await saturatingLayers(gemm, engine, [{ x }]);
  expect(product!.pairs).toBe(5 * 4 * 3);
  expect({ ...same, node: 0 }).toEqual({ ...product, node: 0 });
  const float = makeGraph({
    ...gemm,
    nodes: [makeNode("Gemm", ["x", "f"], ["y"])],
    weights: new Map([["f", float32([6, 4], new Float32Array(24))]]),
  });
  expect(await saturatingLayers(float, engine, [{ x }])).toEqual([]);
});
