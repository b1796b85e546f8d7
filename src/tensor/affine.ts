import { fail } from "../errors.ts";
import { type DType, dtypes, integerRange, isPacked } from "./dtype.ts";
import { floatToHalf, halfToFloat } from "./half.ts";
import { pack } from "./pack.ts";
import { channelRanges, split } from "./statistics.ts";
import { type Tensor, tensor, toFloat32, typed } from "./tensor.ts";

/** An integer grid for real numbers: `x = scale * (q - zeroPoint)`, q from `qmin` to `qmax`. */
export interface Affine {
  /** A positive float32. */
  readonly scale: number;
  readonly zeroPoint: number;
  readonly qmin: number;
  readonly qmax: number;
}

/** How a grid is laid over a range. */
export interface AffineOptions {
  /** Zero in the middle of the integers: 0 for signed types, the half for unsigned ones. */
  readonly symmetric?: boolean;
  /** One bit less: int8 -64..64, uint8 0..127. Products of pairs then fit int16 on processors without VNNI. */
  readonly reduceRange?: boolean;
  /** So many bits of the type's: uint8 with 4 is 0..15, int8 with 4 is -8..7. All of them if absent. */
  readonly bits?: number;
}

/**
 * The integers a grid may use. Symmetric ones leave out the lowest integer of 8 and 16 bits (int8 -127..127), and keep
 * it below 8 bits, where a level is precious (int4 -8..7).
 *
 * @throws PareError for types that are not integers
 */
export function quantizedRange(dtype: DType, options: AffineOptions = {}): readonly [qmin: number, qmax: number] {
  const { kind } = dtypes[dtype];
  const bits = options.bits ?? dtypes[dtype].bits;
  const [low, high] = options.bits === undefined ? integerRange(dtype) : bitsRange(bits, kind === "int");
  if (options.reduceRange) {
    const quarter = 2 ** (bits - 2);
    if (kind === "int") return [-quarter, quarter];
    return [options.symmetric && bits >= 8 ? 1 : 0, 2 * quarter - 1];
  }
  return options.symmetric && bits >= 8 ? [low + 1, high] : [low, high];
}

function bitsRange(bits: number, signed: boolean): readonly [low: number, high: number] {
  return signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
}

/** Smallest positive normal float32: a smaller scale would lose its own digits. */
const tinyScale = 2 ** -126;

/**
 * The grid for numbers between `min` and `max`: s = (max - min) / (qmax - qmin), z = round(qmin - min / s), rounded half
 * to even (Jacob et al. 2018). Zero is always forced into the range, so that it is exact. A range without extent, or
 * with NaN or infinity, gives scale 1. Symmetric: the smallest scale whose integers reach both ends.
 *
 * @throws PareError for types that are not integers
 */
export function affineParams(min: number, max: number, dtype: DType, options: AffineOptions = {}): Affine {
  const [qmin, qmax] = quantizedRange(dtype, options);
  const low = Math.min(min, 0);
  const high = Math.max(max, 0);
  const middle = dtypes[dtype].kind === "int" ? 0 : (qmax + 1) / 2;
  const exact = options.symmetric
    ? Math.max(high / (qmax - middle), low / (qmin - middle))
    : (high - low) / (qmax - qmin);
  const scale = Math.fround(exact);
  if (!(scale >= tinyScale && scale < Number.POSITIVE_INFINITY)) {
    return { scale: 1, zeroPoint: options.symmetric ? middle : clamp(0, qmin, qmax), qmin, qmax };
  }
  const zeroPoint = options.symmetric ? middle : clamp(roundHalfEven(qmin - low / scale), qmin, qmax);
  return { scale, zeroPoint, qmin, qmax };
}

const roundingShift = 1.5 * 2 ** 52;

/** Rounds to the nearest integer, halves to the even one; exact for magnitudes below 2^51. */
export function roundHalfEven(x: number): number {
  return x + roundingShift - roundingShift;
}

function clamp(x: number, low: number, high: number): number {
  return Math.min(Math.max(x, low), high);
}

/** How a weight is quantized. */
export interface WeightOptions extends AffineOptions {
  readonly dtype: DType;
  /** The axis whose indices have a scale each; null for one scale. */
  readonly axis: number | null;
  /** Scales to use instead of the smallest that cover the weights: one, or one an index of the axis. */
  readonly scale?: Float32Array;
  /** Zero points to go with the scales given, instead of those that put the least weight on the lowest integer. */
  readonly zeroPoints?: Int32Array;
  /** Type of the scales, hence of the values after DequantizeLinear; float32 by default. */
  readonly scaleType?: "float32" | "float16";
  /** Name of the weight, for errors. */
  readonly name?: string;
}

/** A weight as integers. */
export interface QuantizedWeight {
  /** The integers, in the weight's shape, packed where the type is below 8 bits. */
  readonly values: Tensor;
  /** A scalar, or a vector along the axis. */
  readonly scale: Tensor;
  /** Of the values' type and the scale's shape. */
  readonly zeroPoint: Tensor;
  readonly scales: Float32Array;
  readonly zeroPoints: Int32Array;
}

/**
 * Rounds a weight to integers, per tensor or per channel: q = clamp(round(w / s) + z).
 *
 * @param t float32, float16 or another real type
 * @throws PareError where a weight is NaN or infinite, or the axis does not exist
 */
