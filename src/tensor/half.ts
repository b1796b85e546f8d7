import { fail } from "../errors.ts";
import type { DType } from "./dtype.ts";

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** float32 to the bits of IEEE binary16, round to nearest even; beyond the range becomes infinity. */
export function toHalfBits(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // subnormal: let float32 arithmetic do the rounding at a fixed exponent
    scratch[0] = Math.abs(value) + 0.5;
    return sign | (scratchBits[0]! - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** 2^(e - 25), the unit of the last place of a binary16 with exponent field e. */
const halfUnits = Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (Math.max(1, exponent) - 25));

/** The bits of IEEE binary16 to a number. */
export function fromHalfBits(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction : 1024 + fraction) * halfUnits[exponent]!;
}

/** float32 to the bits of bfloat16, round to nearest even. */
export function toBfloatBits(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

let halfTable: Float32Array | undefined;

/** 16-bit floats, given as their bits, to float32. Exact. */
export function halfToFloat(bits: Uint16Array, dtype: "float16" | "bfloat16"): Float32Array {
  const out = new Float32Array(bits.length);
  if (dtype === "bfloat16") {
    const words = new Uint32Array(out.buffer);
    for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
    return out;
  }
  halfTable ??= Float32Array.from({ length: 65536 }, (_, i) => fromHalfBits(i));
  for (let i = 0; i < bits.length; i++) out[i] = halfTable[bits[i]!]!;
  return out;
}

/** float32 to 16-bit floats as their bits, round to nearest even. */
export function floatToHalf(values: Float32Array, dtype: "float16" | "bfloat16"): Uint16Array {
  const out = new Uint16Array(values.length);
  const convert = dtype === "float16" ? toHalfBits : toBfloatBits;
  for (let i = 0; i < values.length; i++) out[i] = convert(values[i]!);
  return out;
}

interface SmallFloat {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** Which codes are not numbers: IEEE's top exponent, only all ones, only negative zero, or none. */
  readonly special: "ieee" | "fn" | "fnuz" | "none";
}

const smallFloats: Partial<Record<DType, SmallFloat>> = {
  float8e4m3fn: { exponentBits: 4, mantissaBits: 3, bias: 7, special: "fn" },
  float8e4m3fnuz: { exponentBits: 4, mantissaBits: 3, bias: 8, special: "fnuz" },
  float8e5m2: { exponentBits: 5, mantissaBits: 2, bias: 15, special: "ieee" },
  float8e5m2fnuz: { exponentBits: 5, mantissaBits: 2, bias: 16, special: "fnuz" },
  float4e2m1: { exponentBits: 2, mantissaBits: 1, bias: 1, special: "none" },
};

function decodeSmall(code: number, format: SmallFloat): number {
  const { exponentBits, mantissaBits, bias, special } = format;
  const sign = code >>> (exponentBits + mantissaBits) ? -1 : 1;
  const exponent = (code >>> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = code & (2 ** mantissaBits - 1);
  const top = exponent === 2 ** exponentBits - 1;
  if (special === "fnuz" && sign < 0 && exponent === 0 && mantissa === 0) return Number.NaN;
  if (special === "fn" && top && mantissa === 2 ** mantissaBits - 1) return Number.NaN;
  if (special === "ieee" && top) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  const fraction = mantissa / 2 ** mantissaBits;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

/** The 8-bit and 4-bit floats of ONNX (OCP 8-bit and MX formats) to float32. */
export function smallFloatToFloat(bytes: Uint8Array, dtype: DType, size: number): Float32Array {
  if (dtype === "float8e8m0") return Float32Array.from(bytes, (c) => (c === 255 ? Number.NaN : 2 ** (c - 127)));
  const format = smallFloats[dtype] ?? fail("smallFloatToFloat", `'${dtype}' is not a small float`);
  const out = new Float32Array(size);
  const packed = dtype === "float4e2m1";
  for (let i = 0; i < size; i++) {
    const code = packed ? (bytes[i >> 1]! >>> (4 * (i & 1))) & 15 : bytes[i]!;
    out[i] = decodeSmall(code, format);
  }
  return out;
}
