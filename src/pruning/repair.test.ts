import { describe, expect, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { couplings } from "./couplings.ts";
import { cutUnits } from "./cut.ts";
import { reestimateBatchNorm } from "./repair-batch-norm.ts";
import { compensate } from "./repair-inputs.ts";
import { refitLayers } from "./repair-outputs.ts";

const ort = await runtime({ threads: 1 });
const { signal } = new AbortController();

function normal(shape: readonly number[], seed: number): Tensor {
  const source = random(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => source.normal()),
  );
}

function world(all: readonly Tensors[]) {
  const feeds = {
    async *[Symbol.asyncIterator]() {
      yield* all;
    },
  };
  return { runtime: ort, feeds, signal };
}

async function outputOf(graph: Graph, feeds: Tensors): Promise<Float32Array> {
  const session = await ort.open(graph);
  try {
    return toFloat32(Object.values(await session.run(feeds))[0]!).slice();
  } finally {
    await session.release();
  }
}

/** Six channels of which the second and the fifth are always 1.5 and -2, read by `reader`. */
function withConstantChannels(shape: readonly number[], reader: (weights: Map<string, Tensor>) => Node): Graph {
  const spatial = shape.length === 4;
  const first = normal(spatial ? [6, 3, 1, 1] : [6, 3], 1);
  const values = toFloat32(first).slice();
  for (const channel of [1, 4]) values.fill(0, channel * 3, channel * 3 + 3);
  const weights = new Map<string, Tensor>([
    ["w", float32(first.shape, values)],
    ["b", float32([6], [0.1, 1.5, 0.2, 0.3, -2, 0.4])],
  ]);
  const make = spatial
    ? makeNode("Conv", ["x", "w", "b"], ["h"])
    : makeNode("Gemm", ["x", "w", "b"], ["h"], { transB: 1 });
  const border = (name: string, dims?: readonly number[]) => ({
    name,
    type: { kind: "tensor", dtype: "float32", ...(dims && { shape: dims }) } as const,
  });
  const nodes = [make, reader(weights)];
  return makeGraph({ nodes, weights, inputs: [border("x", shape)], outputs: [border("y")] });
}

const image = [2, 3, 4, 4];
const readers: Readonly<Record<string, [readonly number[], (weights: Map<string, Tensor>) => Node]>> = {
  "a convolution without bias": [
    image,
    (weights) => {
      weights.set("v", normal([5, 6, 3, 3], 2));
      return makeNode("Conv", ["h", "v"], ["y"]);
    },
  ],
  "a transposed convolution": [
    image,
    (weights) => {
      weights.set("v", normal([6, 5, 1, 1], 2)).set("c", normal([5], 3));
      return makeNode("ConvTranspose", ["h", "v", "c"], ["y"]);
    },
  ],
  "a convolution of two groups": [
    image,
    (weights) => {
      weights.set("v", normal([4, 3, 1, 1], 2)).set("c", normal([4], 3));
      return makeNode("Conv", ["h", "v", "c"], ["y"], { group: 2 });
    },
  ],
  "a product with bias": [
    [2, 3],
    (weights) => {
      weights.set("v", normal([6, 5], 2)).set("c", normal([5], 3));
      return makeNode("Gemm", ["h", "v", "c"], ["y"]);
    },
  ],
  "a product without": [
    [2, 3],
    (weights) => {
      weights.set("v", normal([6, 5], 2));
      return makeNode("MatMul", ["h", "v"], ["y"]);
    },
  ],
};

