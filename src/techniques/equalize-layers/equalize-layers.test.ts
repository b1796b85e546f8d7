import { describe, expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { type Graph, type GraphInit, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { quantizeDynamic } from "../quantize-dynamic/index.ts";
import { quantizeStatic } from "../quantize-static/index.ts";
import { quantizeWeights } from "../quantize-weights/index.ts";
import type { Step } from "../technique.ts";
import { normal, operators, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
import { equalizeLayers } from "./index.ts";
import { equalizingScales, type LayerWeight } from "./scales.ts";

const cpu = await runtime({ threads: 1 });

/** The numbers with every fourth index of an axis times a factor. */
function uneven({ shape, ...rest }: Tensor, axis: number, factor: number): Tensor {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const values = toFloat32({ shape, ...rest } as Tensor);
  return float32(
    shape,
    values.map((v, at) => ((Math.floor(at / inner) % shape[axis]!) % 4 === 1 ? factor * v : v)),
  );
}

function network(
  nodes: GraphInit["nodes"],
  weights: Record<string, Tensor>,
  shape: readonly number[] = [2, 3, 8, 8],
): Graph {
  return makeGraph({
    nodes,
    weights: new Map(Object.entries(weights)),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
}

const pads = [1, 1, 1, 1];
const six = { zero: float32([], [0]), six: float32([], [6]) };

/** Convolution, depthwise, pooling, grouped, two readers: whatever scales with each channel lies between. */
const chain = network(
  [
    makeNode("Conv", ["x", "w1", "b1"], ["c1"], { pads }, "first"),
    makeNode("Relu", ["c1"], ["r1"]),
    makeNode("Conv", ["r1", "w2", "b2"], ["c2"], { pads, group: 8 }, "depthwise"),
    makeNode("LeakyRelu", ["c2"], ["r2"], { alpha: 0.2 }),
    makeNode("MaxPool", ["r2"], ["p"], { kernel_shape: [2, 2], strides: [2, 2] }),
    makeNode("Conv", ["p", "w3"], ["c3"], { pads, group: 2 }, "grouped"),
    makeNode("PRelu", ["c3", "slope"], ["r3"]),
    makeNode("Conv", ["r3", "w4"], ["left"], {}, "left"),
    makeNode("Conv", ["r3", "w5"], ["right"], {}, "right"),
    makeNode("Add", ["left", "right"], ["y"], {}, "sum"),
  ],
  {
    ...{ w1: uneven(normal([8, 3, 3, 3], 1), 0, 10), b1: uneven(normal([8], 2), 0, 10) },
    ...{ w2: uneven(normal([8, 1, 3, 3], 3), 0, 1 / 10), b2: normal([8], 4) },
    ...{ w3: uneven(normal([12, 4, 3, 3], 5), 0, 10), slope: normal([12, 1, 1], 6) },
    ...{ w4: uneven(normal([5, 12, 1, 1], 7), 1, 1 / 10), w5: uneven(normal([5, 12, 1, 1], 8), 1, 1 / 10) },
  },
);

/** Convolutions with Relu6 between them, and channels that reach its bound. */
const clipped = network(
  [
    makeNode("Conv", ["x", "w1", "b1"], ["c1"], {}, "first"),
    makeNode("Clip", ["c1", "zero", "six"], ["r1"], {}, "relu6"),
    makeNode("Conv", ["r1", "w2"], ["c2"], { pads, group: 8 }, "depthwise"),
    makeNode("Clip", ["c2", "zero", "six"], ["r2"], {}, "second relu6"),
    makeNode("Conv", ["r2", "w3"], ["y"], {}, "last"),
  ],
  {
    ...{ ...six, w1: uneven(normal([8, 3, 1, 1], 1), 0, 30), b1: normal([8], 2) },
    ...{ w2: uneven(normal([8, 1, 3, 3], 3), 0, 5), w3: normal([4, 8, 1, 1], 5) },
  },
);

/** A residual block between two convolutions. */
const residual = network(
  [
    makeNode("Conv", ["x", "w0"], ["c0"], { pads }, "stem"),
    makeNode("Relu", ["c0"], ["r0"]),
    makeNode("Conv", ["r0", "w1", "b1"], ["c1"], { pads }, "inner"),
    makeNode("Relu", ["c1"], ["r1"]),
    makeNode("Conv", ["r1", "w2"], ["c2"], { pads }, "outer"),
    makeNode("Add", ["c2", "r0"], ["s"], {}, "sum"),
    makeNode("Relu", ["s"], ["r2"]),
    makeNode("Conv", ["r2", "w3"], ["y"], {}, "head"),
  ],
  {
    ...{ w0: normal([8, 3, 3, 3], 1), w1: uneven(normal([8, 8, 3, 3], 2), 0, 10), b1: normal([8], 3) },
    ...{ w2: normal([8, 8, 3, 3], 4), w3: normal([4, 8, 1, 1], 5) },
  },
);

/** Products of matrices, with what frameworks write between them. */
const dense = network(
  [
    makeNode("Gemm", ["x", "w1", "b1"], ["g"], { transB: 1 }, "one"),
    makeNode("Relu", ["g"], ["r1"]),
    makeNode("MatMul", ["r1", "w2"], ["m"], {}, "two"),
    makeNode("Add", ["m", "b2"], ["a"]),
    makeNode("LeakyRelu", ["a"], ["r2"]),
    makeNode("Gemm", ["r2", "w3", "b3"], ["y"], {}, "three"),
  ],
  {
    ...{ w1: uneven(normal([40, 24], 1), 0, 10), b1: uneven(normal([40], 2), 0, 10) },
    ...{ w2: uneven(uneven(normal([40, 36], 3), 0, 1 / 10), 1, 10), b2: uneven(normal([36], 4), 0, 10) },
    ...{ w3: uneven(normal([36, 10], 5), 0, 1 / 10), b3: normal([10], 6) },
  },
  [16, 24],
);

const feedsOf = (graph: Graph, seed = 99): { x: Tensor } => {
  const type = graph.inputs[0]!.type as { shape: readonly number[] };
  return {
    x: float32(
      type.shape,
      toFloat32(normal(type.shape, seed)).map((v) => 10 * v),
    ),
  };
};

async function equalized(
  graph: Graph,
  options: Parameters<typeof equalizeLayers>[0] = {},
): Promise<{ made: Graph; skips: Skip[] }> {
  const skips: Skip[] = [];
  return { made: await equalizeLayers(options).apply(graph, testContext(cpu, skips)), skips };
}

async function expectSame(graph: Graph, made: Graph): Promise<void> {
  const [wanted, found] = [await outputOf(cpu, graph, feedsOf(graph)), await outputOf(cpu, made, feedsOf(graph))];
  const largest = wanted.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  expect(Math.max(...found.map((v, i) => Math.abs(v - wanted[i]!))) / largest).toBeLessThan(1e-5);
}

/** The largest weight of each index of an axis. */
function reach({ shape, ...t }: Tensor, axis: number, values = toFloat32({ shape, ...t } as Tensor)): number[] {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const largest = new Array<number>(shape[axis]!).fill(0);
  values.forEach((v, at) => {
    const c = Math.floor(at / inner) % shape[axis]!;
    largest[c] = Math.max(largest[c]!, Math.abs(v));
  });
  return largest;
}

describe("outputs stay the same", () => {
  test("over all that scales with each channel, depthwise, grouped and with two readers", async () => {
    const { made, skips } = await equalized(chain);
    await expectSame(chain, made);
    expect(made.nodes.map(({ op }) => op)).toEqual(chain.nodes.map(({ op }) => op));
    const rows = reach(made.weights.get("w3")!, 0);
    const columns = reach(made.weights.get("w4")!, 1).map((w, c) => Math.max(w, reach(made.weights.get("w5")!, 1)[c]!));
    for (const [c, row] of rows.entries()) expect(row / columns[c]!, `channel ${c}`).toBeCloseTo(1, 2);
    expect(skips.map(({ node }) => node)).toEqual(["left", "right"]);
    expect(skips[0]!.reason).toBe("'sum' (Add) reads its output, and does not scale with each channel");
  });

  test("weights that the model gives out stay as they are", async () => {
    const outputs = ["y", "w2"].map((name) => ({ name, type: { kind: "tensor", dtype: "float32" } as const }));
    const told = { ...chain, outputs };
    const { made, skips } = await equalized(told);
    expect(made.weights.get("w2")).toBe(chain.weights.get("w2"));
    for (const node of ["first", "depthwise"])
      expect(skips).toContainEqual({ node, reason: "the weight of 'depthwise' is read elsewhere too" });
    await expectSame(told, made);
  });

  test("Relu6 keeps layers apart, or bounds each channel on its own", async () => {
    const { made, skips } = await equalized(clipped);
    expect(made).toBe(clipped);
    expect(skips).toContainEqual({
      node: "first",
      reason: "'relu6' (Clip) would clip its channels elsewhere; clips: min gives each its own bound",
    });
    const { made: bounded } = await equalized(clipped, { clips: "min" });
    await expectSame(clipped, bounded);
    expect(operators(bounded.nodes)).toBe("Conv 3, Min 2, Relu 2");
    // as far as channels reach the bound
    const session = await cpu.open({ ...clipped, outputs: [{ name: "r1" }] });
    const { r1 } = await session.run(feedsOf(clipped));
    await session.release();
    expect(toFloat32(r1!).filter((v) => v === 6).length).toBeGreaterThan(10);
  });

  test("a residual sum is left alone, what lies inside its branch is not", async () => {
    const { made, skips } = await equalized(residual);
    await expectSame(residual, made);
    expect(made.weights.get("w1")).not.toBe(residual.weights.get("w1"));
    expect(made.weights.get("w3")).toBe(residual.weights.get("w3"));
    const reasons = new Map(skips.map(({ node, reason }) => [node, reason]));
    expect(reasons.get("stem")).toBe("'sum' (Add) reads its output beside something else");
    expect(reasons.get("outer")).toBe("'sum' (Add) reads its output, and does not scale with each channel");
    expect(reasons.get("head")).toBe("'y' is an output of the model");
  });

  test("between products of matrices, either way round, with their biases", async () => {
    const { made } = await equalized(dense);
    await expectSame(dense, made);
    for (const [a, row, b, column] of [
      ["w1", 0, "w2", 0],
      ["w2", 1, "w3", 0],
    ] as const) {
      const [r1, r2] = [reach(made.weights.get(a)!, row), reach(made.weights.get(b)!, column)];
      for (const [c, largest] of r1.entries()) expect(largest / r2[c]!, `${a} ${c}`).toBeCloseTo(1, 2);
    }
  });

  test("what makes a normalization is not a layer", async () => {
    const normed = network(
      [
        makeNode("LayerNormalization", ["x", "g"], ["n"], {}, "norm"),
        makeNode("MatMul", ["n", "w"], ["y"], {}, "product"),
      ],
      { g: normal([24], 1), w: normal([24, 10], 2) },
      [16, 24],
    );
    const graph = { ...normed, opsets: { "": 17 } };
    const { made, skips } = await equalized(graph);
    expect(made).toBe(graph);
    expect(skips).toEqual([{ node: "product", reason: expect.stringContaining("smooth-activations") as string }]);
  });
});

describe("fewer bits err less afterwards", () => {
  const data = (graph: Graph): Dataset => ({
    name: "normal",
    splits: ["all"],
    size: () => 8,
    async *batches({ batch, limit = 8, skip = 0 }) {
      for (let i = skip; i + 1 <= Math.min(8, skip + limit); i++)
        yield { inputs: feedsOf(graph, 200 + i), size: batch };
    },
  });
  const quality = async (graph: Graph, ...steps: readonly Step[]): Promise<number> => {
    let current = graph;
    for (const step of steps) current = await step.apply(current, { ...testContext(cpu), data: data(graph) });
    return sqnr(await outputOf(cpu, graph, feedsOf(graph)), await outputOf(cpu, current, feedsOf(graph)));
  };
  const whole = { perChannel: false, equalize: false, biasCorrection: false, protect: false, target: "size" } as const;
  test.each([
    [
      "quantize-static, one scale a weight",
      chain,
      quantizeStatic({ ...whole, depthwise: "quantize", method: "min-max" }),
    ],
    [
      "quantize-weights, one scale a weight",
      chain,
      quantizeWeights({ bits: 8, granularity: "tensor", minElements: 32 }),
    ],
    ["quantize-dynamic", dense, quantizeDynamic({ minElements: 0, perChannel: false })],
  ] as const)("%s", async (_, graph, step) => {
    expect(await quality(graph, equalizeLayers(), step)).toBeGreaterThan((await quality(graph, step)) + 6);
  });
});

describe("equalizingScales", () => {
  const weight = (name: string, values: readonly number[]): LayerWeight => ({
    name,
    values: Float32Array.from(values),
    visit: (visitor) => values.forEach((_, at) => void visitor(at, at, at)),
  });

  test("each channel is as large in what makes it as in what reads it, along a chain of layers", () => {
    const [a, b, c] = [weight("a", [8, 1, 2]), weight("b", [2, 1, 0.5]), weight("c", [1, 4, 1])];
    const joints = [
      { channels: 3, producer: a, consumers: [b] },
      { channels: 3, producer: b, consumers: [c] },
    ];
    const scales = [...equalizingScales(joints, 100).values()];
    // k and l of each channel: a k = b l / k = c / l, so that k = (b c / a²)^(1/3)
    const wanted = [0, 1, 2].map((i) => Math.cbrt((b.values[i]! * c.values[i]!) / a.values[i]! ** 2));
    for (const [i, k] of scales[0]!.entries()) expect(k / wanted[i]!).toBeCloseTo(1, 2);
    for (const i of [0, 1, 2])
      expect(c.values[i]! / scales[1]![i]! / (a.values[i]! * scales[0]![i]!)).toBeCloseTo(1, 2);
  });

  test("dead channels, and those that are not finite, stay; others move no further than the bound", () => {
    const made = weight("a", [0, 1, Number.NaN, Number.POSITIVE_INFINITY, 1e-9, 1]);
    const read = weight("b", [1, 0, 1, 1, 1, 4]);
    const [scales] = [...equalizingScales([{ channels: 6, producer: made, consumers: [read] }], 32).values()];
    expect([...scales!]).toEqual([1, 1, 1, 1, 32, 2]);
  });
});
