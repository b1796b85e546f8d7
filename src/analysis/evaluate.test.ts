import { gzipSync } from "node:zlib";
import { beforeAll, expect, test } from "vitest";
import { datasetOf } from "../data/samples.ts";
import { writeOnnx } from "../formats/onnx/index.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { changeOf, scoreOf } from "../metrics/change.ts";
import { metricOf } from "../metrics/index.ts";
import { givesProbabilities } from "../metrics/probabilities.ts";
import { bootstrapInterval, mcnemar, pairedBootstrap, quantile, wilson } from "../metrics/statistics.ts";
import { runtime as nodeRuntime } from "../platform/node.ts";
import { nodeCompressor } from "../platform/node-compress.ts";
import type { Runtime } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, int64, toFloat32 } from "../tensor/tensor.ts";
import { measureDivergence } from "./divergence.ts";
import { estimateEnergy } from "./energy.ts";
import { evaluate } from "./evaluate.ts";
import { measureLatency } from "./latency.ts";
import { measureSize } from "./size.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await nodeRuntime({ threads: 1 });
});

/** Two dense layers, 4 -> 8 -> 3. */
function network(batch: number | string = "N", seed = 1): Graph {
  const stream = random(seed);
  const weight = (rows: number, columns: number) =>
    float32(
      [rows, columns],
      Float32Array.from({ length: rows * columns }, () => stream.normal()),
    );
  return makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w1"], ["h"], {}, "first"),
      makeNode("Relu", ["h"], ["r"], {}, "relu"),
      makeNode("MatMul", ["r", "w2"], ["y"], {}, "second"),
    ],
    weights: new Map([
      ["w1", weight(4, 8)],
      ["w2", weight(8, 3)],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [batch, 4] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: [batch, 3] } }],
  });
}

/** The network with noise on a weight. */
function disturbed(graph: Graph, name: string, amount: number): Graph {
  const stream = random(9);
  return edit(graph, (draft) => {
    const w = draft.weights.get(name)!;
    draft.weights.set(
      name,
      float32(
        w.shape,
        toFloat32(w).map((v) => v + amount * stream.normal()),
      ),
    );
  });
}

const count = 50;
const stream = random(2);
const x = Float32Array.from({ length: 4 * count }, () => stream.normal());

/** Samples whose labels are what `graph` says. */
async function dataFor(graph: Graph) {
  const session = await runtime.open(graph);
  const y = toFloat32((await session.run({ x: float32([count, 4], x) })).y!);
  await session.release();
  const labels = Array.from({ length: count }, (_, i) => {
    const row = y.subarray(3 * i, 3 * i + 3);
    return row.indexOf(Math.max(...row));
  });
  return datasetOf(
    "made",
    new Map([
      [
        "test",
        {
          count,
          read: async (indices: readonly number[]) => ({
            inputs: {
              x: float32(
                [indices.length, 4],
                indices.flatMap((i) => Array.from(x.subarray(4 * i, 4 * i + 4))),
              ),
            },
            labels: int64(indices.map((i) => labels[i]!)),
            size: indices.length,
          }),
        },
      ],
    ]),
  );
}

test("evaluate scores models on the same samples, against the first", async () => {
  const graph = network();
  const data = await dataFor(graph);
  const metrics = ["top-1", "cross-entropy", "agreement"].map(metricOf);
  const models = [
    { name: "original", graph },
    { name: "noisy", graph: disturbed(graph, "w2", 1) },
  ];
  const found = await evaluate(models, data, runtime, { metrics, batch: 8 });
  expect([found.samples, found.batch, found.data.split]).toEqual([count, 8, "test"]);
  const [first, second] = found.models;
  expect(first!.scores.map(({ metric }) => metric)).toEqual(["top-1", "cross-entropy"]);
  expect(first!.scores[0]).toMatchObject({ value: 1, interval: wilson(count, count), samples: count, unit: "%" });
  const top1 = second!.scores[0]!.value;
  expect(top1).toBeLessThan(1);
  expect(second!.scores[2]).toMatchObject({ metric: "agreement", value: top1 });
  const lost = Math.round((1 - top1) * count);
  expect(second!.changes[0]).toMatchObject({ before: 1, after: top1, ...mcnemar(lost, 0, count) });
  expect(second!.changes[1]!.difference).toBeGreaterThan(0);
  expect(second!.outputs[0]!.output).toBe("y");
  // plain JSON, and the same again
  expect(JSON.parse(JSON.stringify(found))).toEqual(await evaluate(models, data, runtime, { metrics, batch: 8 }));
});

test("a model that takes other inputs than the first is refused", async () => {
  const graph = network();
  const [x] = graph.inputs;
  const [first, ...rest] = graph.nodes;
  const renamed = {
    ...graph,
    inputs: [{ ...x!, name: "z" }],
    nodes: [makeNode("MatMul", ["z", "w1"], first!.outputs, {}, "first"), ...rest],
  };
  const models = [
    { name: "a.onnx", graph },
    { name: "b.onnx", graph: renamed },
  ];
  await expect(evaluate(models, await dataFor(graph), runtime)).rejects.toThrow(
    "b.onnx: takes the input 'z', but 'a.onnx' has only x. Only models with the same inputs",
  );
});