test("the bias of a product is that of the sum behind it", async () => {
  const plain = withConstantChannels([2, 3], readers["a product without"]![1]);
  const [make, read] = plain.nodes as [Node, Node];
  const graph = {
    ...plain,
    weights: new Map(plain.weights).set("c", normal([5], 4)),
    nodes: [make, { ...read, outputs: ["p"] }, makeNode("Add", ["c", "p"], ["y"])],
  };
  const feeds = [{ x: normal([2, 3], 7) }];
  const found = couplings(graph, await observeTypes(graph, ort, feeds[0]!));
  const group = found.groups.find(({ frozen, members }) => frozen === undefined && members[0]!.name === "w")!;
  const cuts = new Map([[group, [0, 2, 3, 5]]]);
  const { graph: repaired } = await compensate(found, cuts, cutUnits(found, cuts), "mean", world(feeds));
  expect(repaired.nodes.map(({ op }) => op)).toEqual(["Gemm", "MatMul", "Add"]);
  const wanted = await outputOf(graph, feeds[0]!);
  for (const [i, v] of (await outputOf(repaired, feeds[0]!)).entries()) expect(v).toBeCloseTo(wanted[i]!, 4);
});

test.each([
  ["taps side by side", [2, 2], {}],
  ["fewer taps than strides", [1, 2], { output_padding: [1, 0] }],
] as const)("a transposed convolution with strides keeps its mean, %s", async (_, kernel, more) => {
  const graph = withConstantChannels(image, (weights) => {
    weights.set("v", normal([6, 5, ...kernel], 2));
    return makeNode("ConvTranspose", ["h", "v"], ["y"], { strides: [2, 2], ...more });
  });
  const feeds = [{ x: normal(image, 7) }];
  const found = couplings(graph, await observeTypes(graph, ort, feeds[0]!));
  const group = found.groups.find(({ frozen, members }) => frozen === undefined && members[0]!.name === "w")!;
  const cuts = new Map([[group, [0, 2, 3, 5]]]);
  const cut = cutUnits(found, cuts);
  const meansOf = async (model: Graph): Promise<number[]> => {
    const y = await outputOf(model, feeds[0]!);
    return Array.from({ length: 5 }, (_, o) => {
      const own = y.filter((_, i) => Math.floor(i / 64) % 5 === o);
      return own.reduce((sum, v) => sum + v, 0) / own.length;
    });
  };
  const wanted = await meansOf(graph);
  for (const method of ["mean", "regression"] as const) {
    const repaired = await compensate(found, cuts, cut, method, world(feeds));
    for (const [o, v] of (await meansOf(repaired.graph)).entries()) expect(v).toBeCloseTo(wanted[o]!, 4);
  }
});

const cases = Object.entries(readers).flatMap(([name, [shape, reader]]) =>
  (["mean", "regression"] as const).map((method) => ({ name, method, shape, reader })),
);

describe("making up for channels that were cut", () => {
  test.each(cases)("is exact for constant ones read by $name, by $method", async ({ method, shape, reader }) => {
    const graph = withConstantChannels(shape, reader);
    const feeds = [normal(shape, 7), normal(shape, 8)].map((x) => ({ x }));
    const found = couplings(graph, await observeTypes(graph, ort, feeds[0]!));
    const group = found.groups.find(({ frozen, members }) => frozen === undefined && members[0]!.name === "w")!;
    // grouped convolutions are cut at the same place of every group
    const stays = group.units === 6 ? [0, 2, 3, 5] : [0, 2];
    const cuts = new Map([[group, stays]]);
    const cut = cutUnits(found, cuts);
    const wanted = await outputOf(graph, feeds[0]!);
    const repaired = await compensate(found, cuts, cut, method, world(feeds));
    expect(repaired.layers).toBe(1);
    const off = (y: Float32Array): number => Math.max(...y.map((v, i) => Math.abs(v - wanted[i]!)));
    expect(off(await outputOf(repaired.graph, feeds[0]!))).toBeLessThan(1e-4);
    expect(off(await outputOf(cut, feeds[0]!))).toBeGreaterThan(0.1);
  });
});

