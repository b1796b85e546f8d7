import { expect, test } from "vitest";
import { float32, int64, type Tensor } from "../tensor/tensor.ts";
import {
  averagePrecision,
  boxMatch,
  defaultMetrics,
  iou,
  type Judged,
  metricOf,
  suppress,
  userMetric,
} from "./index.ts";

function score(
  name: string,
  output: Tensor,
  rest: Omit<Judged, "outputs" | "size"> = {},
  size = output.shape[0]!,
): number {
  const metric = metricOf(name);
  return metric.value(metric.rows({ outputs: { y: output }, size, ...rest }));
}

const logits = float32([4, 3], [3, 2, 1, 0, 5, 4, 1, 1, 0, 2, 9, Number.NaN]);
const labels = int64([0, 2, 1, 1]);

test("top-k: ties go to the first class, a row that is not a number is wrong", () => {
  expect(score("top-1", logits, { labels })).toBe(0.25);
  expect(score("top-5", float32([1, 6], [6, 5, 4, 3, 2, 1]), { labels: int64([4]) })).toBe(1);
  expect(score("top-5", float32([1, 6], [6, 5, 4, 3, 2, 1]), { labels: int64([5]) })).toBe(0);
  expect(score("top-1", float32([2, 3, 1, 1], [1, 2, 3, 3, 2, 1]), { labels: int64([2, 0]) })).toBe(1);
  expect(() => score("top-1", logits, { labels: int64([0, 2, 1, 3]) })).toThrow("label 3 for 3 classes");
  expect(() => score("top-1", logits)).toThrow("no labels");
  const twice = float32([2, 2, 5], new Float32Array(20));
  expect(() => score("top-1", twice, { labels: int64([0, 1]) })).toThrow("can't pair outputs of shape [2, 2, 5]");
  expect(score("top-1", float32([3], [0.2, 0.8, 0.6]), { labels: int64([0, 1, 0]) })).toBeCloseTo(2 / 3);
});

test("cross-entropy takes logits and probabilities for what they are", () => {
  const one = int64([1]);
  const expected = Math.log(Math.exp(0) + Math.exp(1) + Math.exp(2)) - 1;
  expect(score("cross-entropy", float32([1, 3], [0, 1, 2]), { labels: one })).toBeCloseTo(expected, 6);
  expect(score("cross-entropy", float32([1, 3], [0.2, 0.5, 0.3]), { labels: one })).toBeCloseTo(-Math.log(0.5), 6);
  const logitsThatSumToOne = { labels: one, probabilities: false };
  const p = Math.exp(0.5) / (Math.exp(0.2) + Math.exp(0.5) + Math.exp(0.3));
  expect(score("cross-entropy", float32([1, 3], [0.2, 0.5, 0.3]), logitsThatSumToOne)).toBeCloseTo(-Math.log(p), 6);
  // quantized probabilities do not sum to 1 any more
  const rounded = { labels: one, probabilities: true };
  expect(score("cross-entropy", float32([1, 3], [0.1, 0.5, 0.2]), rounded)).toBeCloseTo(-Math.log(0.5 / 0.8), 6);
  expect(score("cross-entropy", float32([1, 2], [0, 1]), { labels: int64([0]) })).toBeCloseTo(-Math.log(1e-12), 6);
  expect(score("cross-entropy", float32([1, 2], [900, -900]), { labels: one })).toBeCloseTo(-Math.log(1e-12), 6);
  expect(score("cross-entropy", float32([1, 1], [2]), { labels: one })).toBeCloseTo(Math.log(1 + Math.exp(-2)), 6);
});

test("F1: macro over occurring classes, micro, binary", () => {
  // predictions 0 0 1 2 for labels 0 1 1 1: class 0 2/3, class 1 2/4, class 2 0
  const y = float32([4, 3], [9, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9]);
  const given = { labels: int64([0, 1, 1, 1]) };
  expect(score("f1", y, given)).toBeCloseTo((2 / 3 + 0.5 + 0) / 3, 12);
  expect(score("f1-micro", y, given)).toBe(0.5);
  expect(score("f1-binary", y, given)).toBe(0.5);
});

