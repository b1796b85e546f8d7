import { expect, test } from "vitest";
import { datasetOf, type Samples } from "../data/samples.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { float32, int64, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { type FinetuneContext, type FinetuneOptions, finetune } from "./finetune.ts";
import { finetuneDefaults } from "./finetune-defaults.ts";

const onnx = await runtime({ threads: 1 });

/** Points in the plane; the class is whether they lie in the unit disc. */
function points(count: number, seed: number): Samples {
  const r = random(seed);
  const x = Float32Array.from({ length: 2 * count }, () => 3 * r.next() - 1.5);
  return {
    count,
    read: async (indices) => ({
      inputs: {
        x: float32([indices.length, 2], Float32Array.from(indices.flatMap((i) => [x[2 * i]!, x[2 * i + 1]!]))),
      },
      labels: int64(indices.map((i) => (Math.hypot(x[2 * i]!, x[2 * i + 1]!) < 1 ? 1 : 0))),
      size: indices.length,
    }),
  };
}

const data = datasetOf("discs", new Map([["train", points(1000, 1)]]));

/** A network of one hidden layer that has learned nothing. */
function network(): Graph {
  const r = random(4);
  const draw = (shape: readonly [number, number]): Tensor =>
    float32(
      shape,
      Float32Array.from({ length: shape[0] * shape[1] }, () => r.normal() / Math.sqrt(shape[0])),
    );
  return makeGraph({
    nodes: [
      makeNode("Gemm", ["x", "w1", "b1"], ["h"], {}, "hidden"),
      makeNode("Relu", ["h"], ["a"]),
      makeNode("Gemm", ["a", "w2", "b2"], ["y"], {}, "head"),
    ],
    weights: new Map([
      ["w1", draw([2, 24])],
      ["b1", float32([24], new Float32Array(24))],
      ["w2", draw([24, 2])],
      ["b2", float32([2], [0, 0])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
    outputs: [{ name: "y" }],
  });
}

const tuned = (graph: Graph, options: FinetuneOptions, more: Partial<FinetuneContext> = {}) =>
  finetune(graph, { batch: 32, ...options }, { runtime: onnx, data, ...more });

test("without a validation split, a part of the training samples chooses the epoch", async () => {
  const messages: string[] = [];
  const result = await tuned(network(), { optimizer: "adam", rate: 0.02, epochs: 6 }, { log: (m) => messages.push(m) });
  expect(result.best.score).toBe(Math.max(...result.records.map(({ score }) => score!)));
  expect(result.best.score).toBeGreaterThan(0.9);
  expect(messages.join("\n")).toMatch(/top-1 before: 0\.\d+/);
  // 900 of the 1000 samples are left to learn from
  expect(result.records[0]!.step).toBe(28);
});

test("a model that no epoch betters comes back as it was", async () => {
  const trained = await tuned(network(), { optimizer: "adam", rate: 0.02, epochs: 8 });
  const worse = await tuned(trained.model, { optimizer: "sgd", rate: 3, epochs: 1, clipNorm: 1 });
  expect(worse.records[0]!.score).toBeLessThan(worse.best.score!);
  expect(worse.best.epoch).toBe(0);
  for (const [name, weight] of trained.model.weights)
    expect(worse.model.weights.get(name)!.bytes(), name).toEqual(weight.bytes());
});

test("an epoch that is better by no more than chance does not replace the model as it was", async () => {
  const trained = await tuned(network(), { optimizer: "adam", rate: 0.02, epochs: 8 });
  // steps so small that at most a sample or two change sides
  const same = await tuned(trained.model, { optimizer: "sgd", rate: 1e-3, epochs: 3 });
  expect(same.best.epoch).toBe(0);
});

test("an untrained model is not a candidate, and nothing is held out on request", async () => {
  const once = { epochs: 1, rate: 1e-9 };
  expect((await tuned(network(), once, { untrained: true })).best.epoch).toBe(1);
  const all = await tuned(network(), { ...once, holdOut: 0 });
  expect([all.records[0]!.step, all.best.score]).toEqual([31, undefined]);
});

test("frozen weights stay, and patterns of factors reach the step", async () => {
  const before = network();
  const { model } = await tuned(before, { epochs: 1, freeze: ["hidden"], rateFactors: { b2: 0 }, holdOut: 0 });
  const changed = [...before.weights].filter(
    ([name, w]) => !toFloat32(w).every((value, i) => value === toFloat32(model.weights.get(name)!)[i]),
  );
  expect(changed.map(([name]) => name)).toEqual(["w2"]);
  await expect(tuned(before, { epochs: 1, freeze: ["hiden"] })).rejects.toThrow(
    /nothing fits --freeze 'hiden'.*hidden/,
  );
});

test("zeros of a pruned model stay, unless they may learn", async () => {
  const dense = network();
  const w1 = dense.weights.get("w1")!;
  const zeros = (graph: Graph): number => toFloat32(graph.weights.get("w1")!).filter((v) => v === 0).length;
  const halved = toFloat32(w1).map((v, i) => (i % 2 === 0 ? v : 0));
  const pruned = { ...dense, weights: new Map(dense.weights).set("w1", float32(w1.shape, halved)) };
  const messages: string[] = [];
  const options: FinetuneOptions = { optimizer: "adam", rate: 0.02, epochs: 1, holdOut: 0, average: 0.5 };
  const kept = await tuned(pruned, options, { log: (m) => messages.push(m) });
  expect(zeros(kept.model)).toBe(24);
  expect(messages).toContain("zeros stay zero: 50.0 % of 1 weights with 48 elements");
  expect(zeros((await tuned(pruned, { ...options, keepZeros: "never" })).model)).toBeLessThan(5);
  // a few zeros are chance
  const few = {
    ...dense,
    weights: new Map(dense.weights).set("w1", float32(w1.shape, [0, ...toFloat32(w1).slice(1)])),
  };
  expect(zeros((await tuned(few, options)).model)).toBe(0);
  expect(zeros((await tuned(few, { ...options, keepZeros: "always" })).model)).toBe(1);
});

test("batch normalization is put back and trained", async () => {
  const messages: string[] = [];
  const { model, best } = await tuned(
    network(),
    { optimizer: "adam", rate: 0.02, epochs: 6, unfoldBatchNorm: true },
    { log: (m) => messages.push(m) },
  );
  expect(messages[0]).toBe("batch normalization put back: 1");
  expect(model.nodes.map(({ op }) => op)).toEqual(["Gemm", "BatchNormalization", "Relu", "Gemm"]);
  expect(best.score).toBeGreaterThan(0.9);
});

test("a model of a fixed batch is trained, judged and normalized in batches of that size", async () => {
  const input = { name: "x", type: { kind: "tensor", dtype: "float32", shape: [24, 2] } } as const;
  const options = { optimizer: "adam", rate: 0.02, epochs: 6, batch: 24 } as const;
  const { best, model } = await tuned({ ...network(), inputs: [input] }, options);
  expect(best.score).toBeGreaterThan(0.9);
  expect(model.inputs).toEqual([input]);
  const { model: normalized } = await tuned(
    { ...network(), inputs: [input] },
    { ...options, epochs: 1, unfoldBatchNorm: true },
  );
  expect(normalized.nodes.map(({ op }) => op)).toContain("BatchNormalization");
});

test("defaults by kind of network", () => {
  const graph = (...ops: string[]): Graph =>
    makeGraph({ nodes: ops.map((op, i) => makeNode(op, [`x${i}`], [`x${i + 1}`])), inputs: [], outputs: [] });
  expect(finetuneDefaults(graph("Conv", "BatchNormalization", "Gemm", "Conv"), true)).toMatchObject({
    optimizer: "sgd",
    rate: 0.002,
  });
  const folded = graph("Conv", "Relu", "Conv", "Gemm");
  expect(finetuneDefaults(folded, true, { optimizer: "sgd" })).toMatchObject({ optimizer: "sgd", rate: 5e-4 });
  const others = [["MatMul"], ["Conv", "BatchNormalization", "Conv", "LayerNormalization"], ["Conv", "GRU"]];
  for (const made of [folded, ...others.map((ops) => graph(...ops))])
    expect(finetuneDefaults(made, true)).toMatchObject({ optimizer: "adamw", decay: 0.01 });
  // statistics that do not follow the weights do not take up their scale
  expect(finetuneDefaults(graph("Conv", "BatchNormalization"), false)).toMatchObject({ optimizer: "adamw" });
});

test("changes of images are refused where no input holds images", async () => {
  await expect(tuned(network(), { randomFlip: true })).rejects.toThrow("no input holds images for 'randomFlip'");
  await expect(tuned(network(), { mixup: 0.2 })).rejects.toThrow("no input holds images for 'mixup'");
});
