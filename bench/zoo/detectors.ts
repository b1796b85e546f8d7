import { iou } from "../../src/metrics/detection.ts";
import { type Decode, type Detection, suppress } from "../../src/metrics/index.ts";
import type { Tensors } from "../../src/platform/runtime.ts";
import { toFloat32 } from "../../src/tensor/tensor.ts";

/** UltraFace: scores `[n, 4420, 2]` of background and face, boxes `[n, 4420, 4]` in 0..1. */
export function facesAbove(least: number): Decode {
  return (outputs, i) => faces(outputs, i, least);
}

function faces(outputs: Tensors, i: number, least: number): Detection[] {
  const [scores, boxes] = [toFloat32(outputs.scores!), toFloat32(outputs.boxes!)];
  const count = outputs.boxes!.shape[1]!;
  const found: Detection[] = [];
  for (let k = i * count; k < (i + 1) * count; k++) {
    const score = scores[2 * k + 1]!;
    if (score <= least) continue;
    const [x1, y1, x2, y2] = boxes.subarray(4 * k, 4 * k + 4) as unknown as [number, number, number, number];
    found.push({ box: [x1, y1, x2, y2], score, label: 0 });
  }
  return suppress(found, 0.3);
}

/**
 * FastestDet: `[n, 85, 22, 22]`, planes of objectness, offsets through tanh, sizes through the logistic function, and 80
 * class probabilities; a score is objectness^0.6 · class^0.4.
 */
export function objectsAbove(least: number): Decode {
  return (outputs, i) => objects(outputs, i, least);
}

function objects(outputs: Tensors, i: number, least: number): Detection[] {
  const output = Object.values(outputs)[0]!;
  const [, channels, height, width] = output.shape as [number, number, number, number];
  const plane = height * width;
  const values = toFloat32(output).subarray(i * channels * plane, (i + 1) * channels * plane);
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  const found: Detection[] = [];
  for (let p = 0; p < plane; p++) {
    const at = (channel: number): number => values[channel * plane + p]!;
    let label = 0;
    for (let c = 1; c < channels - 5; c++) if (at(5 + c) > at(5 + label)) label = c;
    const score = at(0) ** 0.6 * at(5 + label) ** 0.4;
    if (!(score > least)) continue;
    const [x, y] = [((p % width) + Math.tanh(at(1))) / width, (Math.floor(p / width) + Math.tanh(at(2))) / height];
    const [w, h] = [sigmoid(at(3)), sigmoid(at(4))];
    found.push({ box: [x - w / 2, y - h / 2, x + w / 2, y + h / 2], score, label });
  }
  return suppress(found, 0.45);
}

/** A detection of a reference, and what another model found in its place. */
export interface Match {
  /** IoU with the other's box; 0 where there is none. */
  readonly overlap: number;
  /** The other's score; 0 where there is none. */
  readonly score: number;
  /** The other's score less the reference's. */
  readonly scoreChange: number;
}

/** Pairs every detection of a reference with one of the same class of another model, best overlaps first. */
export function matchDetections(wanted: readonly Detection[], found: readonly Detection[]): Match[] {
  const pairs = wanted
    .flatMap((a, p) => found.map((b, q) => ({ p, q, overlap: a.label === b.label ? iou(a.box, b.box) : 0 })))
    .filter(({ overlap }) => overlap > 0)
    .sort((a, b) => b.overlap - a.overlap);
  const taken = new Set<number>();
  const matches = new Map<number, Match>();
  for (const { p, q, overlap } of pairs) {
    if (matches.has(p) || taken.has(q)) continue;
    taken.add(q);
    matches.set(p, { overlap, score: found[q]!.score, scoreChange: found[q]!.score - wanted[p]!.score });
  }
  return wanted.map(({ score }, p) => matches.get(p) ?? { overlap: 0, score: 0, scoreChange: -score });
}
