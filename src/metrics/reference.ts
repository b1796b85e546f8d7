import { fail } from "../errors.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { type Judged, type Metric, mainOutput, perSample, type Row, ratioOf } from "./metric.ts";
import { argmax } from "./scores.ts";

/** The main output and the reference's output of the same name. */
function outputPair(judged: Judged, metric: string): { y: Tensor; reference: Tensor } {
  const { name, output } = mainOutput(judged.outputs);
  const reference = judged.reference?.[name];
  if (!reference) return fail(metric, `there is no reference for output '${name}'`, "Compare with the original model");
  if (reference.size !== output.size) {
    fail(metric, `output '${name}' is [${output.shape.join(", ")}], the reference [${reference.shape.join(", ")}]`);
  }
  return { y: output, reference };
}

/** One row a sample from both models' values. */
function rowsOf(judged: Judged, metric: string, row: (y: Float32Array, reference: Float32Array) => Row): Row[] {
  const { y, reference } = outputPair(judged, metric);
  const count = perSample(y, judged.size, metric);
  const [ys, references] = [toFloat32(y), toFloat32(reference)];
  return Array.from({ length: judged.size }, (_, i) =>
    row(ys.subarray(i * count, (i + 1) * count), references.subarray(i * count, (i + 1) * count)),
  );
}

/** Signal and noise: [Σ r², Σ (y - r)²]. */
export function signalAndNoise(y: Float32Array, reference: Float32Array): [signal: number, noise: number] {
  let [signal, noise] = [0, 0];
  for (let i = 0; i < y.length; i++) {
    signal += reference[i]! ** 2;
    noise += (y[i]! - reference[i]!) ** 2;
  }
  return [signal, noise];
}

/** Decibels that stand for "no noise at all" and "no signal at all". */
const limit = 200;

/** 10 log10(signal / noise), held to ±200 dB; equal zeros are 200. NaN noise (a broken model) is -200. */
export function decibels(signal: number, noise: number): number {
  if (noise === 0) return limit;
  const value = 10 * Math.log10(signal / noise);
  return Number.isNaN(value) ? -limit : Math.min(limit, Math.max(-limit, value));
}

/** Signal to quantization noise of the main output: 10 log10(Σ r² / Σ (y - r)²), over all samples. */
export const sqnr: Metric = {
  name: "sqnr",
  summary: "signal to noise of the main output against the original's, in dB",
  better: "higher",
  unit: "dB",
  needs: "reference",
  rows: (judged) => rowsOf(judged, "sqnr", signalAndNoise),
  value: (rows) => {
    let [signal, noise] = [0, 0];
    for (const row of rows) {
      signal += row[0]!;
      noise += row[1]!;
    }
    return decibels(signal, noise);
  },
};

/** Σ y r / √(Σ y² Σ r²); 1 for two zero vectors, 0 for one. */
export function cosineOf(y: Float32Array, reference: Float32Array): number {
  let [dot, a, b] = [0, 0, 0];
  for (let i = 0; i < y.length; i++) {
    dot += y[i]! * reference[i]!;
    a += y[i]! ** 2;
    b += reference[i]! ** 2;
  }
  if (a === 0 || b === 0) return a === b ? 1 : 0;
  const value = dot / Math.sqrt(a * b);
  return Number.isNaN(value) ? 0 : value;
}

/** Mean over samples of the cosine between the main outputs. */
export const cosine: Metric = {
  name: "cosine",
  summary: "mean cosine between the main output and the original's",
  better: "higher",
  needs: "reference",
  rows: (judged) => rowsOf(judged, "cosine", (y, reference) => [cosineOf(y, reference)]),
  value: (rows) => ratioOf(rows, 0),
};

/**
 * Share of places where both models' highest score is the same class. Outputs `[n, C, 1...]` have one place a sample,
 * `[n, T, C]` one a token (classes last), `[n, C, H, W]` one a pixel. A single score counts as a yes-or-no decision.
 */
export const agreement: Metric = {
  name: "agreement",
  summary: "share of samples where the highest score is the same class as the original's",
  better: "higher",
  unit: "%",
  needs: "reference",
  proportion: true,
  rows(judged) {
    const { y, reference } = outputPair(judged, "agreement");
    const count = perSample(y, judged.size, "agreement");
    const { classes, stride } = placesOf(y, count);
    const [ys, references] = [toFloat32(y), toFloat32(reference)];
    const pick = (values: Float32Array, start: number): number =>
      argmax(
        Array.from({ length: classes }, (_, c) => values[start + c * stride]!),
        judged.probabilities,
      );
    return Array.from({ length: judged.size }, (_, i) => {
      let same = 0;
      for (let place = 0; place < count / classes; place++) {
        const start = i * count + Math.floor(place / stride) * stride * classes + (place % stride);
        if (pick(ys, start) === pick(references, start)) same++;
      }
      return [same, count / classes];
    });
  },
  value: (rows) => ratioOf(rows, 0, 1),
};

function placesOf(y: Tensor, count: number): { classes: number; stride: number } {
  const inner = y.shape.slice(1);
  const large = inner.filter((dim) => dim !== 1);
  if (large.length <= 1) return { classes: Math.max(1, count), stride: 1 };
  if (inner.length === 2) return { classes: inner[1]!, stride: 1 };
  return { classes: inner[0]!, stride: count / inner[0]! };
}

/**
 * Peak signal to noise, 10 log10(peak² / mean squared error), mean over samples. The peak is the range of the
 * target values rounded up to 1 or 255. Against the labels where there are any, else against the reference.
 */
export const psnr: Metric = {
  name: "psnr",
  summary: "peak signal to noise of images against the target (or the original's output), in dB",
  better: "higher",
  unit: "dB",
  needs: "labels or reference",
  rows(judged) {
    const { name, output } = mainOutput(judged.outputs);
    const target = judged.labels?.size === output.size ? { [name]: judged.labels } : judged.reference;
    return rowsOf({ ...judged, ...(target && { reference: target }) }, "psnr", (y, reference) => {
      const [, noise] = signalAndNoise(y, reference);
      const peak = reference.some((value) => value > 2) ? 255 : 1;
      return [decibels(peak ** 2, noise / y.length)];
    });
  },
  value: (rows) => ratioOf(rows, 0),
};
