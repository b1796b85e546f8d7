import type { Dataset } from "../../src/data/dataset.ts";
import { datasetOf, type Samples } from "../../src/data/samples.ts";
import { random } from "../../src/random.ts";
import { float32, int64 } from "../../src/tensor/tensor.ts";
import { renderDigit, side } from "./render.ts";

/** Labelled pictures. */
export interface Pictures {
  /** `count` pictures of 28x28 bytes. */
  readonly pixels: Uint8Array;
  readonly labels: Uint8Array;
}

/** The splits, by the names of their files; each goes on as long as pictures are asked for. */
export type Split = "train" | "t10k";

/** What the sidecar says: the network sees `(x / 255 - mean) / std`. */
export const normalization = { mean: 0.1, std: 0.25 };

/** The first `count` pictures of a split. */
export function makePictures(split: Split, count: number): Pictures {
  const seeds = random(2024).fork(split);
  const pixels = new Uint8Array(count * side * side);
  const labels = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const stream = seeds.fork(`digit ${i}`);
    const digit = renderDigit(stream.int(10), stream);
    labels[i] = digit.label;
    pixels.set(digit.pixels, i * side * side);
  }
  return { pixels, labels };
}

/** Pictures as a dataset for {@link digitsNetwork}: a split each. */
export function digitsData(splits: Readonly<Record<string, Pictures>>): Dataset {
  return datasetOf("digits", new Map(Object.entries(splits).map(([name, set]) => [name, samples(set)])));
}

function samples({ pixels, labels }: Pictures): Samples {
  const { mean, std } = normalization;
  const plane = side * side;
  return {
    count: labels.length,
    async read(indices) {
      const image = new Float32Array(indices.length * plane);
      for (const [i, at] of indices.entries()) {
        for (let k = 0; k < plane; k++) image[i * plane + k] = (pixels[at * plane + k]! / 255 - mean) / std;
      }
      return {
        inputs: { image: float32([indices.length, 1, side, side], image) },
        labels: int64(indices.map((at) => labels[at]!)),
        size: indices.length,
      };
    },
  };
}
