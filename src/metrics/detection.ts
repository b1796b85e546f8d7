import { fail } from "../errors.ts";
import type { Tensors } from "../platform/runtime.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { type Judged, type Metric, mainOutput, type Row, ratioOf } from "./metric.ts";

/** A box: left, top, right, bottom. */
export type Box = readonly [x1: number, y1: number, x2: number, y2: number];

/** A box that a model found. */
export interface Detection {
  readonly box: Box;
  readonly score: number;
  readonly label: number;
}

/** A box that is there. A crowd may be found any number of times, or not. */
export interface TrueBox {
  readonly box: Box;
  readonly label: number;
  readonly crowd?: boolean;
}

/** Makes the detections of sample `i` from a model's outputs. */
export type Decode = (outputs: Tensors, i: number, size: number) => readonly Detection[];

/** Reads outputs `[n, k, 6]` of rows x1, y1, x2, y2, score, class; rows with score 0 or below are padding. */
export const decodeRows: Decode = (outputs, i, size) => {
  const { output } = mainOutput(outputs);
  if (output.shape.at(-1) !== 6) {
    return fail("detections", `can't read boxes from [${output.shape.join(", ")}]`, "Give a metric with a decoder");
  }
  const values = toFloat32(output).subarray((i * output.size) / size, ((i + 1) * output.size) / size);
  return Array.from({ length: values.length / 6 }, (_, k) => {
    const [x1, y1, x2, y2, score, label] = values.subarray(6 * k, 6 * k + 6) as unknown as number[];
    return { box: [x1!, y1!, x2!, y2!] as const, score: score!, label: label! };
  }).filter(({ score }) => score > 0);
};

/**
 * Intersection over union of two boxes; with a crowd, the intersection over the area of the detection (COCO).
 */
export function iou(a: Box, b: Box, crowd = false): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (!(width > 0 && height > 0)) return 0;
  const area = (box: Box): number => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (crowd ? area(a) : area(a) + area(b) - width * height);
}

const thresholds = Array.from({ length: 10 }, (_, t) => 0.5 + 0.05 * t);
const maxDetections = 100;
/** Numbers of one detection in a row: class, score, bits of thresholds matched, bits of thresholds ignored. */
const stride = 4;

/**
 * Average precision as COCO defines it (cocodataset.org/#detection-eval): detections of a class by falling score, at
 * most 100 an image and class, each matched to the free true box of its class with the highest IoU of at least the
 * threshold, crowds last and any number of times, matches with a crowd not counted; precision made monotone and
 * averaged over the 101 recalls 0, 0.01, ... 1; then the mean over the classes that occur, and over the thresholds.
 *
 * @param only one threshold, or 0.5, 0.55, ... 0.95 if absent
 */
export function averagePrecision(decode: Decode = decodeRows, only?: 0.5 | 0.75): Metric {
  const name = only ? `map${100 * only}` : "map";
  const used = thresholds.flatMap((threshold, t) =>
    only === undefined || Math.abs(threshold - only) < 1e-9 ? [t] : [],
  );
  return {
    name,
    summary: only ? `mean average precision at IoU ${only}` : "mean average precision over IoU 0.5 to 0.95 (COCO)",
    better: "higher",
    unit: "%",
    needs: "truth",
    rows: (judged) =>
      Array.from({ length: judged.size }, (_, i) => {
        const truth = judged.truth?.[i] as readonly TrueBox[] | undefined;
        if (!truth)
          return fail(name, "the data has no true boxes", "Give 'truth': an array of { box, label } a sample");
        return matchImage(decode(judged.outputs, i, judged.size), truth);
      }),
    value: (rows) => meanPrecision(rows, used),
  };
}

/** A row: for each class the entry [class, -1, true boxes, 0], and for each detection [class, score, bits, bits]. */
function matchImage(found: readonly Detection[], truth: readonly TrueBox[]): Row {
  const row: number[] = [];
  const labels = new Set([...found, ...truth].map(({ label }) => label));
  for (const label of labels) {
    // crowds last: a detection prefers a true box of its own
    const boxes = truth
      .filter((box) => box.label === label)
      .sort((a, b) => Number(a.crowd ?? 0) - Number(b.crowd ?? 0));
    row.push(label, -1, boxes.filter(({ crowd }) => !crowd).length, 0);
    const own = found.filter((detection) => detection.label === label);
    const best = own.sort((a, b) => b.score - a.score).slice(0, maxDetections);
    const taken = boxes.map(() => 0);
    for (const { box, score } of best) {
      let [matched, ignored] = [0, 0];
      for (const [t, threshold] of thresholds.entries()) {
        const at = bestMatch(box, boxes, taken, t, threshold);
        if (at < 0) continue;
        matched |= 1 << t;
        if (boxes[at]!.crowd) ignored |= 1 << t;
        taken[at]! |= 1 << t;
      }
      row.push(label, score, matched, ignored);
    }
  }
  return row;
}

