import { fail } from "../errors.ts";
import { type Tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { type Judged, labelsOf, mainOutput, perSample } from "./metric.ts";

/** Class scores at the places that have a label: one place a sample, a token or a pixel. */
export interface ClassScores {
  readonly classes: number;
  readonly places: number;
  readonly placesPerSample: number;
  readonly labels: readonly number[];
  /** The scores of one place. The same array is filled anew by every call. */
  at(place: number): Float32Array;
}

/**
 * Pairs class scores with labels. Labels `[n]` go with scores `[n, C, 1...]`; labels `[n, T]` with `[n, T, C]`; labels
 * `[n, H, W]` with `[n, C, H, W]` or `[n, H, W, C]`.
 *
 * @throws PareError where the shapes do not fit, or a label is beyond the classes
 */
export function classScores(judged: Judged, metric: string, ignore?: number): ClassScores {
  const labels = labelsOf(judged, metric);
  const { output } = mainOutput(judged.outputs);
  const values = toFloat32(output);
  const placesPerSample = perSample(labels, judged.size, metric);
  const places = labels.size;
  if (output.size % places !== 0) misfit(output, labels, metric);
  const classes = output.size / places;
  const classAxis = classAxisOf(output, labels, classes, metric);
  // scores of a place lie `stride` apart: 1 where the classes are innermost
  const stride = output.shape.slice(classAxis + 1).reduce((a, b) => a * b, 1);
  const numbers = toNumbers(labels);
  const limit = classes === 1 ? 2 : classes;
  const bad = numbers.find((label) => label !== ignore && (!Number.isInteger(label) || label < 0 || label >= limit));
  if (bad !== undefined)
    fail(metric, `label ${bad} for ${limit} classes`, "Labels count from 0; check the label column");
  const scores = new Float32Array(classes);
  return {
    classes,
    places,
    placesPerSample,
    labels: numbers,
    at(place) {
      const start = Math.floor(place / stride) * stride * classes + (place % stride);
      for (let c = 0; c < classes; c++) scores[c] = values[start + c * stride]!;
      return scores;
    },
  };
}

function classAxisOf(output: Tensor, labels: Tensor, classes: number, metric: string): number {
  const { shape } = output;
  const inner = labels.shape.slice(1);
  const rest = shape.slice(1);
  if (inner.every((dim) => dim === 1)) {
    const axis = shape.indexOf(classes, Math.min(1, shape.length - 1));
    return axis >= 0 ? axis : shape.length < 2 ? 0 : misfit(output, labels, metric);
  }
  if (rest.at(-1) === classes && rest.slice(0, -1).join() === inner.join()) return shape.length - 1;
  if (rest[0] === classes && rest.slice(1).join() === inner.join()) return 1;
  return misfit(output, labels, metric);
}

function misfit(output: Tensor, labels: Tensor, metric: string): never {
  const sizes = `outputs of shape [${output.shape.join(", ")}] with labels of shape [${labels.shape.join(", ")}]`;
  return fail(metric, `can't pair ${sizes}`, "Choose a metric that suits the model");
}

/** The class with the highest score, the first of equals; -1 where a score is not a number. One score: a threshold. */
export function argmax(scores: ArrayLike<number>, probabilities?: boolean): number {
  if (scores.length === 1) {
    const score = scores[0]!;
    if (Number.isNaN(score)) return -1;
    return score > ((probabilities ?? (score >= 0 && score <= 1)) ? 0.5 : 0) ? 1 : 0;
  }
  let best = 0;
  for (let c = 0; c < scores.length; c++) {
    if (Number.isNaN(scores[c]!)) return -1;
    if (scores[c]! > scores[best]!) best = c;
  }
  return best;
}

/** Whether `label` is among the `k` highest scores; equal scores rank by index, a score that is not a number never is. */
export function inTop(scores: ArrayLike<number>, label: number, k: number): boolean {
  const own = scores[label]!;
  if (Number.isNaN(own)) return false;
  let above = 0;
  for (let c = 0; c < scores.length; c++) {
    if (scores[c]! > own || (scores[c]! === own && c < label) || Number.isNaN(scores[c]!)) above++;
  }
  return above < k;
}

/** Probabilities below this count as this, so that a cross-entropy stays finite. */
const least = 1e-12;

/**
 * Minus the natural logarithm of the label's probability. Scores are taken for probabilities where `probabilities` says
 * so, or, unsaid, where all are in 0..1 and their sum is 1 within 0.01; they are then divided by their sum. Otherwise
 * they are logits: softmax, and for a single score the logistic function.
 */
export function negativeLogLikelihood(scores: ArrayLike<number>, label: number, probabilities?: boolean): number {
  const n = scores.length;
  if (n === 1) {
    const score = scores[0]!;
    const p = (probabilities ?? (score >= 0 && score <= 1)) ? score : 1 / (1 + Math.exp(-score));
    return -Math.log(Math.max(least, label === 1 ? p : 1 - p));
  }
  let [sum, largest, inside] = [0, Number.NEGATIVE_INFINITY, true];
  for (let c = 0; c < n; c++) {
    const score = scores[c]!;
    sum += score;
    largest = Math.max(largest, score);
    inside &&= score >= 0 && score <= 1;
  }
  if (probabilities ?? (inside && Math.abs(sum - 1) < 0.01)) return -Math.log(Math.max(least, scores[label]! / sum));
  let exponentials = 0;
  for (let c = 0; c < n; c++) exponentials += Math.exp(scores[c]! - largest);
  return Math.min(largest + Math.log(exponentials) - scores[label]!, -Math.log(least));
}
