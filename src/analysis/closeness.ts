import { decibels } from "../metrics/reference.ts";

/** How near values are to reference values. */
export interface Closeness {
  /** 10 log10(Σ r² / Σ (y - r)²), decibels, within ±200. */
  readonly sqnr: number;
  /** Σ y r / √(Σ y² Σ r²). */
  readonly cosine: number;
  /** Largest |y - r|. */
  readonly maxError: number;
}

/** Running sums of values against reference values. */
export interface Sums {
  signal: number;
  noise: number;
  dot: number;
  square: number;
  maxError: number;
}

/** Adds values against reference values to running sums. */
export function addSums(known: Sums | undefined, y: Float32Array, reference: Float32Array): Sums {
  const sums = known ?? { signal: 0, noise: 0, dot: 0, square: 0, maxError: 0 };
  for (let i = 0; i < y.length; i++) {
    const [value, r] = [y[i]!, reference[i]!];
    const error = Math.abs(value - r);
    // equal infinities (masks) are no error
    if (value === r) {
      if (!Number.isFinite(value)) continue;
    } else if (!(error <= sums.maxError)) sums.maxError = error;
    sums.signal += r * r;
    sums.noise += error * error;
    sums.dot += value * r;
    sums.square += value * value;
  }
  return sums;
}

/** What running sums say. */
export function closenessOf({ signal, noise, dot, square, maxError }: Sums): Closeness {
  const norm = Math.sqrt(signal * square);
  const cosine = norm === 0 ? (signal === square ? 1 : 0) : dot / norm;
  return { sqnr: decibels(signal, noise), cosine: Number.isNaN(cosine) ? 0 : cosine, maxError };
}