test.each(Object.entries(readers).filter(([name]) => !name.includes("groups")))(
  "regression finds a channel that is the sum of others, read by %s",
  async (_, [shape, reader]) => {
    const plain = withConstantChannels(shape, reader);
    const w = toFloat32(plain.weights.get("w")!).slice();
    // channel 2 = channel 0 + channel 3 + 0.05, whatever the input
    for (let i = 0; i < 3; i++) w[6 + i] = w[i]! + w[9 + i]!;
    const weights = new Map(plain.weights)
      .set("w", float32(plain.weights.get("w")!.shape, w))
      .set("b", float32([6], [0.1, 1.5, 0.45, 0.3, -2, 0.4]));
    const graph = { ...plain, weights };
    const feeds = Array.from({ length: 40 }, (_, i) => ({ x: normal(shape, 30 + i) }));
    const found = couplings(graph, await observeTypes(graph, ort, feeds[0]!));
    const group = found.groups.find(({ frozen, members }) => frozen === undefined && members[0]!.name === "w")!;
    const cuts = new Map([[group, [0, 1, 3, 4, 5]]]);
    const wanted = await outputOf(graph, feeds[0]!);
    const error = async (method: "mean" | "regression"): Promise<number> => {
      const repaired = await compensate(found, cuts, cutUnits(found, cuts), method, world(feeds));
      const y = await outputOf(repaired.graph, feeds[0]!);
      return y.reduce((sum, v, i) => sum + (v - wanted[i]!) ** 2, 0);
    };
    // up to the ridge
    expect(await error("regression")).toBeLessThan((await error("mean")) / 500);
  },
);

describe("fitting layers to what they gave", () => {
  const image4 = [2, 3, 6, 6];
  const cutOf = async (graph: Graph, feeds: readonly Tensors[], stays: readonly number[]) => {
    const found = couplings(graph, await observeTypes(graph, ort, feeds[0]!));
    const group = found.groups.find(({ frozen, members }) => frozen === undefined && members[0]!.name === "w")!;
    const cuts = new Map([[group, stays]]);
    return { found, cuts, cut: cutUnits(found, cuts) };
  };
  const distance = async (graph: Graph, wanted: Graph, feeds: Tensors): Promise<number> => {
    const [y, aim] = [await outputOf(graph, feeds), await outputOf(wanted, feeds)];
    return y.reduce((sum, v, i) => sum + (v - aim[i]!) ** 2, 0);
  };

  test.each(cases.filter(({ method }) => method === "mean"))(
    "makes up for constant channels, read by $name",
    async ({ shape, reader }) => {
      const graph = withConstantChannels(shape, reader);
      const feeds = Array.from({ length: 8 }, (_, i) => ({ x: normal(shape, 50 + i) }));
      const grouped = graph.nodes[1]!.attributes.group !== undefined;
      const { found, cuts, cut } = await cutOf(graph, feeds, grouped ? [0, 2] : [0, 2, 3, 5]);
      const { graph: repaired, layers } = await refitLayers(found, cuts, cut, world(feeds));
      expect(layers).toBe(1);
      const off = await distance(repaired, graph, feeds[0]!);
      expect(off).toBeLessThan((await distance(cut, graph, feeds[0]!)) / 1e4);
    },
  );

  test("knows of padding, strides, dilations and other positions than all", async () => {
    const wide = [2, 3, 80, 80];
    const graph = withConstantChannels(wide, (weights) => {
      weights.set("v", normal([5, 6, 3, 3], 2)).set("c", normal([5], 3));
      const attributes = { pads: [1, 2, 0, 1], strides: [2, 1], dilations: [1, 2] };
      return makeNode("Conv", ["h", "v", "c"], ["y"], attributes);
    });
    const feeds = Array.from({ length: 4 }, (_, i) => ({ x: normal(wide, 50 + i) }));
    // what channel 5 tells of borders can't be told of the others, so all but one of the constant ones stay
    const { found, cuts, cut } = await cutOf(graph, feeds, [0, 1, 2, 3, 5]);
    const refit = (await refitLayers(found, cuts, cut, world(feeds))).graph;
    const regressed = (await compensate(found, cuts, cut, "regression", world(feeds))).graph;
    const [fitted, told] = [await distance(refit, graph, feeds[0]!), await distance(regressed, graph, feeds[0]!)];
    // the other constant channel is cut off at the same borders
    expect(fitted).toBeLessThan(told / 100);
  });

  test("later layers are fitted to what the earlier ones leave them", async () => {
    const graph = deep();
    const feeds = Array.from({ length: 6 }, (_, i) => ({ x: normal(image4, 60 + i) }));
    const { found, cuts, cut } = await cutOf(graph, feeds, [0, 1, 2, 3, 4]);
    const refit = await refitLayers(found, cuts, cut, world(feeds));
    // the layer that reads the cut channels, and the one behind it
    expect(refit.layers).toBe(2);
    const fresh = { x: normal(image4, 99) };
    const regressed = await compensate(found, cuts, cut, "regression", world(feeds));
    const [all, one] = [await distance(refit.graph, graph, fresh), await distance(regressed.graph, graph, fresh)];
    expect(all).toBeLessThan(0.85 * one);
    expect(one).toBeLessThan(await distance(cut, graph, fresh));
  });

  /** Three convolutions with activations in between; the first has eight channels. */
  function deep(): Graph {
    const weights = new Map([
      ["w", normal([8, 3, 3, 3], 1)],
      ["v", normal([8, 8, 3, 3], 2)],
      ["u", normal([4, 8, 1, 1], 3)],
    ]);
    const pads = [1, 1, 1, 1];
    const nodes = [
      makeNode("Conv", ["x", "w"], ["h1"], { pads }),
      makeNode("Relu", ["h1"], ["a1"]),
      makeNode("Conv", ["a1", "v"], ["h2"], { pads }),
      makeNode("Relu", ["h2"], ["a2"]),
      makeNode("Conv", ["a2", "u"], ["y"]),
    ];
    const border = (name: string, channels: number) => ({
      name,
      type: { kind: "tensor", dtype: "float32", shape: ["n", channels, 6, 6] } as const,
    });
    return makeGraph({ nodes, weights, inputs: [border("x", 3)], outputs: [border("y", 4)] });
  }
});

