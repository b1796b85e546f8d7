import { describe, expect, test } from "vitest";
import { encodeOnnx } from "../../../formats/onnx/index.ts";
import { makeNode } from "../../../graph/graph.ts";
import { float32, int64, toFloat32, toNumbers } from "../../../tensor/tensor.ts";
import type { CheckpointStore } from "../../../training/checkpoint.ts";
import { quantizeStatic } from "../index.ts";
import { contextOf, dataset, kernels, network, noise, outputs, quantize, ratio, samples } from "../testing.ts";

/** A stem, a residual block of two layers and a head, narrow enough to learn in moments. */
const graph = network({
  nodes: [
    makeNode("Conv", ["x", "w1", "b1"], ["c1"], { pads: [1, 1, 1, 1], strides: [2, 2] }, "stem"),
    makeNode("Relu", ["c1"], ["r1"]),
    makeNode("Conv", ["r1", "w2"], ["c2"], {}, "narrow"),
    makeNode("Relu", ["c2"], ["r2"]),
    makeNode("Conv", ["r2", "w3", "b3"], ["c3"], { pads: [1, 1, 1, 1] }, "wide"),
    makeNode("Add", ["c3", "r1"], ["a"]),
    makeNode("Relu", ["a"], ["ra"]),
    makeNode("GlobalAveragePool", ["ra"], ["g"]),
    makeNode("Flatten", ["g"], ["f"]),
    makeNode("Gemm", ["f", "w4", "b4"], ["y"], { transB: 1 }, "head"),
  ],
  weights: {
    w1: noise([16, 3, 3, 3], 0.3),
    b1: noise([16], 0.1),
    w2: noise([12, 16, 1, 1], 0.3),
    w3: noise([16, 12, 3, 3], 0.1),
    b3: noise([16], 0.1),
    w4: noise([6, 16], 0.3),
    b4: noise([6]),
  },
});
const feeds = Array.from({ length: 40 }, () => ({ x: noise([1, 3, 12, 12]) }));
/** With a mean: for white noise rounding to nearest is the best there is. */
const shifted = feeds.map(({ x }) => ({
  x: float32(
    x.shape,
    toFloat32(x).map((v) => 2 + v),
  ),
}));
const settings = {
  target: "size",
  weightBits: 2,
  equalize: false,
  protect: false,
  method: "min-max",
  roundingSteps: 120,
};
const codes = (weights: typeof graph.weights, name: string): number[] => toNumbers(weights.get(`${name}_quantized`)!);

describe.each([
  ["adaround", 8],
  ["block", 8],
  ["block", 4],
])("rounding %s, activations of %s bits", (rounding, activationBits) => {
  const options = { ...settings, rounding, activationBits };

  test("gives outputs nearer than rounding to nearest does, on data not learned from, by integer kernels", async () => {
    const { graph: nearest } = await quantize(graph, { ...options, rounding: "nearest" }, feeds);
    const { graph: learned, log } = await quantize(graph, options, feeds);
    expect(log.join("\n")).toContain(`rounding learned by ${rounding}`);
    expect(await ratio(graph, learned, samples)).toBeGreaterThan((await ratio(graph, nearest, samples)) + 1);
    expect(await kernels(learned)).toEqual(await kernels(nearest));
    // same grids, other integers, each beside the weight
    const [a, b] = [codes(nearest.weights, "w3"), codes(learned.weights, "w3")];
    expect(a).not.toEqual(b);
    expect(Math.max(...a.map((q, i) => Math.abs(q - b[i]!)))).toBe(1);
    expect(new Set(b)).toEqual(new Set([-2, -1, 0, 1]));
  });

  test("the same seed gives the same bytes, whether or not it was stopped in between", async () => {
    const kept = new Map<string, Uint8Array>();
    const run = async (store?: CheckpointStore, signal?: AbortSignal): Promise<Uint8Array> => {
      const context = {
        ...contextOf(dataset(feeds)),
        ...(store && { training: { store } }),
        ...(signal && { signal }),
      };
      return encodeOnnx(
        await quantizeStatic({ samples: 16, ...options, roundingSteps: 20 } as never).apply(graph, context),
      );
    };
    const whole = await run();
    const stop = new AbortController();
    const store: CheckpointStore = {
      read: async (name) => kept.get(name),
      async write(name, bytes) {
        kept.set(name, bytes);
        stop.abort(new Error("stopped"));
      },
    };
    await expect(run(store, stop.signal)).rejects.toThrow("stopped");
    expect(kept.size).toBe(1);
    expect(await run(store)).toEqual(whole);
    expect(kept.size).toBeGreaterThan(1);
    const other = contextOf(dataset(feeds));
    const changed = quantizeStatic({ samples: 16, ...options, roundingSteps: 21 } as never);
    await expect(changed.apply(graph, { ...other, training: { store } })).rejects.toThrow("another run");
  });
});

