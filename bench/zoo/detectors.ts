import { type Decode, type Detection, suppress } from "../../src/metrics/index.ts";
import { toFloat32 } from "../../src/tensor/tensor.ts";

/** UltraFace: scores `[n, 4420, 2]` of background and face, boxes `[n, 4420, 4]` in 0..1. */
export const decodeFaces: Decode = (outputs, i) => {
  const [scores, boxes] = [toFloat32(outputs.scores!), toFloat32(outputs.boxes!)];
  const count = outputs.boxes!.shape[1]!;
  const found: Detection[] = [];
  for (let k = i * count; k < (i + 1) * count; k++) {
    const score = scores[2 * k + 1]!;
    if (score <= 0.7) continue;
    const [x1, y1, x2, y2] = boxes.subarray(4 * k, 4 * k + 4) as unknown as [number, number, number, number];
    found.push({ box: [x1, y1, x2, y2], score, label: 0 });
  }
  return suppress(found, 0.3);
};

/**
 * FastestDet: `[n, 85, 22, 22]`, planes of objectness, offsets through tanh, sizes through the logistic function, and 80
 * class probabilities; a score is objectness^0.6 · class^0.4.
 */
export const decodeObjects: Decode = (outputs, i) => {
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
    if (!(score > 0.5)) continue;
    const [x, y] = [((p % width) + Math.tanh(at(1))) / width, (Math.floor(p / width) + Math.tanh(at(2))) / height];
    const [w, h] = [sigmoid(at(3)), sigmoid(at(4))];
    found.push({ box: [x - w / 2, y - h / 2, x + w / 2, y + h / 2], score, label });
  }
  return suppress(found, 0.45);
};
