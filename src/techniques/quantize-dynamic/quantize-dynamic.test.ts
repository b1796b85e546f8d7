import { expect, it } from "vitest";
import { float, type Graph, type GraphInit, makeGraph, makeNode, type Value } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { runtime as webRuntime } from "../../platform/web.ts";
import type { DType } from "../../tensor/dtype.ts";
import { int64 } from "../../tensor/tensor.ts";
import { normal, operators, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
import { quantizeDynamic } from "./index.ts";

const cpu = await runtime({ threads: 1 });
const wasm = await webRuntime({ provider: "wasm", threads: 1 });

const value = (name: string, dtype: DType = "float32"): Value => ({ name, type: { kind: "tensor", dtype } });

function graphOf(init: Partial<GraphInit> & Pick<GraphInit, "nodes" | "weights">): Graph {
  return makeGraph({ inputs: [value("x")], outputs: [value("y")], opsets: { "": 17 }, irVersion: 8, ...init });
}

async function quantized(graph: Graph, options: Parameters<typeof quantizeDynamic>[0] = {}) {
  const skips: Skip[] = [];
  const small = await quantizeDynamic({ minElements: 1, ...options }).apply(graph, testContext(cpu, skips));
  return { small, skips };
}

async function kernels(graph: Graph, feeds: Parameters<typeof outputOf>[2]): Promise<string[]> {
  const session = await cpu.open(graph, { profile: true });
  await session.run(feeds);
  const times = await session.profile();
  await session.release();
  return [...new Set(times.map(({ op }) => op))].sort();
}

it("computes MatMul in the pattern that the runtime fuses", async () => {
  const graph = graphOf({
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    weights: new Map([["w", normal([64, 48])]]),
  });
  const feeds = { x: normal([5, 64], 2) };
  const float = await outputOf(cpu, graph, feeds);
  for (const options of [{}, { perChannel: false }, { portable: true }]) {
    const { small, skips } = await quantized(graph, options);
    expect(skips).toEqual([]);
    expect(sqnr(float, await outputOf(cpu, small, feeds))).toBeGreaterThan(34);
    expect(sqnr(float, await outputOf(wasm, small, feeds))).toBeGreaterThan(34);
    expect(await kernels(small, feeds)).toEqual(["DynamicQuantizeMatMul"]);
  }
});

it("keeps the attributes of Gemm and fuses its bias", async () => {
  for (const attributes of [
    { transB: 1 },
    { transA: 1, transB: 1, alpha: float(0.5), beta: float(2) },
    { transA: 1, beta: float(0) },
  ] as const) {
    const transA = "transA" in attributes;
    const w = normal("transB" in attributes ? [48, 64] : [64, 48]);
    const graph = graphOf({
      nodes: [makeNode("Gemm", ["x", "w", "b"], ["y"], attributes)],
      weights: new Map([
        ["w", w],
        ["b", normal([48], 3)],
      ]),
    });
    const feeds = { x: normal(transA ? [64, 5] : [5, 64], 2) };
    const { small } = await quantized(graph);
    expect(sqnr(await outputOf(cpu, graph, feeds), await outputOf(cpu, small, feeds))).toBeGreaterThan(34);
    const expected = transA ? ["DynamicQuantizeMatMul", "Transpose"] : ["DynamicQuantizeMatMul"];
    expect(await kernels(small, feeds)).toEqual(expected);
  }
});

it("rounds an activation once for all its readers and stores a shared weight once", async () => {
  const graph = graphOf({
    nodes: [
      makeNode("MatMul", ["x", "w"], ["a"]),
      makeNode("MatMul", ["x", "w"], ["b"]),
      makeNode("MatMul", ["x", "v"], ["c"]),
      makeNode("Sum", ["a", "b", "c"], ["y"]),
    ],
    weights: new Map([
      ["w", normal([64, 48])],
      ["v", normal([64, 48], 5)],
    ]),
  });
  const { small } = await quantized(graph);
  expect(small.nodes.filter(({ op }) => op === "DynamicQuantizeLinear")).toHaveLength(1);
  expect([...small.weights.values()].filter(({ dtype }) => dtype === "int8")).toHaveLength(2);
  const feeds = { x: normal([2, 64], 2) };
  expect(sqnr(await outputOf(cpu, graph, feeds), await outputOf(cpu, small, feeds))).toBeGreaterThan(34);
});

it("stores an embedding that is also the output layer once", async () => {
  const graph = graphOf({
    nodes: [
      makeNode("Gather", ["w", "x"], ["h"]),
      makeNode("Transpose", ["w"], ["wt"], { perm: [1, 0] }),
      makeNode("MatMul", ["h", "wt"], ["y"]),
    ],
    inputs: [value("x", "int64")],
    weights: new Map([["w", normal([40, 32])]]),
  });
  const feeds = { x: int64([1, 39, 0, 7, 7, 2], [2, 3]) };
  const float = await outputOf(cpu, graph, feeds);
  const qualities: number[] = [];
  for (const tied of ["integer", "float"] as const) {
    const { small, skips } = await quantized(graph, { tied });
    expect(skips).toEqual([]);
    expect([...small.weights.values()].filter(({ size }) => size >= 40 * 32)).toHaveLength(1);
    expect(small.nodes.some(({ op }) => op === "MatMulInteger")).toBe(tied === "integer");
    qualities.push(sqnr(float, await outputOf(cpu, small, feeds)));
    expect(qualities.at(-1)).toBeGreaterThan(34);
    expect(sqnr(float, await outputOf(wasm, small, feeds))).toBeGreaterThan(34);
  }
  expect(qualities[1]).toBeGreaterThan(qualities[0]!);
});

it("computes LSTM in integers", async () => {
  const graph = graphOf({
    nodes: [makeNode("LSTM", ["x", "w", "r", "b"], ["y"], { hidden_size: 16, direction: "bidirectional" })],
    weights: new Map([
      ["w", normal([2, 64, 24])],
      ["r", normal([2, 64, 16], 2)],
      ["b", normal([2, 128], 3)],
    ]),
  });
  const feeds = { x: normal([7, 2, 24], 4) };
  const float = await outputOf(cpu, graph, feeds);
  for (const perChannel of [true, false]) {
    const { small, skips } = await quantized(graph, { perChannel });
    expect(skips).toEqual([]);
    expect(operators(small.nodes)).toBe("DynamicQuantizeLSTM 1");
    expect(sqnr(float, await outputOf(cpu, small, feeds))).toBeGreaterThan(30);
  }
  const { small } = await quantized(graph, { recurrent: "storage" });
  expect(sqnr(float, await outputOf(cpu, small, feeds))).toBeGreaterThan(38);
});

it("leaves GRU in float and says why, or stores its weights", async () => {
  const graph = graphOf({
    nodes: [makeNode("GRU", ["x", "w", "r"], ["y"], { hidden_size: 16 })],
    weights: new Map([
      ["w", normal([1, 48, 24])],
      ["r", normal([1, 48, 16], 2)],
    ]),
  });
  const { small, skips } = await quantized(graph);
  expect(small).toBe(graph);
  expect(skips[0]).toEqual({ node: "GRU_y", reason: "GRU has no integer kernel" });
  const { small: stored } = await quantized(graph, { recurrent: "storage" });
  const feeds = { x: normal([5, 2, 24], 4) };
  expect(sqnr(await outputOf(cpu, graph, feeds), await outputOf(cpu, stored, feeds))).toBeGreaterThan(38);
});

it("computes convolutions in integers only when asked, with a scale a channel", async () => {
  const w = normal([8, 6, 3, 3]);
  const graph = graphOf({
    nodes: [makeNode("Conv", ["x", "w", "b"], ["y"], { pads: [1, 1, 1, 1], strides: [2, 2] })],
    weights: new Map([
      ["w", w],
      ["b", normal([8], 3)],
    ]),
  });
  const feeds = { x: normal([2, 6, 9, 9], 4) };
  const { small: untouched, skips } = await quantized(graph);
  expect(untouched).toBe(graph);
  expect(skips).toHaveLength(1);
  const float = await outputOf(cpu, graph, feeds);
  for (const options of [{}, { perChannel: false }, { portable: true }]) {
    const { small } = await quantized(graph, { conv: "integer", ...options });
    expect(sqnr(float, await outputOf(cpu, small, feeds))).toBeGreaterThan(32);
    expect(sqnr(float, await outputOf(wasm, small, feeds))).toBeGreaterThan(32);
  }
  const { small: stored } = await quantized(graph, { conv: "storage" });
  expect(sqnr(float, await outputOf(cpu, stored, feeds))).toBeGreaterThan(40);
});

it("says why it leaves products of activations, small and shared weights", async () => {
  const graph = graphOf({
    nodes: [
      makeNode("MatMul", ["x", "x"], ["a"], {}, "attention"),
      makeNode("MatMul", ["a", "w"], ["b"], {}, "shared"),
      makeNode("Add", ["b", "w"], ["c"], {}, "add"),
      makeNode("MatMul", ["c", "s"], ["y"], {}, "small"),
    ],
    weights: new Map([
      ["w", normal([40, 40])],
      ["s", normal([40, 2])],
    ]),
  });
  const { small, skips } = await quantized(graph, { minElements: 100 });
  expect(small).toBe(graph);
  expect(skips).toEqual([
    { node: "shared", reason: "weight 'w' is shared with 'add' (Add), which needs it in float" },
    { node: "small", reason: "weight 's' has 80 elements, fewer than 100" },
    { node: "attention", reason: "none of its operands is a constant weight" },
  ]);
});

it("finds a weight behind a Reshape of it", async () => {
  const graph = graphOf({
    nodes: [makeNode("Reshape", ["w", "shape"], ["folded"]), makeNode("MatMul", ["x", "folded"], ["y"])],
    weights: new Map([
      ["w", normal([4, 16, 48])],
      ["shape", int64([64, 48])],
    ]),
  });
  const { small } = await quantized(graph);
  expect(small.nodes.some(({ op }) => op === "MatMulInteger")).toBe(true);
  const { small: left } = await quantized(graph, { simplify: false });
  expect(left).toBe(graph);
});

it("leaves products in front of a logarithm in float, as in a spectrogram", async () => {
  const graph = graphOf({
    nodes: [
      makeNode("MatMul", ["x", "windows"], ["wave"], {}, "transform"),
      makeNode("Mul", ["wave", "wave"], ["power"]),
      makeNode("MatMul", ["power", "bank"], ["bands"], {}, "bands"),
      makeNode("Add", ["bands", "floor"], ["safe"]),
      makeNode("Log", ["safe"], ["log"]),
      makeNode("MatMul", ["log", "head"], ["y"], {}, "head"),
    ],
    weights: new Map([
      ["windows", normal([32, 32])],
      ["bank", normal([32, 16])],
      ["floor", normal([1])],
      ["head", normal([16, 8])],
    ]),
  });
  const { small, skips } = await quantized(graph);
  expect(skips.map(({ node }) => node).toSorted()).toEqual(["bands", "transform"]);
  expect(small.nodes.filter(({ op }) => op === "MatMulInteger").length).toBe(1);
});
