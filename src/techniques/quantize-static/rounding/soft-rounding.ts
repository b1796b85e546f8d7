import type { Draft } from "../../../graph/edit.ts";
import { type QuantizedWeight, quantizedRange, type WeightOptions } from "../../../tensor/affine.ts";
import { split } from "../../../tensor/statistics.ts";
import { float32, type Tensor, toFloat32 } from "../../../tensor/tensor.ts";
import type { Arithmetic } from "../../../training/emit.ts";

/** Ends of the sigmoid that is cut to 0..1, so that both are reached: zeta and gamma of the paper. */
const [top, bottom] = [1.1, -0.1];
/** A variable beyond this is 0 or 1 for certain. */
const certain = 10;

/** Which of its two neighbours on the grid each weight becomes. */
export interface SoftRounding {
  /** The lower neighbours, counted from the zero point. */
  readonly floors: Int16Array;
  /** The variables V at the start, where the soft weights are the float ones. */
  readonly start: Tensor;
  /** The variables of rounding to nearest. */
  readonly nearest: Tensor;
}

/**
 * Rounding as something to learn (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"):
 * w' = s (floor(w / s) + h(V)), h(V) = clamp(sigmoid(V) (zeta - gamma) + gamma, 0, 1). Weights beyond the grid start at
 * its end. Zeros stay zero: pruned models keep what they have.
 *
 * @param grid the weight rounded to nearest
 * @param options how it was quantized
 */
export function softRounding(weight: Tensor, grid: QuantizedWeight, options: WeightOptions): SoftRounding {
  const { axis } = options;
  const [qmin, qmax] = quantizedRange(options.dtype, options);
  const w = toFloat32(weight);
  const { outer, channels, inner } = split(weight.shape, axis);
  const floors = new Int16Array(w.length);
  const start = new Float32Array(w.length);
  const nearest = new Float32Array(w.length);
  for (let o = 0, i = 0; o < outer; o++) {
    for (let c = 0; c < channels; c++) {
      const [low, high] = [qmin - grid.zeroPoints[c]!, qmax - grid.zeroPoints[c]!];
      for (const end = i + inner; i < end; i++) {
        const steps = Math.min(high, Math.max(low, w[i]! / grid.scales[c]!));
        const floor = Math.min(high - 1, Math.floor(steps));
        const rest = steps - floor;
        floors[i] = floor;
        start[i] = w[i] === 0 ? (floor === 0 ? -certain : certain) : -Math.log((top - bottom) / (rest - bottom) - 1);
        nearest[i] = rest < 0.5 ? -certain : certain;
      }
    }
  }
  return { floors, start: float32(weight.shape, start), nearest: float32(weight.shape, nearest) };
}

/**
 * Writes the soft weight.
 *
 * @param name of the variables, a weight of the draft
 * @returns names of the weight and of h
 */
export function writeSoftRounding(
  draft: Draft,
  a: Arithmetic,
  name: string,
  { floors, start }: SoftRounding,
  scales: Float32Array,
  axis: number | null,
): { readonly weight: string; readonly h: string } {
  const { shape } = start;
  draft.weights.set(name, start);
  const stretched = a.add(a.mul(a.op("Sigmoid", [name]), a.scalar(top - bottom)), a.scalar(bottom));
  const h = a.op("Clip", [stretched, a.scalar(0), a.scalar(1)]);
  const along = shape.map((dim, at) => (at === axis ? dim : 1));
  const steps = a.add(a.constant(float32(shape, Float32Array.from(floors))), h);
  return { weight: a.mul(steps, a.constant(float32(axis === null ? [] : along, scales))), h };
}

/** The integers that learned variables stand for, counted from the zero point. */
export function roundedCodes({ floors }: Pick<SoftRounding, "floors">, variables: Tensor): Int16Array {
  const v = toFloat32(variables);
  return floors.map((floor, i) => (v[i]! >= 0 ? floor + 1 : floor));
}

/**
 * The regularizer of the paper, as a mean: 1 - |2 h - 1|^beta over all weights, which pushes h to 0 or 1.
 *
 * @param beta name of the exponent
 */
export function roundingPenalty(
  a: Arithmetic,
  hs: readonly { readonly h: string; readonly size: number }[],
  beta: string,
): string {
  const total = hs.reduce((sum, { size }) => sum + size, 0);
  const parts = hs.map(({ h }) => {
    const distance = a.op("Abs", [a.sub(a.mul(h, a.scalar(2)), a.scalar(1))]);
    // x^beta as exp(beta log x), which the runtime computes several times faster
    const power = a.op("Exp", [a.mul(a.op("Log", [a.add(distance, a.scalar(1e-12))]), beta)]);
    return a.op("ReduceSum", [a.sub(a.scalar(1), power)], { keepdims: 0 });
  });
  return a.mul(parts.length === 1 ? parts[0]! : a.op("Sum", parts), a.scalar(1 / total));
}