function bestMatch(
  box: Box,
  boxes: readonly TrueBox[],
  taken: readonly number[],
  t: number,
  threshold: number,
): number {
  let [best, at] = [Math.min(threshold, 1 - 1e-10), -1];
  for (const [b, { box: other, crowd = false }] of boxes.entries()) {
    if ((taken[b]! >> t) & 1 && !crowd) continue;
    if (at >= 0 && !boxes[at]!.crowd && crowd) break;
    const overlap = iou(box, other, crowd);
    if (overlap < best) continue;
    [best, at] = [overlap, b];
  }
  return at;
}

function meanPrecision(rows: readonly Row[], used: readonly number[]): number {
  const classes = new Map<number, { truths: number; found: { score: number; matched: number; ignored: number }[] }>();
  for (const row of rows) {
    for (let i = 0; i < row.length; i += stride) {
      const [label, score, matched, ignored] = row.slice(i, i + stride) as [number, number, number, number];
      const known = classes.get(label) ?? { truths: 0, found: [] };
      classes.set(label, known);
      if (score === -1) known.truths += matched;
      else known.found.push({ score, matched, ignored });
    }
  }
  let [sum, count] = [0, 0];
  for (const { truths, found } of classes.values()) {
    if (truths === 0) continue;
    found.sort((a, b) => b.score - a.score);
    for (const t of used) {
      sum += precisionAt(found, truths, t);
      count++;
    }
  }
  return count === 0 ? 0 : sum / count;
}

/** Average over 101 recalls of the highest precision at that recall or beyond. */
function precisionAt(found: readonly { matched: number; ignored: number }[], truths: number, t: number): number {
  const points: { recall: number; precision: number }[] = [];
  let [hits, counted] = [0, 0];
  for (const { matched, ignored } of found) {
    if ((ignored >> t) & 1) continue;
    counted++;
    if ((matched >> t) & 1) hits++;
    points.push({ recall: hits / truths, precision: hits / counted });
  }
  for (let i = points.length - 2; i >= 0; i--) {
    points[i]!.precision = Math.max(points[i]!.precision, points[i + 1]!.precision);
  }
  let [sum, at] = [0, 0];
  for (let r = 0; r <= 100; r++) {
    while (at < points.length && points[at]!.recall < r / 100 - 1e-12) at++;
    if (at < points.length) sum += points[at]!.precision;
  }
  return sum / 101;
}

export const map = averagePrecision();
export const map50 = averagePrecision(decodeRows, 0.5);

/**
 * How well two models find the same boxes: detections of equal class are paired greedily by falling IoU; the sum of
 * the pairs' IoU over the larger number of boxes, mean over samples. Samples where neither finds a box count as 1.
 */
export function boxMatch(decode: Decode = decodeRows): Metric {
  return {
    name: "box-match",
    summary: "IoU of boxes paired with the original's, unpaired boxes count 0",
    better: "higher",
    unit: "%",
    needs: "reference",
    rows: (judged) => Array.from({ length: judged.size }, (_, i) => [matchBoxes(judged, i, decode)]),
    value: (rows) => ratioOf(rows, 0),
  };
}

function matchBoxes({ outputs, reference, size }: Judged, i: number, decode: Decode): number {
  if (!reference) return fail("box-match", "there is no reference", "Compare with the original model");
  const [ours, theirs] = [decode(outputs, i, size), decode(reference, i, size)];
  if (ours.length === 0 && theirs.length === 0) return 1;
  const pairs = ours
    .flatMap((a, p) => theirs.map((b, q) => ({ p, q, overlap: a.label === b.label ? iou(a.box, b.box) : 0 })))
    .sort((a, b) => b.overlap - a.overlap);
  const [left, right] = [new Set<number>(), new Set<number>()];
  let sum = 0;
  for (const { p, q, overlap } of pairs) {
    if (overlap === 0) break;
    if (left.has(p) || right.has(q)) continue;
    left.add(p);
    right.add(q);
    sum += overlap;
  }
  return sum / Math.max(ours.length, theirs.length);
}

/**
 * Keeps, class by class, the boxes that overlap no better one by more than `threshold` (greedy non-maximum
 * suppression).
 */
export function suppress(found: readonly Detection[], threshold: number): Detection[] {
  const kept: Detection[] = [];
  for (const detection of [...found].sort((a, b) => b.score - a.score)) {
    const hidden = kept.some(({ label, box }) => label === detection.label && iou(box, detection.box) > threshold);
    if (!hidden) kept.push(detection);
  }
  return kept;
}
