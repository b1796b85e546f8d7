import { fail } from "../errors.ts";
import { type DType, dtypes, packedBytes } from "./dtype.ts";

/**
 * Integers to the packed form of a type below 8 bits: low bits first, as ONNX stores int4, uint4, int2 and uint2.
 *
 * @param values one integer an element, already inside the type's range
 */
export function pack(values: ArrayLike<number>, dtype: DType): Uint8Array {
  return packBits(values, bitsOf(dtype), new Uint8Array(packedBytes(dtype, values.length)));
}

/**
 * Packs integers of 1, 2 or 4 bits, low bits first, into `out` from byte `offset`; returns `out`.
 * Signed values are stored in two's complement.
 */
export function packBits(values: ArrayLike<number>, bits: number, out: Uint8Array, offset = 0): Uint8Array {
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  const count = values.length;
  for (let i = 0, at = offset; i < count; at++) {
    let byte = 0;
    for (let k = 0; k < perByte && i < count; k++, i++) byte |= (values[i]! & mask) << (k * bits);
    out[at] = byte;
  }
  return out;
}

/** The packed elements of a type below 8 bits, one integer each. */
export function unpack(bytes: Uint8Array, dtype: DType, size: number): Int8Array {
  const bits = bitsOf(dtype);
  const perByte = 8 / bits;
  const shift = 32 - bits;
  const signed = dtypes[dtype].kind === "int";
  const out = new Int8Array(size);
  for (let i = 0; i < size; i++) {
    const raised = bytes[Math.floor(i / perByte)]! << (shift - (i % perByte) * bits);
    out[i] = signed ? raised >> shift : raised >>> shift;
  }
  return out;
}

function bitsOf(dtype: DType): number {
  const { bits } = dtypes[dtype];
  return bits > 0 && bits < 8 ? bits : fail("pack", `'${dtype}' is not stored several to a byte`);
}
