import { describe, expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { encodeOnnx } from "../../formats/onnx/index.ts";
import { makeGraph, makeNode } from "../../graph/graph.ts";
import { float32, int64, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import { quantizeStatic, staticSensitivity } from "./index.ts";
import {
  classifier,
  contextOf,
  dataset,
  kernels,
  named,
  network,
  noise,
  outputs,
  quantize,
  ratio,
  samples,
} from "./testing.ts";

describe("a residual network", () => {
  const graph = classifier();

  test("runs on integer kernels, and nothing but its ends is converted", async () => {
    const { graph: quantized, skips } = await quantize(graph, { target: "size" });
    expect(skips.size).toBe(0);
    const found = await kernels(quantized);
    expect(found).toMatchObject({ QLinearConv: 3, QLinearAdd: 1, QLinearGlobalAveragePool: 1, QGemm: 1 });
    expect(found.QuantizeLinear).toBe(1);
    expect(found.Conv).toBeUndefined();
    expect(found.Relu).toBeUndefined();
    expect(await ratio(graph, quantized)).toBeGreaterThan(28);
  });

  test("keeps its signature and the original, and gives the same bytes for the same seed", async () => {
    const before = encodeOnnx(graph);
    const first = await quantize(graph);
    const second = await quantize(graph);
    expect(encodeOnnx(first.graph)).toEqual(encodeOnnx(second.graph));
    expect(encodeOnnx(graph)).toEqual(before);
    expect(first.graph.inputs).toEqual(graph.inputs);
    expect(first.graph.outputs).toEqual(graph.outputs);
  });

  test.each([
    ["int8", {}],
    ["uint8", { weightType: "uint8", symmetricWeights: false }],
    ["uint16", {}],
    ["int16", { symmetricActivations: true }],
    ["int8", { symmetricActivations: true, perChannel: false, depthwise: "float" }],
  ])("%s activations with %o", async (activationType, more) => {
    const { graph: quantized } = await quantize(graph, { activationType, target: "size", ...more });
    expect(await ratio(graph, quantized)).toBeGreaterThan(25);
  });

  test("QOperator form computes what the QDQ form does", async () => {
    const settings = { target: "size", method: "min-max", equalize: false };
    const { graph: qdq } = await quantize(graph, settings);
    const { graph: qoperator } = await quantize(graph, { ...settings, format: "qoperator" });
    const ops = qoperator.nodes.map(({ op }) => op);
    expect(ops.filter((op) => op === "QLinearConv")).toHaveLength(3);
    expect(ops).toEqual(expect.arrayContaining(["QLinearAdd", "QGemm", "QLinearGlobalAveragePool"]));
    expect(ops).not.toContain("Conv");
    expect(await ratio(qdq, qoperator)).toBeGreaterThan(30);
  });

  test("one scale for a depthwise weight collapses, so without channel scales it stays float by default", async () => {
    const settings = { perChannel: false, target: "size", protect: false, equalize: false };
    const { skips, graph: kept } = await quantize(graph, settings);
    expect(skips.get("depthwise")).toBe("depthwise convolutions stay float");
    const { graph: forced } = await quantize(graph, { ...settings, depthwise: "quantize" });
    expect(await ratio(graph, kept)).toBeGreaterThan((await ratio(graph, forced)) + 3);
  });

  test("portable weights have 7 bits", async () => {
    const { graph: quantized } = await quantize(graph, { portable: true, target: "size" });
    for (const [name, weight] of quantized.weights) {
      if (weight.dtype !== "int8" || weight.shape.length < 2) continue;
      expect(Math.max(...toNumbers(weight).map(Math.abs)), name).toBe(64);
    }
    expect(await ratio(graph, quantized)).toBeGreaterThan(25);
  });

  test("an excluded convolution between integer ones stays float in the runtime too", async () => {
    const { graph: quantized, skips } = await quantize(graph, { exclude: ["depthwise"], target: "size" });
    expect(skips.get("depthwise")).toBe("excluded");
    expect(await kernels(quantized)).toMatchObject({ QLinearConv: 2, Conv: 1 });
  });

  test("shows the activations that integers fit worst, with what was seen of them", async () => {
    const all = { target: "size", method: "percentile", percentile: 100, equalize: false };
    const { exhibits } = await quantize(graph, all);
    const ranges = exhibits.find((exhibit) => exhibit.kind === "ranges")!;
    expect(ranges.quantized).toBeGreaterThanOrEqual(ranges.values.length);
    const ratios = ranges.values.map(({ signalToNoise }) => signalToNoise);
    expect(ratios).toEqual(ratios.toSorted((a, b) => a - b));
    for (const { histogram, range, clipped, bits } of ranges.values) {
      expect(bits).toBe(8);
      expect(clipped).toBeLessThan(1e-3);
      // all that was seen fits, to half a step
      const half = (range[1] - range[0]) / 510;
      expect(histogram.min).toBeGreaterThan(range[0] - 2 * half);
      expect(histogram.max).toBeLessThan(range[1] + 2 * half);
      expect(histogram.counts.length).toBe(64);
    }
    const [few] = (await quantize(graph, { target: "size", activationBits: 4 })).exhibits;
    expect(few).toMatchObject({ kind: "ranges", values: [{ bits: 4 }, ...Array(5).fill({})] });
  });

  test("layer sensitivity ranks every layer", async () => {
    const found = await staticSensitivity(graph, { samples: 8, target: "size" }, contextOf(dataset()));
    expect(found.map(({ node }) => node).sort()).toEqual(["classify", "depthwise", "first", "pointwise"]);
    expect(found.every(({ quality }, i) => i === 0 || quality >= found[i - 1]!.quality)).toBe(true);
  });
});

describe("what stays float", () => {
  test("a detector's boxes and scores are not forced under one scale", async () => {
    const graph = network({
      nodes: [
        makeNode("Conv", ["x", "wb"], ["boxes"], {}, "boxes"),
        makeNode("Conv", ["x", "ws"], ["scores"], {}, "scores"),
        makeNode("Concat", ["boxes", "scores"], ["y"], { axis: 1 }),
      ],
      weights: { wb: noise([16, 3, 3, 3], 100), ws: noise([16, 3, 3, 3], 0.01) },
    });
    const { graph: quantized } = await quantize(graph, { target: "size" });
    const feed = samples[0]!;
    const [a, b] = [(await outputs(graph, [feed]))[0]!, (await outputs(quantized, [feed]))[0]!];
    const half = a.length / 2;
    const error = (from: number): number => {
      let largest = 0;
      let reach = 0;
      for (let i = from; i < from + half; i++) {
        largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
        reach = Math.max(reach, Math.abs(a[i]!));
      }
      return largest / reach;
    };
    expect(error(half)).toBeLessThan(0.1);
    expect(error(0)).toBeLessThan(0.1);
  });

  test("infinite masks, normalization and softmax", async () => {
    const graph = network({
      nodes: [
        makeNode("Flatten", ["x"], ["f"], { axis: 2 }),
        makeNode("MatMul", ["f", "w"], ["m"], {}, "project"),
        makeNode("Add", ["m", "mask"], ["s"]),
        makeNode("Softmax", ["s"], ["p"], { axis: -1 }),
        makeNode("MatMul", ["p", "w2"], ["v"], {}, "mix"),
        makeNode("MatMul", ["v", "vt"], ["y"], {}, "product"),
        makeNode("Transpose", ["v"], ["vt"], { perm: [1, 0] }),
      ],
      weights: {
        w: noise([144, 16], 0.1),
        mask: float32([16], [...new Array(12).fill(0), ...new Array(4).fill(Number.NEGATIVE_INFINITY)]),
        w2: noise([16, 16]),
      },
    });
    const reordered = { ...graph, nodes: [...graph.nodes.slice(0, 5), graph.nodes[6]!, graph.nodes[5]!] };
    const { graph: quantized, skips } = await quantize(reordered, { target: "size" });
    expect(skips.get("product")).toBe("both of its operands are activations");
    expect(named(quantized, "project").inputs.every((name) => name.endsWith("dequantized"))).toBe(true);
    expect(quantized.nodes.find(({ op }) => op === "Softmax")!.inputs).toEqual(["s"]);
    expect(await ratio(reordered, quantized)).toBeGreaterThan(25);
  });

  test("layers inside control flow, each with its reason", async () => {
    const branch = (op: string, inputs: readonly string[], name: string) =>
      ({
        type: "graph",
        value: makeGraph({ nodes: [makeNode(op, inputs, [name], {}, name)], inputs: [], outputs: [{ name }] }),
      }) as const;
    const graph = network({
      nodes: [
        makeNode("ReduceMax", ["x"], ["most"], { keepdims: 0 }),
        makeNode("Greater", ["most", "bound"], ["bright"]),
        {
          ...makeNode("If", ["bright"], ["c"], {}, "choice"),
          attributes: { then_branch: branch("Conv", ["x", "w1"], "inner"), else_branch: branch("Relu", ["x"], "dark") },
        },
        makeNode("Conv", ["c", "w2"], ["y"], {}, "outer"),
      ],
      weights: { w1: noise([3, 3, 1, 1]), w2: noise([8, 3, 3, 3]), bound: float32([], [0]) },
    });
    const { graph: quantized, skips } = await quantize(graph, { target: "size" });
    expect([...skips]).toEqual([["inner", "it is inside control flow, which is left as it is"]]);
    expect(await kernels(quantized)).toMatchObject({ If: 1, QLinearConv: 1 });
  });

  test("weights that a caller may override, computed weights, and recurrent layers, each with its reason", async () => {
    const graph = makeGraph({
      ...network({
        nodes: [
          makeNode("Conv", ["x", "w"], ["c"], {}, "overridable"),
          makeNode("Mul", ["w2", "x"], ["scaled"]),
          makeNode("ReduceMean", ["scaled"], ["one"], { keepdims: 1 }),
          makeNode("Expand", ["one", "shape"], ["made"]),
          makeNode("Conv", ["c", "made"], ["y"], {}, "computed"),
        ],
        weights: { w: noise([8, 3, 3, 3]), w2: noise([1, 3, 1, 1]), shape: int64([4, 8, 1, 1]) },
      }),
      inputs: [
        { name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 3, 12, 12] } },
        { name: "w", type: { kind: "tensor", dtype: "float32", shape: [8, 3, 3, 3] } },
      ],
    });
    const { graph: same, skips } = await quantize(graph, { simplify: false });
    expect(same).toBe(graph);
    expect(skips.get("overridable")).toMatch(/graph input that a caller may override/);
    expect(skips.get("computed")).toMatch(/is computed/);
  });
});

