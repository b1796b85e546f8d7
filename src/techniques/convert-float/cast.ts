import { dtypes } from "../../tensor/dtype.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { lazyTensor, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";

/** The types that the technique converts between. */
export type FloatType = "float32" | "float16" | "bfloat16";

/** Magnitudes that values below `min`, and those beyond float16's range, are brought to; zero, infinities and NaN stay. */
export interface Clamp {
  readonly min: number;
  readonly max: number;
}

/** Largest finite float16. */
export const largestHalf = 65504;

const chunk = 1 << 20;

/** What range checks look at. */
export interface Magnitudes {
  /** Largest finite magnitude. */
  readonly max: number;
  readonly nan: boolean;
}

const cache = new WeakMap<Tensor, Magnitudes>();

/**
 * Reads a float tensor once, in parts.
 *
 * @param ignored magnitudes that stand for infinity: values within a hundredth of one do not count
 */
export function magnitudes(t: Tensor, ignored: readonly number[] = []): Magnitudes {
  const known = ignored.length === 0 ? cache.get(t) : undefined;
  if (known) return known;
  let max = 0;
  let nan = false;
  for (const values of floatChunks(t)) {
    for (let i = 0; i < values.length; i++) {
      const a = Math.abs(values[i]!);
      if (a > max) {
        if (a !== Number.POSITIVE_INFINITY && !ignored.some((m) => Math.abs(a - m) <= m / 100)) max = a;
      } else if (Number.isNaN(a)) nan = true;
    }
  }
  const found = { max, nan };
  if (ignored.length === 0) cache.set(t, found);
  return found;
}

function* floatChunks(t: Tensor): Generator<Float32Array> {
  const width = dtypes[t.dtype].bits / 8;
  for (let at = 0; at < t.size; at += chunk) yield floats(t, at, Math.min(chunk, t.size - at), width);
}

function floats(t: Tensor, from: number, count: number, width: number): Float32Array {
  return toFloat32(tensor(t.dtype, [count], t.bytes(from * width, count * width)));
}

/** A float tensor in another type, converted part by part as it is read. */
export function castTensor(t: Tensor, to: FloatType, clamp?: Clamp): Tensor {
  if (t.dtype === to && !clamp) return t;
  const width = dtypes[t.dtype].bits / 8;
  const target = dtypes[to].bits / 8;
  return lazyTensor(to, t.shape, (offset, length) => {
    const first = Math.floor(offset / target);
    const last = Math.ceil((offset + length) / target);
    const out = new Uint8Array((last - first) * target);
    for (let at = first; at < last; at += chunk) {
      const count = Math.min(chunk, last - at);
      const values = clamped(floats(t, at, count, width), clamp);
      const bits = to === "float32" ? values : floatToHalf(values, to);
      out.set(new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength), (at - first) * target);
    }
    return out.subarray(offset - first * target, offset - first * target + length);
  });
}

function clamped(values: Float32Array, clamp: Clamp | undefined): Float32Array {
  if (!clamp) return values;
  const { min, max } = clamp;
  return values.map((v) => {
    const a = Math.abs(v);
    if (a === 0 || a === Number.POSITIVE_INFINITY || Number.isNaN(a)) return v;
    return a > largestHalf ? Math.sign(v) * max : a < min ? Math.sign(v) * min : v;
  });
}