test("a fixed batch axis is kept to: short batches are filled up and cut again", async () => {
  const data = await dataFor(network());
  const found = await evaluate([{ name: "fixed", graph: network(7) }], data, runtime, { quick: true });
  expect([found.batch, found.samples, found.models[0]!.scores[0]!.value]).toEqual([7, count, 1]);
});

test("a model that only runs single samples inside is run so", async () => {
  const graph = network();
  const inside = edit(graph, (draft) => {
    const shape = draft.constant("shape", int64([1, 4]));
    const flat = draft.emit("Reshape", ["x", shape]);
    const [first] = graph.nodes;
    draft.replace(first!, { ...first!, inputs: [flat, "w1"] });
  });
  const found = await evaluate([{ name: "single", graph: inside }], await dataFor(graph), runtime, { quick: true });
  expect([found.batch, found.models[0]!.scores[0]!.value]).toEqual([1, 1]);
});

test("probabilities are recognized by the operator that makes them", () => {
  const graph = network();
  const ends = (op: string): Graph =>
    edit(graph, (draft) =>
      draft.replace(graph.nodes[2]!, makeNode("MatMul", ["r", "w2"], ["z"]), makeNode(op, ["z"], ["y"])),
    );
  expect([graph, ends("Softmax"), ends("LogSoftmax"), ends("Tanh")].map(givesProbabilities)).toEqual([
    false,
    true,
    false,
    undefined,
  ]);
});

test("scores of a model in which that can't be seen are read as the first model's", async () => {
  const scoreBy = (...nodes: readonly ReturnType<typeof makeNode>[]): Graph =>
    makeGraph({
      nodes: [...nodes],
      weights: new Map([
        ["w", float32([1, 1], [1])],
        ["one", float32([], [1])],
      ]),
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["N", 1] } }],
      outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: ["N", 1] } }],
    });
  const logits = [0.2, 0.4, -1, -2];
  const read = async (indices: readonly number[]) => ({
    inputs: {
      x: float32(
        [indices.length, 1],
        indices.map((i) => logits[i]!),
      ),
    },
    labels: int64(indices.map((i) => (logits[i]! > 0 ? 1 : 0))),
    size: indices.length,
  });
  const models = [
    { name: "plain", graph: scoreBy(makeNode("MatMul", ["x", "w"], ["y"])) },
    { name: "scaled", graph: scoreBy(makeNode("MatMul", ["x", "w"], ["z"]), makeNode("Mul", ["z", "one"], ["y"])) },
  ];
  const data = datasetOf("logits", new Map([["all", { count: 4, read }]]));
  const found = await evaluate(models, data, runtime, { metrics: [metricOf("top-1")], quick: true });
  expect(found.models.map(({ scores }) => scores[0]!.value)).toEqual([1, 1]);
});

test("divergence names the node where it begins", async () => {
  const graph = network();
  const feeds = [{ x: float32([2, 4], x.slice(0, 8)) }, { x: float32([2, 4], x.slice(8, 16)) }];
  const found = await measureDivergence(graph, disturbed(graph, "w2", 2), runtime, feeds, { budget: 1 });
  expect(found.layers.map(({ value, sqnr }) => [value, sqnr > 100])).toEqual([
    ["h", true],
    ["r", true],
    ["y", false],
  ]);
  expect([found.firstBad, found.largestDrop?.node]).toEqual(["second", "second"]);
  const same = await measureDivergence(graph, graph, runtime, feeds);
  expect([same.firstBad, same.largestDrop, same.layers.length]).toEqual([undefined, undefined, 3]);
});

test("latency: the same model is as fast as itself, all figures in order", async () => {
  const graph = network();
  const models = [
    { name: "a", graph },
    { name: "b", graph },
  ];
  const found = await measureLatency(models, runtime, { x: float32([2, 4], x.slice(0, 8)) }, { seconds: 0.05 });
  expect([found.threads, found.provider]).toEqual([1, "cpu"]);
  for (const { minimum, deciles, quartiles, median, runs, batch } of found.models) {
    const rising = [minimum, deciles[0], quartiles[0], median, quartiles[1], deciles[1]];
    expect(rising).toEqual([...rising].sort((p, q) => p - q));
    expect([runs >= 30, batch, minimum > 0]).toEqual([true, 2, true]);
  }
  expect(found.models[0]!.ratio).toBeUndefined();
  const [low, high] = found.models[1]!.ratioInterval!;
  // a bootstrap of the median itself: its middle is the median
  expect(found.models[1]!.ratio).toBeGreaterThanOrEqual(low);
  expect(found.models[1]!.ratio).toBeLessThanOrEqual(high);
  expect(found.models[1]!.ratio).toBeGreaterThan(0.2);
  expect(found.models[1]!.ratio).toBeLessThan(5);
});

