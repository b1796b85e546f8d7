import { expect, test } from "vitest";
import type { Batch } from "../data/dataset.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, int64, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { objectiveFor, objectiveOptions } from "./objective.ts";
import { optimizerOptions } from "./optimizers.ts";
import { trainingStep } from "./step.ts";

const onnx = await runtime({ threads: 1 });
const optimizer = optimizerOptions.parse({ rate: 0.1 });

/** y = x w, of [n, 2]. */
function network(): Graph {
  return makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    weights: new Map([["w", float32([2, 2], [1, 2, 3, 4])]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
    outputs: [{ name: "y" }],
  });
}

/** Squared errors in a space of the loss's own: ((prediction - labels) m)². */
function lossGraph(prediction: string): Graph {
  const value = (name: string) => ({ name, type: { kind: "tensor", dtype: "float32" } }) as const;
  return makeGraph({
    nodes: [
      makeNode("Sub", [prediction, "labels"], ["e"]),
      makeNode("MatMul", ["e", "w"], ["f"]),
      makeNode("Mul", ["f", "f"], ["y2"]),
    ],
    weights: new Map([["w", float32([2, 1], [1, -1])]]),
    inputs: [value(prediction), value("labels")],
    outputs: [{ name: "y2" }],
  });
}

const x = float32([2, 2], [1, 0, 0, 1]);
const labels = float32([2, 2], [0, 0, 1, 1]);
const batch: Batch = { inputs: { x }, labels, size: 2 };

async function lossOf(objective: Awaited<ReturnType<typeof objectiveFor>>, given: Batch) {
  const feeds = objective.feeds(given);
  const step = await trainingStep(objective.model, onnx, feeds, {
    objective: objective.objective,
    optimizer,
    extraInputs: objective.extraInputs,
    trains: objective.own,
  });
  const session = await onnx.open(step.graph);
  const results = await session.run({ ...feeds, ...step.hyper(0, 0.1), ...Object.fromEntries(step.state) });
  await session.release();
  return { loss: toFloat32(results[step.loss]!)[0]!, parameters: step.parameters.map(({ name }) => name) };
}

test.each(["y", "whatever"])("a loss that is a graph of the user's, its input named '%s'", async (name) => {
  const objective = await objectiveFor(network(), onnx, batch, objectiveOptions.parse({}), { loss: lossGraph(name) });
  const { loss, parameters } = await lossOf(objective, batch);
  // y = [[1, 2], [3, 4]], errors [1, 2] and [2, 3]: both differ by -1
  expect(loss).toBeCloseTo(1, 6);
  expect(parameters).toEqual(["w"]);
  expect(objective.summary).toBe("a graph");
});

test("a graph of a loss beside a teacher", async () => {
  const options = objectiveOptions.parse({ teacherWeight: 0.25, temperature: 1 });
  const objective = await objectiveFor(network(), onnx, batch, options, { loss: lossGraph("y"), teacher: network() });
  const { loss } = await lossOf(objective, batch);
  expect(loss).toBeCloseTo(0.75, 6);
});

test("a graph of a loss that takes what is not there is an error", async () => {
  const two = makeGraph({
    nodes: [makeNode("Sub", ["a", "b"], ["e"])],
    inputs: [{ name: "a" }, { name: "b" }],
    outputs: [{ name: "e" }],
  });
  const plain = objectiveOptions.parse({});
  await expect(objectiveFor(network(), onnx, batch, plain, { loss: two })).rejects.toThrow(/takes 'a', 'b'/);
  const unlabelled = { inputs: { x }, size: 2 };
  await expect(objectiveFor(network(), onnx, unlabelled, plain, { loss: lossGraph("y") })).rejects.toThrow(
    /takes labels, and the data has none/,
  );
});

test("sequences of labels meet longer sequences of outputs by CTC", async () => {
  const model = makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    weights: new Map([["w", float32([2, 3], [1, 0, 0, 0, 1, 0])]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 4, 2] } }],
    outputs: [{ name: "y" }],
  });
  const zero: Tensor = float32([1, 4, 2], new Float32Array(8));
  const given: Batch = { inputs: { x: zero }, labels: int64([1, 2], [1, 2]), size: 1 };
  const objective = await objectiveFor(model, onnx, given, objectiveOptions.parse({ loss: "ctc" }));
  const { loss } = await lossOf(objective, given);
  // 15 of the 81 equally likely paths spell "1 2"
  expect(loss).toBeCloseTo(-Math.log(15 / 81) / 2, 5);
});

test.each([
  ["z", undefined],
  ["y", "binary-cross-entropy"],
] as const)(
  "integers for a single score train by binary cross-entropy over logits, also of a sigmoid: '%s'",
  async (output, loss) => {
    const model = makeGraph({
      nodes: [makeNode("MatMul", ["x", "w"], ["z"]), makeNode("Sigmoid", ["z"], ["y"])],
      weights: new Map([["w", float32([2, 1], [1, 2])]]),
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
      outputs: [{ name: output }],
    });
    const given: Batch = { inputs: { x }, labels: int64([0, 1]), size: 2 };
    const objective = await objectiveFor(model, onnx, given, objectiveOptions.parse({ loss }));
    expect(objective.summary).toBe("binary-cross-entropy");
    // logits 1 and 2, truths 0 and 1: -log(1 - σ(1)) and -log σ(2)
    expect((await lossOf(objective, given)).loss).toBeCloseTo((Math.log1p(Math.E) + Math.log1p(Math.exp(-2))) / 2, 6);
    expect(() => objective.feeds({ ...given, labels: int64([0, 2]) })).toThrow("label 2");
    const over = objectiveFor(model, onnx, given, objectiveOptions.parse({ loss: "cross-entropy" }));
    await expect(over).rejects.toThrow("single class");
  },
);