export function quantizeWeight(t: Tensor, options: WeightOptions): QuantizedWeight {
  const { dtype, axis, scaleType = "float32", name = "quantizeWeight" } = options;
  const data = toFloat32(t);
  const { outer, channels, inner } = split(t.shape, axis, name);
  const { min, max } = channelRanges(data, t.shape, axis, name);
  const scales = new Float32Array(channels);
  const zeroPoints = new Int32Array(channels);
  if (options.scale && options.scale.length !== channels) {
    fail(name, `takes ${channels} scales, got ${options.scale.length}`);
  }
  for (let c = 0; c < channels; c++) {
    const grid = affineParams(min[c]!, max[c]!, dtype, options);
    scales[c] = storedScale(options.scale?.[c] ?? grid.scale, scaleType);
    const moved = !options.symmetric && scales[c] !== grid.scale;
    const found = moved
      ? clamp(roundHalfEven(grid.qmin - Math.min(min[c]!, 0) / scales[c]!), grid.qmin, grid.qmax)
      : grid.zeroPoint;
    zeroPoints[c] = options.zeroPoints?.[c] ?? found;
  }
  const [qmin, qmax] = quantizedRange(dtype, options);
  const integers = integerArray(dtype, data.length);
  const grids: Grids = { scales, zeroPoints, qmin, qmax };
  if (inner === 1) roundRows(data, outer, grids, integers);
  else roundRuns(data, outer, inner, grids, integers);
  const shape = axis === null ? [] : [channels];
  const zeros = integerArray(dtype, channels);
  zeros.set(zeroPoints);
  return {
    values: stored(integers, dtype, t.shape),
    scale: tensor(scaleType, shape, scaleType === "float32" ? scales : floatToHalf(scales, "float16")),
    zeroPoint: stored(zeros, dtype, shape),
    scales,
    zeroPoints,
  };
}

interface Grids {
  readonly scales: Float32Array;
  readonly zeroPoints: Int32Array;
  readonly qmin: number;
  readonly qmax: number;
}

/** Rounds numbers of which `inner` in a row share a grid. Clamped to whole numbers first, rounding stays inside. */
function roundRuns(data: Float32Array, outer: number, inner: number, grids: Grids, out: Integers): void {
  const { scales, zeroPoints, qmin, qmax } = grids;
  for (let o = 0, i = 0; o < outer; o++) {
    for (let c = 0; c < scales.length; c++) {
      const s = scales[c]!;
      const z = zeroPoints[c]!;
      const low = qmin - z;
      const high = qmax - z;
      for (const end = i + inner; i < end; i++) {
        let x = data[i]! / s;
        if (x < low) x = low;
        else if (x > high) x = high;
        out[i] = ((x + roundingShift - roundingShift) | 0) + z;
      }
    }
  }
}

/** Rounds rows whose columns have a grid each. */
function roundRows(data: Float32Array, rows: number, { scales, zeroPoints, qmin, qmax }: Grids, out: Integers): void {
  const columns = scales.length;
  for (let o = 0, i = 0; o < rows; o++) {
    for (let c = 0; c < columns; c++, i++) {
      const z = zeroPoints[c]!;
      const low = qmin - z;
      const high = qmax - z;
      let x = data[i]! / scales[c]!;
      if (x < low) x = low;
      else if (x > high) x = high;
      out[i] = ((x + roundingShift - roundingShift) | 0) + z;
    }
  }
}

/** A scale as its type keeps it, never zero. */
function storedScale(scale: number, type: "float32" | "float16"): number {
  if (type === "float32") return scale;
  const half = halfToFloat(floatToHalf(Float32Array.of(scale), "float16"), "float16")[0]!;
  return half === 0 ? 2 ** -24 : Math.min(half, 65504);
}

type Integers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array;

function integerArray(dtype: DType, length: number): Integers {
  const { bits, kind } = dtypes[dtype];
  if (bits <= 8) return kind === "uint" ? new Uint8Array(length) : new Int8Array(length);
  if (bits === 16) return kind === "uint" ? new Uint16Array(length) : new Int16Array(length);
  return dtype === "int32" ? new Int32Array(length) : fail("quantizeWeight", `can't quantize to '${dtype}'`);
}

/** Integers as a tensor of their type, packed where it is below 8 bits. */
function stored(integers: Integers, dtype: DType, shape: readonly number[]): Tensor {
  return tensor(dtype, shape, isPacked(dtype) ? pack(integers, dtype) : integers);
}

/**
 * Integers as a tensor of a type, packed where it is below 8 bits.
 *
 * @param values inside the type's range
 * @throws PareError for types that are not integers
 */
export function integerTensor(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  const integers = integerArray(dtype, values.length);
  integers.set(values);
  return stored(integers, dtype, shape);
}

/**
 * The real numbers that integers stand for: s * (q - z), in the integers' order.
 *
 * @param scales one, or one an index of `axis`
 * @throws PareError where the axis does not exist
 */
export function dequantize(
  values: Tensor,
  scales: ArrayLike<number>,
  zeroPoints: ArrayLike<number>,
  axis: number | null = null,
): Float32Array {
  const integers = isPacked(values.dtype) ? toFloat32(values) : (typed(values) as Integers);
  const out = new Float32Array(values.size);
  const { outer, channels, inner } = split(values.shape, axis, "dequantize");
  for (let o = 0, i = 0; o < outer; o++) {
    for (let c = 0; c < channels; c++) {
      const s = scales[c]!;
      const z = zeroPoints[c]!;
      for (const end = i + inner; i < end; i++) out[i] = s * (integers[i]! - z);
    }
  }
  return out;
}