test("latency: of a slow model no more is run than an interval needs, of an aborted one nothing", async () => {
  let calls = 0;
  const slow: Runtime = {
    ...runtime,
    async open(graph, options) {
      const session = await runtime.open(graph, options);
      const run: typeof session.run = async (...given) => {
        calls++;
        await new Promise((done) => setTimeout(done, 105));
        return session.run(...given);
      };
      return { ...session, run };
    },
  };
  const models = [{ name: "slow", graph: network() }];
  const feeds = { x: float32([2, 4], x.slice(0, 8)) };
  const found = await measureLatency(models, slow, feeds, { seconds: 0.2 });
  expect([found.models[0]!.runs, calls]).toEqual([10, 12]);
  calls = 0;
  await expect(measureLatency(models, slow, feeds, { signal: AbortSignal.abort("stop") })).rejects.toBe("stop");
  expect(calls).toBe(0);
});

test("sizes are those of the written file", async () => {
  const graph = network();
  const file = Buffer.concat([...writeOnnx(graph)]);
  const size = await measureSize(graph, nodeCompressor);
  expect([size.raw, size.gzip]).toEqual([file.length, gzipSync(file, { level: 6 }).length]);
  expect(size.brotli).toBeGreaterThan(0);
  expect(size.brotli).toBeLessThan(size.raw);
});

test("energy by hand", () => {
  const idle = { weightBytes: 0, activationBytes: 0, peakActivationBytes: 0 };
  expect(estimateEnergy({ ...idle, macs: { float32: 1e9 } }).joules).toBeCloseTo(4.6e-3, 12);
  expect(estimateEnergy({ ...idle, macs: { int8: 1e9 } }).joules).toBeCloseTo(0.3e-3, 12);
  expect(estimateEnergy({ ...idle, macs: {}, weightBytes: 1e6 }).joules).toBeCloseTo(160e-6, 12);
  const small = estimateEnergy({ macs: {}, weightBytes: 0, activationBytes: 1000, peakActivationBytes: 1000 });
  const large = estimateEnergy({ macs: {}, weightBytes: 0, activationBytes: 1000, peakActivationBytes: 2 ** 21 });
  expect(large.joules / small.joules).toBeCloseTo(128, 9);
});

test("Wilson's interval and McNemar's test, by published values", () => {
  // Newcombe 1998, table I: 81/263, 15/148, 0/20 and 1/29
  for (const [hits, n, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ] as const) {
    const interval = wilson(hits, n);
    expect(interval[0]).toBeCloseTo(low, 4);
    expect(interval[1]).toBeCloseTo(high, 4);
  }
  // exact two-sided binomial: 2 P(X <= 1), X of 10 halves
  expect(mcnemar(9, 1, 100).p).toBeCloseTo((2 * 11) / 1024, 12);
  expect(mcnemar(0, 0, 100).p).toBe(1);
  expect(mcnemar(5, 5, 100).p).toBe(1);
  expect(mcnemar(3000, 2000, 1e5).p).toBeLessThan(1e-40);
  const { interval } = mcnemar(9, 1, 100);
  expect(interval[0]).toBeLessThan(-0.08);
  expect(interval[1]).toBeLessThan(0);
});

test("the bootstrap covers a mean, and finds a paired difference that is there", () => {
  const draws = random(5);
  const rows = Array.from({ length: 400 }, () => [draws.normal()]);
  const mean = (some: readonly (readonly number[])[]): number => some.reduce((sum, [v]) => sum + v!, 0) / some.length;
  const [low, high] = bootstrapInterval(rows, mean)!;
  // the normal approximation: mean ± 1.96 s / √n
  expect((high - low) / (2 * 1.96 * 0.05)).toBeCloseTo(1, 0);
  expect(low < mean(rows) && mean(rows) < high).toBe(true);
  const shifted = rows.map(([v]) => [v! + 0.01 + 0.02 * draws.normal()]);
  expect(pairedBootstrap(rows, shifted, mean)!.p).toBeLessThan(0.01);
  const noisy = rows.map(([v]) => [v! + 0.02 * draws.normal()]);
  expect(pairedBootstrap(rows, noisy, mean)!.p).toBeGreaterThan(0.05);
  expect(bootstrapInterval(rows.slice(0, 1), mean)).toBeUndefined();
  expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
});

test("what samples that are all alike can't show is no interval of width zero", () => {
  const rows = (row: readonly number[], n = 20) => Array.from({ length: n }, () => row);
  const agreement = metricOf("agreement");
  expect(scoreOf(agreement, rows([1, 1])).interval).toEqual(wilson(20, 20));
  // many places a sample depend on each other
  expect(scoreOf(agreement, rows([4, 4])).interval).toBeUndefined();
  expect(scoreOf(agreement, [...rows([4, 4]), [2, 4]]).interval![1]).toBe(1);
  const f1 = metricOf("f1");
  const alike = [...rows([0, 0]), ...rows([1, 1]), [0, 1]];
  expect(changeOf(f1, alike, alike)).toMatchObject({ difference: 0, p: 1, test: "bootstrap" });
  expect(changeOf(f1, alike, alike).interval).toBeUndefined();
  expect(scoreOf(f1, alike).interval).toBeDefined();
});
