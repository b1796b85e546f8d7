import { fail } from "../errors.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { type Judged, labelsOf, type Metric, mainOutput, perSample, type Row, ratioOf } from "./metric.ts";

/** One row a sample from the pairs (prediction, target) of its elements. */
function pairRows(
  judged: Judged,
  name: string,
  add: (row: number[], y: number, target: number) => void,
  width: number,
): Row[] {
  const labels = labelsOf(judged, name);
  const { output } = mainOutput(judged.outputs);
  const count = perSample(labels, judged.size, name);
  if (output.size !== labels.size) {
    fail(name, `${output.size} outputs for ${labels.size} targets`, "A regression metric needs one target an output");
  }
  const [ys, targets] = [toFloat32(output), toFloat32(labels)];
  return Array.from({ length: judged.size }, (_, i) => {
    const row = Array<number>(width).fill(0);
    for (let k = i * count; k < (i + 1) * count; k++) add(row, ys[k]!, targets[k]!);
    return row;
  });
}

const squares = (judged: Judged, name: string): Row[] =>
  pairRows(
    judged,
    name,
    (row, y, target) => {
      row[0]! += (y - target) ** 2;
      row[1]! += 1;
    },
    2,
  );

/** Mean of (y - target)². */
export const mse: Metric = {
  name: "mse",
  summary: "mean squared error",
  better: "lower",
  needs: "labels",
  rows: (judged) => squares(judged, "mse"),
  value: (rows) => ratioOf(rows, 0, 1),
};

/** Square root of the mean of (y - target)². */
export const rmse: Metric = {
  name: "rmse",
  summary: "root of the mean squared error",
  better: "lower",
  needs: "labels",
  rows: (judged) => squares(judged, "rmse"),
  value: (rows) => Math.sqrt(ratioOf(rows, 0, 1)),
};

/** Mean of |y - target|. */
export const mae: Metric = {
  name: "mae",
  summary: "mean absolute error",
  better: "lower",
  needs: "labels",
  rows: (judged) =>
    pairRows(
      judged,
      "mae",
      (row, y, target) => {
        row[0]! += Math.abs(y - target);
        row[1]! += 1;
      },
      2,
    ),
  value: (rows) => ratioOf(rows, 0, 1),
};

/** 1 - Σ(y - target)² / Σ(target - mean target)²: 1 is perfect, 0 as good as the mean. All outputs pooled. */
export const r2: Metric = {
  name: "r2",
  summary: "share of the targets' variance that the model explains",
  better: "higher",
  needs: "labels",
  rows: (judged) =>
    pairRows(
      judged,
      "r2",
      (row, y, target) => {
        row[0]! += (y - target) ** 2;
        row[1]! += target;
        row[2]! += target ** 2;
        row[3]! += 1;
      },
      4,
    ),
  value(rows) {
    const [error, sum, square, count] = [0, 1, 2, 3].map((k) => rows.reduce((total, row) => total + row[k]!, 0)) as [
      number,
      number,
      number,
      number,
    ];
    return 1 - error / (square - sum ** 2 / count);
  },
};