test("a nearly dead channel with a large bias does not overflow int32", async () => {
  const w = toFloat32(noise([16, 3, 3, 3], 0.3)).map((v, i) => (i < 27 ? v * 1e-9 : v));
  const graph = network({
    nodes: [makeNode("Conv", ["x", "w", "b"], ["c"], {}), makeNode("Relu", ["c"], ["y"])],
    weights: { w: float32([16, 3, 3, 3], w), b: float32([16], [5, ...new Array(15).fill(0.1)]) },
  });
  const { graph: quantized } = await quantize(graph, { target: "size" });
  const [y] = await outputs(quantized, [samples[0]!]);
  expect(y!.slice(0, 100).every((v) => Math.abs(v - 5) < 0.1)).toBe(true);
});

test("a weight shared by two layers is stored once", async () => {
  const graph = network({
    nodes: [
      makeNode("Conv", ["x", "w"], ["c"], { pads: [1, 1, 1, 1] }, "a"),
      makeNode("Relu", ["c"], ["r"]),
      makeNode("Conv", ["r", "w"], ["y"], { pads: [1, 1, 1, 1] }, "b"),
    ],
    weights: { w: noise([3, 3, 3, 3], 0.3) },
  });
  const { graph: quantized } = await quantize(graph, { target: "size", biasCorrection: false });
  expect([...quantized.weights.values()].filter(({ dtype }) => dtype === "int8")).toHaveLength(2); // values, zero points
  expect(quantized.weights.has("w")).toBe(false);
});