/** Two outputs of one input: x w of [n, 2], and its sums as [n, 1, 1, 2]. */
function twoOutputs(scale: number): Graph {
  return makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["boxes"]), makeNode("Reshape", ["boxes", "shape"], ["map"])],
    weights: new Map([
      ["w", float32([2, 2], [scale, 0, 0, 2 * scale])],
      ["shape", int64([-1, 1, 1, 2])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } }],
    outputs: [{ name: "boxes" }, { name: "map" }],
  });
}

test("without labels, several outputs learn from the teacher's, each as a share of its squares", async () => {
  const unlabelled: Batch = { inputs: { x }, size: 2 };
  const objective = await objectiveFor(twoOutputs(3), onnx, unlabelled, objectiveOptions.parse({}), {
    teacher: twoOutputs(2),
  });
  expect(objective.summary).toBe("the teacher's outputs, squared error");
  // every value is half as large again as the teacher's
  expect((await lossOf(objective, unlabelled)).loss).toBeCloseTo(0.25, 6);
});

test("quantities learn from the teacher by squared error, classes by soft targets", async () => {
  const summary = async (given: Batch, options = {}) => {
    const parsed = objectiveOptions.parse(options);
    return (await objectiveFor(network(), onnx, given, parsed, { teacher: network() })).summary;
  };
  expect(await summary(batch)).toBe("0.10 mse + 0.90 the teacher's outputs, squared error");
  const classes = { ...batch, labels: int64([0, 1]) };
  expect(await summary(classes)).toBe("0.10 cross-entropy + 0.90 the teacher's soft targets at temperature 4");
  expect(await summary(classes, { teacherLoss: "mse" })).toMatch(/squared error/);
  expect(await summary({ inputs: { x }, size: 2 })).toBe("the teacher's soft targets at temperature 4");
});

test.each([
  [-1, /label -1 for 2 classes.*--ignore=-1/],
  [2, /label 2 for 2 classes/],
])("a label that is no class is an error, unless it is ignored: %i", async (label, message) => {
  const given: Batch = { inputs: { x }, labels: int64([0, label]), size: 2 };
  const strict = await objectiveFor(network(), onnx, given, objectiveOptions.parse({}));
  expect(() => strict.feeds(given)).toThrow(message);
  const lenient = await objectiveFor(network(), onnx, given, objectiveOptions.parse({ ignore: label }));
  // logits 1 and 2 of the first sample alone
  expect((await lossOf(lenient, given)).loss).toBeCloseTo(Math.log1p(Math.E), 6);
});

test.each(["float64", "float16"] as const)("quantities as %s train like float32", async (dtype) => {
  const values = [0, 0, 1, 1];
  const data = dtype === "float64" ? Float64Array.from(values) : floatToHalf(Float32Array.from(values), dtype);
  const given: Batch = { ...batch, labels: tensor(dtype, [2, 2], data) };
  const objective = await objectiveFor(network(), onnx, given, objectiveOptions.parse({}));
  // errors 1, 2, 2 and 3
  expect((await lossOf(objective, given)).loss).toBeCloseTo(18 / 4, 6);
});

test.each([
  ["int32", Int32Array.from([0, 1])],
  ["uint8", Uint8Array.from([0, 1])],
] as const)("classes as %s train like int64", async (dtype, data) => {
  const given: Batch = { ...batch, labels: tensor(dtype, [2], data) };
  const objective = await objectiveFor(network(), onnx, given, objectiveOptions.parse({ ignore: -100 }));
  // logits 1, 2 of class 0 and 3, 4 of class 1
  expect((await lossOf(objective, given)).loss).toBeCloseTo((Math.log1p(Math.E) + Math.log1p(Math.exp(-1))) / 2, 6);
});

test.each([
  [[1, 3, 8, 8], { input: "x", channelsLast: false }],
  [[1, 8, 8, 3], { input: "x", channelsLast: true }],
  [[1, 4, 8, 8], { input: "x", channelsLast: false }],
  [[1, 8, 8, 4], { input: "x", channelsLast: true }],
  [[1, 4, 8, 3], { input: "x", channelsLast: true }],
  [[1, 8, 8, 8], undefined],
  [[1, 8, 3], undefined],
])("images are inputs of 1, 3 or 4 channels: %j", async (shape, images) => {
  const model = makeGraph({
    nodes: [makeNode("Mul", ["x", "w"], ["y"])],
    weights: new Map([["w", float32([1], [2])]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape } }],
    outputs: [{ name: "y" }],
  });
  const pixels = float32(shape, new Float32Array(shape.reduce((a, b) => a * b)));
  const given: Batch = { inputs: { x: pixels }, labels: pixels, size: 1 };
  expect((await objectiveFor(model, onnx, given, objectiveOptions.parse({}))).images).toEqual(images);
});

test("outputs of a teacher in another order are found by name", async () => {
  const unlabelled: Batch = { inputs: { x }, size: 2 };
  const teacher = twoOutputs(2);
  const objective = await objectiveFor(twoOutputs(3), onnx, unlabelled, objectiveOptions.parse({}), {
    teacher: { ...teacher, outputs: teacher.outputs.toReversed() },
  });
  expect((await lossOf(objective, unlabelled)).loss).toBeCloseTo(0.25, 6);
});
