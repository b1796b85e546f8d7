import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node, type Value } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { quantizeWeight } from "../tensor/affine.ts";
import { pack } from "../tensor/pack.ts";
import { float32, int64, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { effectiveWeight, exactWeight } from "./effective-weight.ts";
import { weightChanges } from "./histograms.ts";

const cpu = await runtime({ threads: 1 });

function normal(shape: readonly number[], seed: number): Tensor {
  const source = random(seed);
  return float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 0.1 * source.normal()),
  );
}

function value(name: string, dtype: "float32" | "uint8" | "int64" = "float32"): Value {
  return { name, type: { kind: "tensor", dtype } };
}

function graphOf(nodes: readonly Node[], weights: Record<string, Tensor>, input: Value = value("x")): Graph {
  const opsets = { "": 21, "com.microsoft": 1 };
  return makeGraph({
    nodes,
    weights: new Map(Object.entries(weights)),
    inputs: [input],
    outputs: [value("y")],
    opsets,
  });
}

const conv = makeNode("Conv", ["x", "w", "b"], ["y"], {}, "conv");
const w = normal([8, 4, 3, 3], 1);
const b = float32([8], new Float32Array(8));

function rounded(weights: Record<string, Tensor>): Graph {
  const dequantize = makeNode("DequantizeLinear", ["q", "s", "z"], ["wd"], { axis: 0 });
  return graphOf([dequantize, { ...conv, inputs: ["x", "wd", "b"] }], { b, ...weights });
}

test("a dequantized weight is compared with the original", async () => {
  const { values, scale, zeroPoint, scales, zeroPoints } = quantizeWeight(w, {
    dtype: "int8",
    axis: 0,
    symmetric: true,
  });
  const [change] = await weightChanges(graphOf([conv], { w, b }), rounded({ q: values, s: scale, z: zeroPoint }), cpu, {
    bins: 16,
  });
  let [signal, noise] = [0, 0];
  const integers = toFloat32(values);
  toFloat32(w).forEach((x, i) => {
    const channel = Math.floor(i / 36);
    signal += x ** 2;
    noise += (x - scales[channel]! * (integers[i]! - zeroPoints[channel]!)) ** 2;
  });
  expect(change).toMatchObject({ layer: "conv", weight: "w" });
  expect(change!.sqnr).toBeGreaterThanOrEqual(10 * Math.log10(signal / noise));
  expect(change!.sqnr).toBeLessThan(10 * Math.log10(signal / noise) + 1);
  for (const { min, max, counts } of [change!.before, change!.after]) {
    expect(counts).toHaveLength(16);
    expect(counts.reduce((x, y) => x + y)).toBe(w.size);
    expect([min, max]).toEqual([Math.min(...toFloat32(w)), Math.max(...toFloat32(w))]);
  }
  expect(change!.channels).toHaveLength(8);
  expect(change!.channels[2]).toEqual([
    Math.min(...toFloat32(w).slice(72, 108)),
    Math.max(...toFloat32(w).slice(72, 108)),
  ]);
});

test("factors per channel are no change, and the worst layer comes first", async () => {
  const scaled = toFloat32(w).map((x, i) => x * (1 + Math.floor(i / 36)) * (0.5 + (Math.floor(i / 9) % 4)));
  const second = makeNode("MatMul", ["x", "m"], ["y"], {}, "product");
  const third = makeNode("MatMul", ["x", "n"], ["y"], {}, "other");
  const [m, n] = [normal([16, 8], 2), normal([16, 8], 3)];
  const noisy = (t: Tensor, amount: number): Tensor => {
    const source = random(5);
    return float32(
      t.shape,
      toFloat32(t).map((x) => x + amount * source.normal()),
    );
  };
  const nodes = [conv, second, third];
  const changes = await weightChanges(
    graphOf(nodes, { w, b, m, n }),
    graphOf(nodes, { w: float32(w.shape, scaled), b, m: noisy(m, 0.001), n: noisy(n, 0.01) }),
    cpu,
  );
  expect(changes.map(({ layer }) => layer)).toEqual(["other", "product"]);
  expect(await weightChanges(graphOf(nodes, { w, b, m, n }), graphOf(nodes, { w, b, m, n }), cpu)).toEqual([]);
  const dead = graphOf(nodes, { w: float32(w.shape, new Float32Array(w.size)), b, m, n });
  expect((await weightChanges(graphOf(nodes, { w, b, m, n }), dead, cpu))[0]?.sqnr).toBeCloseTo(0, 5);
});