test("constants beside activations are quantized with them", async () => {
  const graph = network({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["c"], {}),
      makeNode("Mul", ["c", "gain"], ["m"]),
      makeNode("Conv", ["m", "w2"], ["y"], {}),
    ],
    weights: { w1: noise([8, 3, 3, 3]), w2: noise([8, 8, 3, 3]), gain: noise([1, 8, 1, 1]) },
  });
  const { graph: quantized } = await quantize(graph, { target: "size", simplify: false });
  expect(await kernels(quantized)).toMatchObject({ QLinearConv: 2, QLinearMul: 1 });
  expect(await ratio(graph, quantized)).toBeGreaterThan(25);
});

test("samples held back to compare candidates widen the final ranges too", async () => {
  const loud = Array.from({ length: 16 }, (_, i) => ({ x: i < 15 ? samples[i]!.x! : noise([1, 3, 12, 12], 10) }));
  const { graph: quantized } = await quantize(
    classifier(),
    { method: "min-max", equalize: false, protect: false },
    loud,
  );
  const reach = Math.max(...loud.flatMap(({ x }) => [...toFloat32(x)]));
  const low = Math.min(...loud.flatMap(({ x }) => [...toFloat32(x)]));
  expect(toNumbers(quantized.weights.get("x_scale")!)[0]).toBeCloseTo((reach - low) / 255, 5);
});