test("perplexity and token accuracy: classes innermost", () => {
  const y = float32([1, 2, 4], [0, 0, 0, 0, 9, 0, 0, 0]);
  const given = { labels: int64([3, 0], [1, 2]) };
  const second = Math.log(1 + 3 * Math.exp(-9));
  expect(score("perplexity", y, given)).toBeCloseTo(Math.exp((Math.log(4) + second) / 2), 6);
  expect(score("token-accuracy", y, given)).toBe(0.5);
});

test("mean IoU: counted over all samples, 255 ignored", () => {
  // predictions 0 1 / 1 0 for labels 0 1 / 0 255
  const y = float32([2, 2, 1, 2], [9, 0, 0, 9, 0, 9, 9, 0]);
  const given = { labels: int64([0, 1, 0, 255], [2, 1, 2]) };
  expect(score("miou", y, given)).toBeCloseTo((1 / 2 + 1 / 2) / 2, 12);
});

test("regression errors", () => {
  const y = float32([4, 1], [1, 2, 3, 5]);
  const given = { labels: float32([4, 1], [1, 2, 3, 3]) };
  expect(score("mse", y, given)).toBe(1);
  expect(score("rmse", y, given)).toBe(1);
  expect(score("mae", y, given)).toBe(0.5);
  expect(score("r2", y, given)).toBeCloseTo(1 - 4 / 2.75, 12);
});

test("against a reference: SQNR, cosine, agreement, PSNR", () => {
  const r = float32([2, 2], [3, 4, 0, 2]);
  const y = float32([2, 2], [3, 4, 0, 1]);
  const given = { reference: { y: r } };
  expect(score("sqnr", y, given)).toBeCloseTo(10 * Math.log10(29), 9);
  expect(score("sqnr", r, given)).toBe(200);
  expect(score("sqnr", float32([2, 2], [Number.NaN, 0, 0, 0]), given)).toBe(-200);
  expect(score("cosine", float32([2, 2], [-4, 3, 0, 9]), given)).toBeCloseTo(0.5, 12);
  expect(score("agreement", float32([2, 2], [5, 4, 0, 1]), given)).toBe(0.5);
  expect(score("agreement", float32([2, 1], [0.4, 0.9]), { reference: { y: float32([2, 1], [0.6, 0.8]) } })).toBe(0.5);
  const half = float32([1, 1, 1, 2], [0.5, 0.5]);
  expect(score("psnr", half, { reference: { y: float32([1, 1, 1, 2], [0.4, 0.6]) } })).toBeCloseTo(20, 5);
  expect(() => score("sqnr", y)).toThrow("no reference");
});

const box = (x: number, y: number, size = 10): [number, number, number, number] => [x, y, x + size, y + size];
/** Rows x1 y1 x2 y2 score class. */
const detections = (rows: (readonly [readonly number[], number, number])[]): Tensor =>
  float32(
    [1, rows.length, 6],
    rows.flatMap(([at, confidence, label]) => [...at, confidence, label]),
  );

test("mAP: 101 recalls, ten thresholds, the mean over classes", () => {
  const truth = [
    [
      { box: box(0, 0), label: 0 },
      { box: box(50, 50), label: 0 },
      { box: box(0, 50), label: 1 },
    ],
  ];
  // class 0: a hit, a miss, a hit at IoU 2/3 (thresholds 0.5 to 0.65); class 1: not found
  const y = detections([
    [box(0, 0), 0.9, 0],
    [box(100, 100), 0.8, 0],
    [[50, 52, 60, 62], 0.7, 0],
    [box(0, 50), 0.5, 2],
  ]);
  // recall 0.5 at precision 1 takes 51 of 101 recalls; the rest at 2/3 where the third one hits
  const both = (51 + 50 * (2 / 3)) / 101;
  const one = 51 / 101;
  expect(iou(box(50, 50), [50, 52, 60, 62])).toBeCloseTo(2 / 3, 12);
  expect(score("map", y, { truth })).toBeCloseTo((4 * both + 6 * one) / 10 / 2, 12);
  expect(score("map50", y, { truth })).toBeCloseTo(both / 2, 12);
});