const [K, N, block] = [48, 6, 16];

/** What the kernel multiplies by, row by row of the identity. */
async function throughRuntime(graph: Graph, feed: Tensor): Promise<Float32Array> {
  const session = await cpu.open(graph);
  try {
    return toFloat32((await session.run({ x: feed })).y!).slice();
  } finally {
    await session.release();
  }
}

const identity = float32(
  [K, K],
  Float32Array.from({ length: K * K }, (_, i) => (i % (K + 1) === 0 ? 1 : 0)),
);

test.each([
  [2, true],
  [4, false],
  [4, true],
  [8, true],
])("packed weights of %i bits are read as the kernel reads them (zero points: %s)", async (bits, withZeros) => {
  const source = random(bits);
  const blocks = K / block;
  const codes = Array.from({ length: N * K }, () => source.int(2 ** bits));
  const packed = bits === 8 ? Uint8Array.from(codes) : pack(codes, bits === 4 ? "uint4" : "uint2");
  const zeroWidth = Math.ceil((blocks * bits) / 8);
  const zeros = Uint8Array.from({ length: N * zeroWidth }, () => source.int(256));
  const weights = {
    q: tensor("uint8", [N, blocks, (block * bits) / 8], packed),
    s: float32(
      [N * blocks],
      Float32Array.from({ length: N * blocks }, (_, i) => 0.01 * (i + 1)),
    ),
    ...(withZeros && { z: tensor("uint8", [N, zeroWidth], zeros) }),
  };
  const inputs = ["x", "q", "s", ...(withZeros ? ["z"] : [])];
  const node = makeNode("com.microsoft:MatMulNBits", inputs, ["y"], { K, N, bits, block_size: block }, "renamed");
  const graph = graphOf([node], weights);
  const original = makeNode("MatMul", ["x", "w"], ["y"], {}, "product");
  const found = await effectiveWeight(graph, { node: original, input: 1, name: "w", tensor: normal([K, N], 1) }, cpu);
  const expected = await throughRuntime(graph, identity);
  expect(found).toHaveLength(K * N);
  found!.forEach((x, i) => {
    expect(x).toBeCloseTo(expected[i]!, 4);
  });
  const gemm = makeNode("Gemm", ["x", "w"], ["y"], { transB: 1 }, "product");
  const rows = await effectiveWeight(graph, { node: gemm, input: 1, name: "w", tensor: normal([N, K], 1) }, cpu);
  expect(rows![1 * K + 3]).toBe(found![3 * N + 1]);
});

test("a packed table is read as lookups read it", async () => {
  const source = random(9);
  const [rows, columns] = [10, 32];
  const codes = Array.from({ length: rows * columns }, () => source.int(16));
  const weights = {
    q: tensor("uint8", [rows, columns / 2], pack(codes, "uint4")),
    s: float32(
      [rows, 2],
      Float32Array.from({ length: rows * 2 }, (_, i) => 0.1 * (i + 1)),
    ),
  };
  const attributes = { gather_axis: 0, quantize_axis: 1, block_size: 16, bits: 4 };
  const node = makeNode("com.microsoft:GatherBlockQuantized", ["q", "x", "s"], ["y"], attributes, "embed");
  const graph = graphOf([node], weights, value("x", "int64"));
  const original = makeNode("Gather", ["t", "x"], ["y"], {}, "embed");
  const use = { node: original, input: 0, name: "t", tensor: normal([rows, columns], 1) };
  const expected = await throughRuntime(graph, int64(Array.from({ length: rows }, (_, i) => i)));
  expect(Array.from((await effectiveWeight(graph, use, cpu))!)).toEqual(Array.from(expected));
});