test("NaN data is refused by name, and few samples are remarked on", async () => {
  const bad = [{ x: float32([1, 3, 12, 12], new Float32Array(432).fill(Number.NaN)) }];
  await expect(quantize(classifier(), {}, bad)).rejects.toThrow("'x' is NaN on sample 1");
  const { log } = await quantize(classifier(), { samples: 3 });
  expect(log[0]).toMatch(/only 3 samples/);
});

test("samples that do not fill a batch of the model's size are refused with that size", async () => {
  const batch = { name: "x", type: { kind: "tensor", dtype: "float32", shape: [16, 3, 12, 12] } } as const;
  const data: Dataset = {
    ...dataset(),
    async *batches({ limit = 10, skip = 0 }) {
      const size = Math.max(0, Math.min(limit, 10 - skip));
      if (size > 0) yield { inputs: { x: noise([size, 3, 12, 12]) }, size };
    },
  };
  for (const protect of [true, false]) {
    const step = quantizeStatic({ protect, method: "min-max", biasCorrection: false, equalize: false });
    const refused = step.apply({ ...classifier(), inputs: [batch] }, contextOf(data));
    await expect(refused).rejects.toThrow("noise: does not fill a batch of 16, which the model takes. Give 16 samples");
  }
});

test("small convolutions between float values are not worth converting for, unless size counts", async () => {
  const graph = network({
    nodes: [
      makeNode("Tanh", ["x"], ["t"]),
      makeNode("Conv", ["t", "w"], ["c"], {}, "small"),
      makeNode("Tanh", ["c"], ["y"]),
    ],
    weights: { w: noise([3, 3, 1, 1]) },
  });
  const { graph: same, skips } = await quantize(graph);
  expect(same).toBe(graph);
  expect(skips.get("small")).toMatch(/would cost more/);
  const { graph: quantized } = await quantize(graph, { target: "size" });
  expect(await kernels(quantized)).toMatchObject({ QLinearConv: 1 });
});