test.each([{ weightScales: "weighted" }, { weightBits: 8, portable: true, portableLayers: "saturating" }])(
  "with %o other data is another run: its grids are others",
  async (more) => {
    const kept = new Map<string, Uint8Array>();
    const store: CheckpointStore = {
      read: async (name) => kept.get(name),
      write: async (name, bytes) => void kept.set(name, bytes),
    };
    const run = (data: typeof feeds): Promise<unknown> =>
      quantizeStatic({ samples: 16, ...settings, ...more, rounding: "adaround", roundingSteps: 5 } as never).apply(
        graph,
        { ...contextOf(dataset(data)), training: { store } },
      );
    await run(feeds);
    expect(kept.size).toBeGreaterThan(1);
    await run(feeds);
    await expect(run(shifted)).rejects.toThrow("another run");
  },
);

test("what a unit gives while learning is what the integer kernels give", async () => {
  // one layer, its output unquantized and read by nothing else: the log's error is that of the model
  const one = network({
    nodes: [makeNode("Conv", ["x", "w", "b"], ["y"], {}, "only")],
    weights: { w: noise([8, 3, 3, 3]), b: noise([8]) },
  });
  // inputs with a mean: for white noise rounding to nearest is the best there is
  const shifted = feeds.map(({ x }) => ({
    x: float32(
      x.shape,
      toFloat32(x).map((v) => 2 + v),
    ),
  }));
  const options = { ...settings, keepEnds: false, rounding: "adaround" };
  const { graph: learned, log } = await quantize(one, options, shifted);
  const { graph: nearest } = await quantize(one, { ...options, rounding: "nearest", biasCorrection: false }, shifted);
  const [a, b, c] = await Promise.all([one, learned, nearest].map((g) => outputs(g, shifted.slice(0, 16))));
  const error = (other: readonly Float32Array[]): number =>
    a!.reduce((sum, y, i) => sum + y.reduce((s, v, k) => s + (v - other[i]![k]!) ** 2, 0), 0);
  const gain = Number(/only: ([\d.]+) dB/.exec(log.join("\n"))![1]);
  expect(10 * Math.log10(error(c!) / error(b!))).toBeCloseTo(gain, -0.3);
});

test("a block that can't be computed for several samples at once is learned layer by layer", async () => {
  const fixed = network({
    nodes: [
      makeNode("Conv", ["x", "w"], ["c"], { strides: [3, 3] }, "a"),
      makeNode("Flatten", ["c"], ["s"]),
      makeNode("Gemm", ["s", "v"], ["h"], { transB: 1 }, "b"),
      makeNode("Reshape", ["h", "one"], ["o"]),
      makeNode("Relu", ["o"], ["r"]),
      makeNode("Gemm", ["r", "v"], ["i"], { transB: 1 }, "c"),
      makeNode("Add", ["i", "s"], ["m"]),
      makeNode("Gemm", ["m", "v"], ["y"], { transB: 1 }, "d"),
    ],
    weights: { w: noise([4, 3, 3, 3]), v: noise([64, 64], 0.1), one: int64([1, 64]) },
  });
  const options = { ...settings, keepEnds: false, rounding: "block", roundingSteps: 30, simplify: false };
  const { log, graph: quantized } = await quantize(fixed, options, shifted);
  expect(log.join("\n")).toContain("layer by layer");
  expect(log.some((line) => line.startsWith("b: ")) && log.some((line) => line.startsWith("c: "))).toBe(true);
  // the three layers share a weight, which is learned once
  expect([...quantized.weights.keys()].filter((name) => name.startsWith("v_quantized"))).toHaveLength(1);
  expect(await ratio(fixed, quantized, shifted)).toBeGreaterThan(0);
});