test("integer kernels give their codes, in the order of the original", async () => {
  const q = tensor(
    "int8",
    [K, N],
    Int8Array.from({ length: K * N }, (_, i) => (i % 200) - 100),
  );
  const zx = tensor("uint8", [], Uint8Array.of(0));
  const zero = tensor(
    "int8",
    [N],
    Int8Array.from({ length: N }, (_, i) => i),
  );
  const node = makeNode("MatMulInteger", ["x", "q", "zx", "z"], ["y"]);
  const graph = graphOf([node], { q, zx, z: zero }, value("x", "uint8"));
  const session = await cpu.open({ ...graph, outputs: [{ name: "y", type: { kind: "tensor", dtype: "int32" } }] });
  const eye = tensor("uint8", [K, K], Uint8Array.from(toFloat32(identity)));
  const expected = toFloat32((await session.run({ x: eye })).y!).slice();
  await session.release();
  const gemm = makeNode("Gemm", ["x", "w"], ["y"], { transB: 1 });
  const plain = makeNode("MatMul", ["x", "w"], ["y"]);
  const found = await effectiveWeight(graph, { node: plain, input: 1, name: "w", tensor: normal([K, N], 1) }, cpu);
  expect(Array.from(found!)).toEqual(Array.from(expected));
  const rows = await effectiveWeight(graph, { node: gemm, input: 1, name: "w", tensor: normal([N, K], 1) }, cpu);
  expect(rows![2 * K + 5]).toBe(found![5 * N + 2]);
});

test("codes of integer kernels are scaled where the scale of the weight stands behind them", async () => {
  const q = tensor(
    "int8",
    [K, N],
    Int8Array.from({ length: K * N }, (_, i) => (i % 200) - 100),
  );
  const scales = Float32Array.from({ length: N }, (_, i) => 0.1 * (i + 1));
  const use = { node: makeNode("MatMul", ["x", "w"], ["y"], {}, "p"), input: 1, name: "w", tensor: normal([K, N], 1) };
  const dynamic = graphOf(
    [
      makeNode("DynamicQuantizeLinear", ["x"], ["c", "sx", "zx"]),
      makeNode("MatMulInteger", ["c", "q", "zx"], ["i"]),
      makeNode("Cast", ["i"], ["r"], { to: 1 }),
      makeNode("Mul", ["sx", "sw"], ["s"]),
      makeNode("Mul", ["r", "s"], ["y"], {}, "p"),
    ],
    { q, sw: float32([N], scales) },
  );
  const found = await exactWeight(dynamic, use, cpu);
  expect(found).toHaveLength(K * N);
  expect(found![5 * N + 2]).toBeCloseTo(toFloat32(q)[5 * N + 2]! * scales[2]!, 5);
  expect(found![7 * N + 1]).toBeCloseTo(toFloat32(q)[7 * N + 1]! * scales[1]!, 5);
  // no scale behind, none to tell
  const bare = graphOf([makeNode("MatMulInteger", ["x", "q"], ["y"])], { q }, value("x", "uint8"));
  expect(await exactWeight(bare, use, cpu)).toBeUndefined();
  expect(await effectiveWeight(bare, use, cpu)).toHaveLength(K * N);
});

test("what depends on an input, or has gone, is not taken for a weight", async () => {
  const use = { node: conv, input: 1, name: "w", tensor: w };
  const computed = graphOf([makeNode("Mul", ["x", "w"], ["v"]), { ...conv, inputs: ["x", "v", "b"] }], { w, b });
  expect(await effectiveWeight(computed, use, cpu)).toBeUndefined();
  const gone = graphOf([makeNode("Relu", ["x"], ["y"])], {});
  expect(await effectiveWeight(gone, use, cpu)).toBeUndefined();
  const smaller = graphOf([conv], { w: normal([4, 4, 3, 3], 1), b });
  expect(await effectiveWeight(smaller, use, cpu)).toBeUndefined();
});
