import { expect, test } from "vitest";
import { gradient } from "../autodiff/gradient.ts";
import { float, type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, int64, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { losses, lossOptions } from "./losses.ts";
import { optimizerOptions } from "./optimizers.ts";
import { type StepOptions, type TrainingStep, trainingStep } from "./step.ts";

const onnx = await runtime({ threads: 1 });
const r = random(31);
const draw = (shape: readonly number[], scale = 1): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal() * scale),
  );

const objective: StepOptions["objective"] = (a, model) => {
  const z = model.logits("y");
  const parts = { prediction: z, shape: model.type(z).shape, classAxis: 1, target: "labels", soft: false };
  return { loss: losses["cross-entropy"](a, parts, lossOptions.parse({})) };
};

const plain = optimizerOptions.parse({ rate: 0.1, momentum: 0, nesterov: false, decay: 0 });

function network(): Graph {
  return makeGraph({
    nodes: [
      makeNode("Conv", ["x", "w1"], ["c"], { pads: [1, 1, 1, 1] }),
      makeNode("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"], { epsilon: float(1e-5) }, "norm"),
      makeNode("Relu", ["n"], ["a"]),
      makeNode("GlobalAveragePool", ["a"], ["p"]),
      makeNode("Flatten", ["p"], ["f"]),
      makeNode("Gemm", ["f", "w2", "b2"], ["z"], { transB: 1 }, "head"),
      makeNode("Softmax", ["z"], ["y"], { axis: 1 }),
    ],
    weights: new Map([
      ["w1", draw([4, 2, 3, 3], 0.3)],
      ["gamma", float32([4], [1, 0.8, 1.2, 0.9])],
      ["beta", float32([4], [0.1, -0.1, 0, 0.2])],
      ["mean", float32([4], [0.1, 0, -0.1, 0])],
      ["var", float32([4], [1, 1.5, 1, 0.5])],
      ["w2", draw([3, 4], 0.5)],
      ["b2", float32([3], [0, 0.1, -0.1])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2, 5, 5] } }],
    outputs: [{ name: "y" }],
  });
}

const feeds = (n: number) => ({ x: draw([n, 2, 5, 5]), labels: int64(Array.from({ length: n }, (_, i) => i % 3)) });
const labels = ["labels"];

/** Runs steps over the batches; gives the losses and the last state. */
async function run(step: TrainingStep, batches: readonly Record<string, Tensor>[], rate: number) {
  const session = await onnx.open(step.graph);
  let state: Record<string, Tensor> = Object.fromEntries(step.state);
  const found: number[] = [];
  for (const [i, batch] of batches.entries()) {
    const results = await session.run({ ...batch, ...step.hyper(i, rate), ...state });
    found.push(toFloat32(results[step.loss]!)[0]!);
    state = Object.fromEntries([...step.next].map(([name, output]) => [name, results[output]!]));
  }
  await session.release();
  return { losses: found, state };
}

const difference = (a: Tensor, b: ArrayLike<number>): number =>
  Math.max(...toFloat32(a).map((value, i) => Math.abs(value - b[i]!)));

test("one step of SGD moves every parameter against its gradient, through batch statistics", async () => {
  const batch = feeds(4);
  const model = network();
  const step = await trainingStep(model, onnx, batch, { objective, optimizer: plain, extraInputs: labels });
  expect(step.parameters.map(({ name, decays }) => [name, decays])).toEqual([
    ["w1", true],
    ["gamma", false],
    ["beta", false],
    ["w2", true],
    ["b2", false],
  ]);
  const { state } = await run(step, [batch], 0.1);

  // the same gradients by the runtime's training operator and its own rule
  const nodes = model.nodes.map((node) =>
    node.op === "BatchNormalization"
      ? makeNode("BatchNormalization", node.inputs, ["n", "m2", "v2"], { training_mode: 1, epsilon: float(1e-5) })
      : node,
  );
  const log = makeNode("LogSoftmax", ["z"], ["l"], { axis: 1 });
  const hot = Float32Array.from({ length: 12 }, (_, i) => (i % 3 === Math.floor(i / 3) % 3 ? -0.25 : 0));
  const reference = makeGraph({
    ...model,
    nodes: [
      ...nodes,
      log,
      makeNode("Mul", ["l", "hot"], ["h"]),
      makeNode("ReduceSum", ["h"], ["loss"], { keepdims: 0 }),
    ],
    weights: new Map([...model.weights, ["hot", float32([4, 3], hot)]]),
    outputs: [{ name: "loss" }],
  });
  const names = step.parameters.map(({ name }) => name);
  const found = gradient(reference, "loss", names, await observeTypes(reference, onnx, { x: batch.x }));
  const session = await onnx.open({
    ...found.graph,
    outputs: names.map((name) => ({ name: found.gradients.get(name)! })),
  });
  const gradients = await session.run({ x: batch.x });
  await session.release();
  for (const name of names) {
    const before = toFloat32(model.weights.get(name)!);
    const slope = toFloat32(gradients[found.gradients.get(name)!]!);
    expect(
      difference(
        state[name]!,
        before.map((value, i) => value - 0.1 * slope[i]!),
      ),
      name,
    ).toBeLessThan(1e-5);
  }
});

test("running statistics follow the batch, and frozen ones stay", async () => {
  const batch = feeds(6);
  const step = await trainingStep(network(), onnx, batch, { objective, optimizer: plain, extraInputs: labels });
  const { state } = await run(step, [batch], 0);
  expect(toFloat32(state.mean!).some((v) => v !== 0)).toBe(true);
  const trained = await trainingStep(network(), onnx, batch, {
    objective,
    optimizer: plain,
    extraInputs: labels,
    trains: (node) => node.name === "head",
  });
  expect([...trained.state.keys()].filter((name) => !name.includes("/")).toSorted()).toEqual(["b2", "w2"]);
});

