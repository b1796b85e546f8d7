import { beforeAll, describe, expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { encodeOnnx } from "../../formats/onnx/index.ts";
import { type Graph, isNode, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { runtime } from "../../platform/node.ts";
import type { Runtime, Tensors } from "../../platform/runtime.ts";
import { random } from "../../random.ts";
import { float32, int64, type Tensor, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import type { Exhibit } from "../exhibit.ts";
import { simplify } from "../simplify/index.ts";
import type { Context } from "../technique.ts";
import { testContext } from "../testing.ts";
import { quantizeAwareTrain } from "./index.ts";

let engine: Runtime;
beforeAll(async () => {
  engine = await runtime({ threads: 1 });
});

const generator = random(5);
const noise = (shape: readonly number[], scale = 1): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => generator.normal() * scale),
  );

function normalization(channels: number, name: string): [string, Tensor][] {
  const gamma = toFloat32(noise([channels])).map((v, c) => (c % 3 === 0 ? -0.5 - Math.abs(v) : 0.5 + Math.abs(v)));
  return [
    [`${name}_gamma`, float32([channels], gamma)],
    [`${name}_beta`, noise([channels], 0.3)],
    [`${name}_mean`, noise([channels], 0.3)],
    [
      `${name}_var`,
      float32(
        [channels],
        toFloat32(noise([channels])).map((v) => 0.5 + v * v),
      ),
    ],
  ];
}

/**
 * Two convolutions with batch normalization, a third of its factors negative, the second with a bias before it, a residual
 * sum and a classifier.
 */
function build(): Graph {
  const norm = (x: string, y: string, name: string): Node => {
    const parts = ["gamma", "beta", "mean", "var"].map((part) => `${name}_${part}`);
    return makeNode("BatchNormalization", [x, ...parts], [y], {}, name);
  };
  return makeGraph({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["c1"], { pads: [1, 1, 1, 1] }, "first"),
      norm("c1", "n1", "norm1"),
      makeNode("Relu", ["n1"], ["r1"]),
      makeNode("Conv", ["r1", "w2", "b2"], ["c2"], { pads: [1, 1, 1, 1] }, "second"),
      norm("c2", "n2", "norm2"),
      makeNode("Add", ["n2", "r1"], ["a"], {}, "sum"),
      makeNode("Relu", ["a"], ["ra"]),
      makeNode("GlobalAveragePool", ["ra"], ["g"]),
      makeNode("Flatten", ["g"], ["f"]),
      makeNode("Gemm", ["f", "w3", "b3"], ["h"], { transB: 1 }, "hidden"),
      makeNode("Relu", ["h"], ["rh"]),
      makeNode("Gemm", ["rh", "w4", "b4"], ["y"], { transB: 1 }, "head"),
    ],
    weights: new Map([
      ["w1", noise([8, 2, 3, 3], 0.4)],
      ...normalization(8, "norm1"),
      ["w2", noise([8, 8, 3, 3], 0.2)],
      ["b2", noise([8], 0.1)],
      ...normalization(8, "norm2"),
      ["w3", noise([16, 8], 0.5)],
      ["b3", noise([16], 0.1)],
      ["w4", noise([3, 16], 0.5)],
      ["b4", noise([3], 0.1)],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [null, 2, 6, 6] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
}

const network = build();

const total = 96;
const images = Array.from({ length: total }, () => noise([2, 6, 6]));

const projection = toFloat32(noise([72]));

/** Images whose labels, if any, say which third of a random projection they fall into. */
function dataset(labelled = false): Dataset {
  const label = (image: Tensor): bigint => {
    const at = toFloat32(image).reduce((sum, v, i) => sum + v * projection[i]!, 0);
    return at < -3 ? 0n : at < 3 ? 1n : 2n;
  };
  return {
    name: "noise",
    splits: ["train"],
    size: () => total,
    async *batches({ batch, limit = total, skip = 0 }) {
      const end = Math.min(total, skip + limit);
      for (let at = skip; at < end; at += batch) {
        const some = images.slice(at, Math.min(end, at + batch));
        const values = Float32Array.from(some.flatMap((image) => [...toFloat32(image)]));
        const labels = labelled ? { labels: int64(some.map(label)) } : {};
        yield { inputs: { x: float32([some.length, 2, 6, 6], values) }, size: some.length, ...labels };
      }
    },
  };
}

interface Made {
  readonly graph: Graph;
  readonly exhibits: readonly Exhibit[];
  readonly lines: readonly string[];
}

async function make(
  options: Parameters<typeof quantizeAwareTrain>[0],
  graph = network,
  data = dataset(),
): Promise<Made> {
  const exhibits: Exhibit[] = [];
  const lines: string[] = [];
  const context: Context = { ...testContext(engine, [], exhibits), data, log: (line) => void lines.push(line) };
  return {
    graph: await quantizeAwareTrain({ batch: 32, samples: 32, ...options }).apply(graph, context),
    exhibits,
    lines,
  };
}

async function outputs(graph: Graph): Promise<Float32Array> {
  const session = await engine.open(graph);
  const feeds: Tensors = {
    x: float32([32, 2, 6, 6], Float32Array.from(images.slice(0, 32).flatMap((i) => [...toFloat32(i)]))),
  };
  const { y } = await session.run(feeds);
  await session.release();
  return toFloat32(y!);
}

async function errorOf(graph: Graph): Promise<number> {
  const [wanted, got] = [await outputs(network), await outputs(graph)];
  const square = (values: Float32Array): number => values.reduce((sum, v) => sum + v * v, 0);
  return square(wanted.map((v, i) => v - got[i]!)) / square(wanted);
}

/** The integers behind a node's weight, and their dequantized scales. */
function integersOf(graph: Graph, name: string): { codes: readonly number[]; dtype: string } {
  const node = graph.nodes.find((each) => each.name === name)!;
  const dequantize = links(graph).producer.get(node.inputs[1]!)!;
  const codes = graph.weights.get(dequantize.inputs[0]!)!;
  return { codes: toNumbers(codes), dtype: codes.dtype };
}

const distinct = (values: readonly number[]): number => new Set(values).size;

/** What the technique found of the difference between simulation and integers: share of same classes, and steps. */
function agreementOf({ lines }: Made): { same: number; steps: number } {
  const found = lines.map((line) => /agree on ([\d.]+) %.*difference is ([\d.e-]+) steps/.exec(line)).find((m) => m)!;
  return { same: Number(found[1]) / 100, steps: Number(found[2]) };
}

describe("quantize-aware-train", () => {
  test.each([
    ["8 bits", { weightBits: 8, activationBits: 8 }],
    ["4 bits", { weightBits: 4, activationBits: 4, endBits: 4 }],
    ["2 bits", { weightBits: 2, activationBits: 3, endBits: 2 }],
    ["ternary", { weightBits: "ternary", activationBits: 4 }],
    ["binary", { weightBits: "binary", activationBits: 8 }],
  ] as const)(
    "integers give what was trained, not a step apart: %s, batch normalization on its own",
    async (_, bits) => {
      const made = await make({ ...bits, epochs: 4, rate: 0.01, target: "size" });
      const { same, steps } = agreementOf(made);
      expect(same).toBe(1);
      // what float32 loses; a value that rounds to another integer is a step or more
      expect(steps).toBeLessThan(0.01);
      expect(made.graph.nodes.some((node) => isNode(node, "BatchNormalization"))).toBe(false);
    },
  );

  test("training wins back what rounding to few bits loses", async () => {
    const bits = { weightBits: 2, activationBits: 2, endBits: 3, target: "size" } as const;
    const rounded = await errorOf((await make({ ...bits, epochs: 0 })).graph);
    const trained = await errorOf((await make({ ...bits, epochs: 20, batchNorm: "frozen", teacherLoss: "mse" })).graph);
    expect(trained).toBeLessThan(0.25 * rounded);
  });

  test("integer kernels run with activations of few bits", async () => {
    const { graph } = await make({ weightBits: 4, activationBits: 4, target: "size" });
    const clips = graph.nodes.filter((node) => isNode(node, "Clip"));
    expect(clips.length).toBeGreaterThan(0);
    expect(graph.nodes.some((node) => isNode(node, "Relu"))).toBe(false);
    const session = await engine.open(graph, { profile: true });
    await session.run({ x: float32([1, 2, 6, 6], toFloat32(images[0]!)) });
    const kernels = (await session.profile()).map(({ op }) => op);
    await session.release();
    expect(kernels.filter((op) => op === "QLinearConv")).toHaveLength(2);
    expect(kernels).not.toContain("Conv");
  });

  test("the first and last layer keep 8 bits, the others take as few levels as asked for", async () => {
    const { graph } = await make({ weightBits: 3, activationBits: 4, target: "size" });
    expect(distinct(integersOf(graph, "first").codes)).toBeGreaterThan(20);
    expect(distinct(integersOf(graph, "second").codes)).toBeLessThanOrEqual(7);
    expect(distinct(integersOf(graph, "hidden").codes)).toBeLessThanOrEqual(7);
    expect(distinct(integersOf(graph, "head").codes)).toBeGreaterThan(20);
  });

  test("layers that are named have bits of their own, weights and what they read", async () => {
    const made = await make({
      target: "size",
      layerBits: { "/first|second/": 4, second: "ternary", w3: 2 },
      layerActivationBits: { second: 4 },
      epochs: 1,
    });
    const levels = ["first", "second", "hidden", "head"].map((name) => distinct(integersOf(made.graph, name).codes));
    expect(levels.slice(0, 3).map((count, i) => count <= [15, 3, 4][i]!)).toEqual([true, true, true]);
    expect(levels[3]).toBeGreaterThan(20);
    const grids = made.exhibits.find((exhibit) => exhibit.kind === "grids")!;
    expect(grids.layers.map(({ width }) => width)).toEqual(["4 bits", "ternary", "2 bits", "8 bits"]);
    const bits = new Map(grids.ranges.flatMap(({ name, of, bits }) => (of === "activations" ? [[name, bits]] : [])));
    expect(Math.min(...bits.values())).toBe(4);
    expect([...bits.values()].filter((count) => count === 4)).toHaveLength(1);
    expect(agreementOf(made).same).toBeGreaterThan(0.95);
    const alone = await make({ activationBits: 32, layerBits: { second: 3, hidden: "binary" } });
    const [weights] = alone.exhibits.flatMap((exhibit) => (exhibit.kind === "grids" ? [exhibit.layers] : []));
    expect(weights!.map(({ width, packed, stored }) => [width, packed === stored])).toEqual([
      ["8 bits", true],
      ["3 bits", true],
      ["binary", true],
      // head has 48 numbers, fewer than are quantized alone
    ]);
  });

  test("a sum reads 8 bits of what a layer reads in fewer", async () => {
    const { graph } = await make({ weightBits: 4, activationBits: 2, target: "size" });
    const { producer } = links(graph);
    const makersOf = ({ inputs }: Node): (string | undefined)[] =>
      inputs.map((input) => producer.get(producer.get(input)!.inputs[0]!)?.op);
    const [layer, sum] = ["second", "sum"].map((name) => graph.nodes.find((node) => node.name === name)!) as [
      Node,
      Node,
    ];
    expect(makersOf(layer)[0]).toBe("Clip");
    expect(makersOf(sum)).toEqual(["QuantizeLinear", "QuantizeLinear"]);
  });

  test("packed weights are stored in 4 bits and compute the same", async () => {
    const bits = { weightBits: 4, activationBits: 8, endBits: 4, target: "size" } as const;
    const [packed, plain] = [await make({ ...bits, format: "packed" }), await make(bits)];
    expect(integersOf(packed.graph, "second").dtype).toBe("int4");
    const [a, b] = [await outputs(packed.graph), await outputs(plain.graph)];
    const largest = Math.max(...a.map(Math.abs));
    expect(Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) / largest).toBeLessThan(0.05);
  });

  test.each(["ternary", "binary"] as const)(
    "weights alone are stored %s, behind float activations",
    async (weightBits) => {
      const made = await make({ weightBits, activationBits: 32, endBits: 2, epochs: 2 });
      expect(made.graph.nodes.some((node) => isNode(node, "QuantizeLinear"))).toBe(false);
      const grids = made.exhibits.find((exhibit) => exhibit.kind === "grids")!;
      const second = grids.layers.find(({ name }) => name === "second")!;
      expect(second.width).toBe(weightBits);
      // codes and a scale for each of 8 channels
      expect(second.packed).toBe((weightBits === "ternary" ? Math.ceil((576 * 1.6) / 8) : 72) + 32);
      expect(made.graph.weights.has("w2")).toBe(false);
      expect(made.lines.join("\n")).toMatch(/agree on 100\.0 %/);
    },
  );

  test("zeros of a pruned model stay zero, and clusters one value", async () => {
    const pruned = toFloat32(network.weights.get("w2")!).map((v, i) => (i % 2 === 0 ? 0 : v));
    const values = [-0.4, -0.1, 0.2, 0.5];
    const clustered = Float32Array.from({ length: 16 * 8 }, (_, i) => values[(i * 7) % 4]!);
    const weights = new Map(network.weights)
      .set("w2", float32([8, 8, 3, 3], pruned))
      .set("w3", float32([16, 8], clustered));
    const { graph } = await make({ epochs: 3, rate: 0.02, target: "size" }, { ...network, weights });
    const { codes } = integersOf(graph, "second");
    expect(codes.filter((code, i) => i % 2 === 0 && code !== 0)).toEqual([]);
    expect(distinct(integersOf(graph, "hidden").codes)).toBe(4);
  });

  test("labels are learned where there are some, and the last part keeps the statistics of batch normalization", async () => {
    const { exhibits } = await make({ epochs: 4, freezeBatchNorm: 0.5, distill: false }, network, dataset(true));
    const trainings = exhibits.flatMap((exhibit) => (exhibit.kind === "training" ? [exhibit] : []));
    expect(trainings.map(({ name }) => name)).toEqual(["statistics of batches", "frozen statistics"]);
    const rates = trainings.map(({ epochs }) => epochs.at(-1)!.rate);
    expect(rates[1]).toBeLessThan(rates[0]!);
    expect(trainings[0]!.curve[0]!.accuracy).toBeDefined();
  });

  test("batch normalization is put back in batches of the size that a model fixes", async () => {
    const folded = await simplify().apply(network, testContext(engine));
    const input = { name: "x", type: { kind: "tensor", dtype: "float32", shape: [20, 2, 6, 6] } } as const;
    const fixed = { ...folded, inputs: [input] };
    const options = { batch: 20, epochs: 1, unfoldBatchNorm: true, target: "size" } as const;
    const { graph, exhibits } = await make(options, fixed, dataset(true));
    expect(graph.inputs).toEqual([input]);
    const trainings = exhibits.flatMap((exhibit) => (exhibit.kind === "training" ? [exhibit.name] : []));
    expect(trainings).toEqual(["statistics of batches", "frozen statistics"]);
    const few = { ...fixed, inputs: [{ ...input, type: { ...input.type, shape: [total + 1, 2, 6, 6] } }] };
    await expect(make({ ...options, batch: total + 1 }, few)).rejects.toThrow("a batch of 97");
  });

  test("the same seed gives the same bytes", async () => {
    const options = { weightBits: 4, activationBits: 4, steps: "lsq+", epochs: 2, target: "size" } as const;
    expect(encodeOnnx((await make(options)).graph)).toEqual(encodeOnnx((await make(options)).graph));
  });

  test("options that do not go together are refused", async () => {
    await expect(make({ format: "storage" })).rejects.toThrow(/activations have 8 bits/);
    await expect(make({ format: "qdq", activationBits: 32 })).rejects.toThrow(/integer activations/);
    await expect(make({ steps: "pact", activationBits: 32 })).rejects.toThrow(/stay in float/);
    await expect(make({ layerBits: { secnd: 4 } })).rejects.toThrow(/--layer-bits 'secnd'.*second/);
    const activations = { layerActivationBits: { second: 4 } } as const;
    await expect(make({ ...activations, activationBits: 32 })).rejects.toThrow(/all activations stay in float/);
    const packed = { activationBits: 32, format: "matmulnbits", layerBits: { hidden: 3 } } as const;
    await expect(make(packed)).rejects.toThrow(/3-bit weights/);
  });
});