test("mAP: a crowd swallows detections, a box is found once, 100 detections count", () => {
  const crowd = [
    [
      { box: box(0, 0), label: 0 },
      { box: [20, 0, 80, 60] as const, label: 0, crowd: true },
    ],
  ];
  const inCrowd = detections([
    [box(30, 10), 0.9, 0],
    [box(40, 10), 0.8, 0],
    [box(0, 0), 0.7, 0],
  ]);
  expect(score("map", inCrowd, { truth: crowd })).toBeCloseTo(1, 12);
  const twice = detections([
    [box(0, 0), 0.9, 0],
    [box(0, 0), 0.8, 0],
  ]);
  expect(
    score("map", twice, {
      truth: [
        [
          { box: box(0, 0), label: 0 },
          { box: box(90, 90), label: 0 },
        ],
      ],
    }),
  ).toBeCloseTo(51 / 101, 12);
  const many = detections(
    Array.from({ length: 101 }, (_, i) => [i < 100 ? box(200 + 20 * i, 0) : box(0, 0), 1 - i / 200, 0] as const),
  );
  expect(score("map", many, { truth: [[{ box: box(0, 0), label: 0 }]] })).toBe(0);
});

test("boxes of two models: pairs by IoU, of one class, unpaired ones count against", () => {
  const metric = boxMatch();
  const value = (a: Tensor, b: Tensor): number =>
    metric.value(metric.rows({ outputs: { y: a }, reference: { y: b }, size: 1 }));
  const a = detections([
    [box(0, 0), 0.9, 0],
    [box(50, 50), 0.8, 1],
  ]);
  expect(value(a, a)).toBe(1);
  expect(value(a, detections([[[0, 5, 10, 15], 0.9, 0]]))).toBeCloseTo(1 / 3 / 2, 12);
  expect(value(a, detections([[box(0, 0), 0.9, 1]]))).toBe(0);
  expect(
    suppress(
      [
        { box: box(0, 0), score: 0.5, label: 0 },
        { box: box(1, 0), score: 0.9, label: 0 },
      ],
      0.5,
    ),
  ).toHaveLength(1);
  expect(averagePrecision(undefined, 0.75).name).toBe("map75");
});

test("a user's function, and metrics that suit a model", () => {
  const metric = userMetric(
    Object.assign(({ size }: Judged) => Array(size).fill(3), { better: "lower" }),
    "my/metric.ts",
  );
  expect([metric.name, metric.better, metric.value(metric.rows({ outputs: {}, size: 2 }))]).toEqual([
    "metric",
    "lower",
    3,
  ]);
  expect(() => userMetric(() => [1], "m").rows({ outputs: {}, size: 2 })).toThrow("for 2 samples");
  expect(() => userMetric(7, "m")).toThrow("no default export");
  expect(() => metricOf("top1")).toThrow("Did you mean 'top-1'");
  const classes = (count: number) => [
    { name: "y", type: { kind: "tensor" as const, dtype: "float32" as const, shape: ["N", count] } },
  ];
  const names = (count: number, given?: Tensor): string[] =>
    defaultMetrics(classes(count), given).map(({ name }) => name);
  expect(names(1000, labels)).toEqual(["top-1", "top-5", "cross-entropy"]);
  expect(names(10, labels)).toEqual(["top-1", "cross-entropy"]);
  expect(names(1, float32([4, 1], [1, 2, 3, 4]))).toEqual(["rmse", "mae", "r2"]);
  expect(names(10)).toEqual(["agreement", "sqnr", "cosine"]);
});
