import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { valueNames } from "../graph/walk.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { fakeQuantizeNode } from "./fake-quantize.ts";
import { differentiate, gradient } from "./gradient.ts";
import { lowered } from "./lower/plain.ts";

const onnx = await runtime({ threads: 1 });

async function gradientsOf(
  graph: Graph,
  feeds: Record<string, Tensor>,
  wrt: string[],
): Promise<(Float32Array | undefined)[]> {
  const result = gradient(graph, "loss", wrt, await observeTypes(graph, onnx, feeds));
  const names = [...result.gradients.values()];
  const wanted = names.flatMap((name) => (name ? [{ name }] : []));
  const session = await onnx.open({ ...result.graph, outputs: wanted.length > 0 ? wanted : graph.outputs });
  const values = await session.run(feeds);
  await session.release();
  return names.map((name) => (name ? toFloat32(values[name]!) : undefined));
}

function lossOf(nodes: Graph["nodes"], weights: Record<string, Tensor>, shape: readonly number[], last = "y"): Graph {
  return makeGraph({
    nodes: [...nodes, makeNode("ReduceSum", [last], ["loss"], { keepdims: 0 })],
    weights: new Map(Object.entries(weights)),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } }],
    outputs: [{ name: "loss" }],
  });
}

test("contributions of several uses add up, and unused values have no gradient", async () => {
  const graph = lossOf(
    [makeNode("Mul", ["x", "x"], ["a"]), makeNode("Add", ["a", "x"], ["b"]), makeNode("Mul", ["b", "w"], ["y"])],
    { w: float32([1], [2]), other: float32([1], [0]) },
    [3],
  );
  const [dx, dw, none] = await gradientsOf(graph, { x: float32([3], [1, 2, 3]) }, ["x", "w", "other"]);
  expect([...dx!]).toEqual([6, 10, 14]);
  expect([...dw!]).toEqual([2 + 6 + 12]);
  expect(none).toBeUndefined();
});

test("softmax has the same gradient whether a product alone reads it, as in attention, or others too", async () => {
  const mixture = [
    makeNode("Softmax", ["x"], ["p"], { axis: -1 }),
    makeNode("MatMul", ["p", "v"], ["z"]),
    makeNode("Mul", ["z", "z"], ["y"]),
  ];
  const more = [makeNode("Mul", ["p", "zero"], ["q"]), makeNode("ReduceSum", ["q"], ["s"], { keepdims: 0 })];
  const v = float32(
    [2, 4, 3],
    Float32Array.from({ length: 24 }, (_, i) => Math.sin(i)),
  );
  const x = float32(
    [2, 5, 4],
    Float32Array.from({ length: 40 }, (_, i) => 2 * Math.cos(3 * i)),
  );
  const alone = await gradientsOf(lossOf(mixture, { v }, x.shape), { x }, ["x", "v"]);
  const both = [...mixture, ...more, makeNode("Add", ["y", "s"], ["w"])];
  const shared = await gradientsOf(lossOf(both, { v, zero: float32([], [0]) }, x.shape, "w"), { x }, ["x", "v"]);
  for (const [i, dx] of alone.entries()) {
    const scale = Math.max(...shared[i]!.map(Math.abs));
    expect(Math.max(...dx!.map((value, j) => Math.abs(value - shared[i]![j]!))) / scale).toBeLessThan(1e-6);
  }
  expect(Math.max(...alone[0]!.map(Math.abs))).toBeGreaterThan(0.01);
});

test("the output of a normalization is computed again, where the backward pass reads it", async () => {
  const norm = makeNode("LayerNormalization", ["x", "s", "b"], ["n"], { axis: -1 });
  const weights = { s: float32([3], [1, 2, 3]), b: float32([3], [0, 1, 0]), w: float32([3, 2], [1, 2, 3, 4, 5, 6]) };
  const x = float32([2, 3], [1, 5, 3, 2, 2, 8]);
  for (const layer of [makeNode("MatMul", ["n", "w"], ["y"]), makeNode("Neg", ["n"], ["y"])]) {
    const graph = lossOf([norm, layer], weights, x.shape);
    const wrt = ["x", "s", "b", ...layer.inputs.slice(1)];
    const { graph: written, gradients } = gradient(graph, "loss", wrt, await observeTypes(graph, onnx, { x }));
    expect(written.nodes.filter(({ inputs }) => inputs.includes("n"))).toEqual([layer]);
    const read = new Set([...written.nodes.flatMap(({ inputs }) => inputs), ...gradients.values(), "loss"]);
    expect(written.nodes.filter(({ outputs }) => !outputs.some((name) => read.has(name)))).toEqual([]);
  }
});

test("integer paths end the gradient without an error", async () => {
  const graph = lossOf([makeNode("ArgMax", ["x"], ["i"], { axis: 0 }), makeNode("Gather", ["x", "i"], ["y"])], {}, [3]);
  const [dx] = await gradientsOf(graph, { x: float32([3], [1, 5, 3]) }, ["x"]);
  expect([...dx!]).toEqual([0, 1, 0]);
});