test("batch normalizations get the statistics of all the data, each after those before it", async () => {
  const ones = (n: number, value = 1): Tensor => float32([n], new Float32Array(n).fill(value));
  const weights = new Map<string, Tensor>([
    ["w1", normal([4, 3, 1, 1], 1)],
    ["w2", normal([5, 4, 1, 1], 2)],
  ]);
  const norm = (i: number, channels: number): Node => {
    const names = ["scale", "bias", "mean", "variance"].map((name) => `${name}${i}`);
    weights.set(names[0]!, ones(channels)).set(names[1]!, ones(channels, 0));
    weights.set(names[2]!, ones(channels, 9)).set(names[3]!, ones(channels, 4));
    return makeNode("BatchNormalization", [`h${i}`, ...names], [i === 2 ? "y" : `n${i}`]);
  };
  const nodes = [makeNode("Conv", ["x", "w1"], ["h1"]), norm(1, 4), makeNode("Conv", ["n1", "w2"], ["h2"]), norm(2, 5)];
  const border = (name: string, channels: number) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape: ["n", channels, 4, 4] } as const,
  });
  const graph = makeGraph({
    nodes,
    weights,
    inputs: [border("x", 3)],
    outputs: [border("y", 5)],
    opsets: { "": 13 },
  });
  const feeds = Array.from({ length: 3 }, (_, i) => ({ x: normal([16, 3, 4, 4], 20 + i) }));
  const repaired = await reestimateBatchNorm(graph, world(feeds));
  expect(repaired.layers).toBe(2);
  expect(repaired.graph.opsets).toEqual({ "": 13 });
  const outputs = await Promise.all(feeds.map((some) => outputOf(repaired.graph, some)));
  for (let channel = 0; channel < 5; channel++) {
    const values = outputs.flatMap((y) => [...y].filter((_, i) => Math.floor(i / 16) % 5 === channel));
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    // batches differ a little from each other
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(variance - 1)).toBeLessThan(0.03);
  }
});

test("a graph without batch normalization stays as it is", async () => {
  const graph = withConstantChannels([2, 3], readers["a product without"]![1]);
  const { graph: same, layers } = await reestimateBatchNorm(graph, world([]));
  expect([same === graph, layers]).toEqual([true, 0]);
});