test("accumulating two half batches equals one whole batch", async () => {
  const whole = feeds(6);
  const half = (from: number) => ({
    x: tensor("float32", [3, 2, 5, 5], toFloat32(whole.x).slice(from * 50, (from + 3) * 50)),
    labels: int64([0, 1, 2]),
  });
  const common = { objective, optimizer: plain, extraInputs: labels, batchStatistics: false };
  const model = network();
  const once = await run(await trainingStep(model, onnx, whole, common), [whole], 0.1);
  const step = await trainingStep(model, onnx, half(0), { ...common, accumulate: 2, average: 0.75 });
  const twice = await run(step, [half(0), half(3)], 0.1);
  const thrice = await run(step, [half(0), half(3), half(0)], 0.1);
  const ended = await trainingStep(model, onnx, half(0), { ...common, accumulate: 8 });
  const early = { ...ended, hyper: (i: number, rate: number) => ended.hyper(i, rate, i === 1) };
  const last = await run(early, [half(0), half(3)], 0.1);
  for (const name of ["w1", "w2", "b2"]) {
    expect(difference(twice.state[name]!, toFloat32(once.state[name]!))).toBeLessThan(1e-6);
    expect(difference(last.state[name]!, toFloat32(once.state[name]!))).toBeLessThan(1e-6);
    // between updates neither weights nor their averages move
    for (const held of [name, step.weights.get(name)!]) {
      expect(difference(thrice.state[held]!, toFloat32(twice.state[held]!)), held).toBe(0);
    }
  }
});

test("gradients are clipped to a common norm, and weights averaged", async () => {
  const batch = feeds(3);
  const model = network();
  const step = await trainingStep(model, onnx, batch, {
    objective,
    optimizer: plain,
    extraInputs: labels,
    clipNorm: 1e-3,
    average: 0.75,
  });
  const { state } = await run(step, [batch], 1);
  const moved = step.parameters.map(({ name }) => {
    const before = toFloat32(model.weights.get(name)!);
    return toFloat32(state[name]!).reduce((sum, value, i) => sum + (value - before[i]!) ** 2, 0);
  });
  expect(Math.sqrt(moved.reduce((a, b) => a + b))).toBeCloseTo(1e-3, 5);
  const [before, after] = [toFloat32(model.weights.get("b2")!), toFloat32(state.b2!)];
  expect(
    difference(
      state[step.weights.get("b2")!]!,
      before.map((v, i) => 0.75 * v + 0.25 * after[i]!),
    ),
  ).toBeLessThan(1e-7);
});

test("weights learn at rates and decays of their own, or not at all", async () => {
  const batch = feeds(4);
  const model = network();
  const common = { objective, optimizer: { ...plain, decay: 0.1 }, extraInputs: labels };
  const usual = await run(await trainingStep(model, onnx, batch, common), [batch], 0.1);
  const settings = new Map([
    ["w1", { frozen: false, rateFactor: 0.5, decay: undefined }],
    ["w2", { frozen: false, rateFactor: 1, decay: 0 }],
    ["b2", { frozen: true, rateFactor: 1, decay: undefined }],
  ]);
  const step = await trainingStep(model, onnx, batch, { ...common, settings });
  const { state } = await run(step, [batch], 0.1);
  expect(step.parameters.map(({ name }) => name)).not.toContain("b2");
  const start = (name: string): Float32Array => toFloat32(model.weights.get(name)!);
  const moved = toFloat32(usual.state.w1!).map((value, i) => value - start("w1")[i]!);
  expect(
    difference(
      state.w1!,
      start("w1").map((value, i) => value + moved[i]! / 2),
    ),
  ).toBeLessThan(1e-6);
  // decay took rate * decay * weight more
  const undecayed = toFloat32(usual.state.w2!).map((value, i) => value + 0.1 * 0.1 * start("w2")[i]!);
  expect(difference(state.w2!, undecayed)).toBeLessThan(1e-6);
  expect(toFloat32(state.gamma!)).toEqual(toFloat32(usual.state.gamma!));
});

test.each(["sgd", "adam", "adamw"])("%s brings the loss down", async (optimizer) => {
  const batch = feeds(12);
  const rate = optimizer === "sgd" ? 0.1 : 0.02;
  const step = await trainingStep(network(), onnx, batch, {
    objective,
    optimizer: optimizerOptions.parse({ optimizer, rate }),
    extraInputs: labels,
  });
  const { losses: seen } = await run(step, new Array(60).fill(batch), rate);
  expect(seen.at(-1)).toBeLessThan(seen[0]! / 2);
});

test("nothing to train is an error", async () => {
  const batch = feeds(2);
  const none = trainingStep(network(), onnx, batch, {
    objective,
    optimizer: plain,
    extraInputs: labels,
    trains: () => false,
  });
  await expect(none).rejects.toThrow(/no weights that can learn/);
});

test("the state that an optimizer starts from takes no memory", async () => {
  const step = await trainingStep(network(), onnx, feeds(4), { objective, optimizer: plain, extraInputs: labels });
  const slots = [...step.state].filter(([name]) => name.includes("/"));
  expect(slots).toHaveLength(5);
  for (const [name, t] of slots) {
    expect(toFloat32(t), name).toEqual(new Float32Array(t.size));
    expect(t.bytes().buffer, name).not.toBe(t.bytes().buffer);
    expect([...t.bytes(4, 4, Uint8Array.of(1, 2, 3, 4))], name).toEqual([0, 0, 0, 0]);
  }
});