test("quantization passes straight through inside its range, and its scale learns (LSQ)", async () => {
  const graph = lossOf(
    [
      makeNode("QuantizeLinear", ["x", "s", "z"], ["q"]),
      makeNode("DequantizeLinear", ["q", "s", "z"], ["d"]),
      makeNode("Mul", ["d", "r"], ["y"]),
    ],
    { s: float32([], [0.1]), z: tensor("int8", [], Int8Array.of(0)), r: float32([4], [1, 2, 3, 4]) },
    [4],
  );
  const x = [0.57, -0.21, 100, -100];
  const [dx, ds] = await gradientsOf(graph, { x: float32([4], x) }, ["x", "s"]);
  expect([...dx!]).toEqual([1, 2, 0, 0]);
  // inside: round(x/s) - x/s; outside: the bound
  expect(ds![0]).toBeCloseTo(6 - 5.7 + 2 * (-2 + 2.1) + 3 * 127 + 4 * -128, 3);
});

test("per-channel scales get a gradient each", async () => {
  const graph = lossOf(
    [
      makeNode("QuantizeLinear", ["x", "s"], ["q"], { axis: 0 }),
      makeNode("DequantizeLinear", ["q", "s"], ["y"], { axis: 0 }),
    ],
    { s: float32([2], [1, 0.5]) },
    [2, 2],
  );
  const [ds] = await gradientsOf(graph, { x: float32([2, 2], [1.25, 2.25, 0.6, 1.1]) }, ["s"]);
  expect(ds![0]).toBeCloseTo(-0.5, 5);
  expect(ds![1]).toBeCloseTo(1 - 1.2 + (2 - 2.2), 5);
});

test("what has no rule is named", async () => {
  const graph = lossOf([makeNode("Det", ["x"], ["y"], {}, "volume")], {}, [2, 2]);
  const types = await observeTypes(graph, onnx, { x: float32([2, 2], [1, 0, 0, 1]) });
  expect(() => gradient(graph, "loss", ["x"], types)).toThrow(/volume: has no gradient: 'Det'/);
  expect(() => gradient(graph, "nothing", ["x"], types)).toThrow(/no value 'nothing'/);
  expect(() => gradient(graph, "loss", ["nothing"], types)).toThrow(/no value 'nothing'/);
  expect(() => gradient(graph, "x", ["x"], types)).toThrow(/shape \[2, 2\]/);
});

test("what pare's own operators are written out in is not called as gradients are, whose shapes are looked up by name", () => {
  const scaled = (x: string, y: string): Graph["nodes"][number] =>
    fakeQuantizeNode([x, "s"], y, `${y}_clipped`, { low: -7, high: 7, rule: "lsq" }, y);
  const graph = lossOf([scaled("x", "a"), scaled("a", "y")], { s: float32([], [0.1]) }, [2, 3, 4, 4]);
  const known = new Map(
    ["x", "a", "a_clipped", "y", "y_clipped"].map((name) => [name, { dtype: "float32" as const, shape: [2, 3, 4, 4] }]),
  );
  const types = new Map([
    ...known,
    ["s", { dtype: "float32" as const, shape: [] }],
    ["loss", { dtype: "float32" as const, shape: [] }],
  ]);
  const before = valueNames(graph);
  const made = (other: Graph): string[] => [...valueNames(other)].filter((name) => !before.has(name));
  const gradients = made(differentiate(graph, "loss", ["x", "s"], types).graph);
  expect(made(lowered(graph)).filter((name) => gradients.includes(name))).toEqual([]);
});

// large enough for the runtime to spread additions over threads
test.each([
  ["Gather", [65536]],
  ["GatherND", [65536, 1]],
])("rows that %s looks up often get all their gradients, in any number of threads", async (op, shape) => {
  const [count, width, rows] = [65536, 128, 7];
  const places = Array.from({ length: count }, (_, i) => ((i * i) % 5) - 2);
  const x = float32(
    [count, width],
    Float32Array.from({ length: count * width }, (_, i) => i % 17),
  );
  const expected = new Float32Array(rows * width);
  for (const [i, place] of places.entries()) {
    const row = place < 0 ? place + rows : place;
    for (let j = 0; j < width; j++) expected[row * width + j]! += (i * width + j) % 17;
  }
  const graph = lossOf(
    [makeNode(op, ["table", "indices"], ["rows"]), makeNode("Mul", ["rows", "x"], ["y"])],
    {
      table: float32([rows, width], new Float32Array(rows * width)),
      indices: tensor("int64", shape, BigInt64Array.from(places, BigInt)),
    },
    x.shape,
  );
  const { graph: backward, gradients } = gradient(graph, "loss", ["table"], await observeTypes(graph, onnx, { x }));
  const name = gradients.get("table")!;
  for (const threads of [1, 2]) {
    const session = await (await runtime({ threads })).open({ ...backward, outputs: [{ name }] });
    for (let i = 0; i < 5; i++) expect(toFloat32((await session.run({ x }))[name]!)).toEqual(expected);
    await session.release();
  }
});
