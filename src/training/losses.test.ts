import { expect, test } from "vitest";
import { gradient } from "../autodiff/gradient.ts";
import { edit } from "../graph/edit.ts";
import { makeGraph } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { float32, int64, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { arithmetic } from "./emit.ts";
import { distillationLoss, type LossName, losses, lossOptions } from "./losses.ts";

const onnx = await runtime({ threads: 1 });
const logits = [2, -1, 0.5, 0.1, 0.2, 3];
const z = float32([2, 3], logits);

const rows = (values: readonly number[]): number[][] => [values.slice(0, 3), values.slice(3)];
const logSoftmax = (row: readonly number[]): number[] => {
  const total = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0));
  return row.map((v) => v - total);
};
const average = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

async function evaluated(
  target: Tensor,
  write: (draft: Parameters<Parameters<typeof edit>[1]>[0]) => string,
): Promise<number> {
  const empty = makeGraph({
    nodes: [],
    inputs: [
      { name: "z", type: { kind: "tensor", dtype: "float32", shape: [2, 3] } },
      { name: "t", type: { kind: "tensor", dtype: target.dtype, shape: target.shape } },
    ],
    outputs: [{ name: "loss" }],
  });
  const graph = edit(empty, (draft) => void draft.emit("Identity", [write(draft)], {}, ["loss"]));
  const session = await onnx.open(graph);
  const { loss } = await session.run({ z, t: target });
  await session.release();
  return toFloat32(loss!)[0]!;
}

const lossValue = (name: LossName, target: Tensor, options: object = {}): Promise<number> =>
  evaluated(target, (draft) =>
    losses[name](
      arithmetic(draft, "loss"),
      { prediction: "z", shape: [2, 3], classAxis: 1, target: "t", soft: target.dtype === "float32" },
      lossOptions.parse(options),
    ),
  );

const hard = int64([0, 1]);
const soft = [0.7, 0.2, 0.1, 0.1, 0.1, 0.8];
const truth = [logSoftmax(logits.slice(0, 3))[0]!, logSoftmax(logits.slice(3))[1]!];

test("cross-entropy, smoothed, soft, and with an ignored class", async () => {
  expect(await lossValue("cross-entropy", hard)).toBeCloseTo(-average(truth), 5);
  const uniform = average(rows(logits).map((row) => -average(logSoftmax(row))));
  expect(await lossValue("cross-entropy", hard, { smoothing: 0.3 })).toBeCloseTo(
    -0.7 * average(truth) + 0.3 * uniform,
    5,
  );
  const softly = average(
    rows(logits).map((row, i) => -logSoftmax(row).reduce((sum, v, k) => sum + v * soft[3 * i + k]!, 0)),
  );
  expect(await lossValue("cross-entropy", float32([2, 3], soft))).toBeCloseTo(softly, 5);
  // as mixup gives them
  expect(await lossValue("cross-entropy", float32([2, 3], soft), { smoothing: 0.3 })).toBeCloseTo(
    0.7 * softly + 0.3 * uniform,
    5,
  );
  expect(await lossValue("cross-entropy", hard, { ignore: 1 })).toBeCloseTo(-truth[0]!, 5);
});

test("binary cross-entropy over logits", async () => {
  const expected = average(logits.map((v, i) => Math.log(1 + Math.exp(v)) - v * soft[i]!));
  expect(await lossValue("binary-cross-entropy", float32([2, 3], soft))).toBeCloseTo(expected, 5);
});

test("the slope of the binary cross-entropy is sigmoid(z) - t, at zero too", async () => {
  const inputs = ["z", "t"].map((name) => ({
    name,
    type: { kind: "tensor" as const, dtype: "float32" as const, shape: [1, 3] },
  }));
  const graph = edit(makeGraph({ nodes: [], inputs, outputs: [] }), (draft) => {
    const parts = { prediction: "z", shape: [1, 3], classAxis: 1, target: "t", soft: true };
    draft.outputs = [{ name: losses["binary-cross-entropy"](arithmetic(draft, "loss"), parts, lossOptions.parse({})) }];
  });
  const feeds = { z: float32([1, 3], [0, 0, 100]), t: float32([1, 3], [0, 1, 1]) };
  const loss = graph.outputs[0]!.name;
  const { graph: backward, gradients } = gradient(graph, loss, ["z"], await observeTypes(graph, onnx, feeds));
  const dz = gradients.get("z")!;
  const session = await onnx.open({ ...backward, outputs: [{ name: dz }] });
  const slopes = toFloat32((await session.run(feeds))[dz]!);
  await session.release();
  for (const [i, slope] of [0.5, -0.5, 0].entries()) expect(3 * slopes[i]!).toBeCloseTo(slope, 5);
});

test("focal loss weighs by what is missing", async () => {
  const expected = -average(truth.map((v) => (1 - Math.exp(v)) ** 2 * v));
  expect(await lossValue("focal", hard)).toBeCloseTo(expected, 5);
  expect(await lossValue("focal", hard, { focusing: 0 })).toBeCloseTo(-average(truth), 5);
});

test("regression losses", async () => {
  const target = float32([2, 3], [1, 1, 1, 0, 0, 0]);
  const errors = logits.map((v, i) => v - (i < 3 ? 1 : 0));
  expect(await lossValue("mse", target)).toBeCloseTo(average(errors.map((e) => e * e)), 5);
  const huber = average(errors.map((e) => (Math.abs(e) <= 1 ? (e * e) / 2 : Math.abs(e) - 0.5)));
  expect(await lossValue("huber", target)).toBeCloseTo(huber, 5);
});

test("divergence from a distribution, and from a teacher", async () => {
  const divergence = (temperature: number, teacher: (row: number) => number[]): number =>
    average(
      rows(logits).map((row, i) => {
        const student = logSoftmax(row.map((v) => v / temperature));
        return teacher(i).reduce((sum, p, k) => sum + p * (Math.log(p) - student[k]!), 0);
      }),
    );
  expect(await lossValue("kl", float32([2, 3], soft))).toBeCloseTo(
    divergence(1, (i) => soft.slice(3 * i, 3 * i + 3)),
    5,
  );
  const teacherLogits = [1, 2, 3, -1, 0, 1];
  const distilled = await evaluated(float32([2, 3], teacherLogits), (draft) =>
    distillationLoss(arithmetic(draft, "kd"), "z", "t", 1, 4),
  );
  const softened = (i: number): number[] =>
    logSoftmax(teacherLogits.slice(3 * i, 3 * i + 3).map((v) => v / 4)).map(Math.exp);
  expect(distilled).toBeCloseTo(16 * divergence(4, softened), 4);
});
