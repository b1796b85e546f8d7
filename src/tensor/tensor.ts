import { fail } from "../errors.ts";
import { type DType, dtypes, packedBytes } from "./dtype.ts";
import { halfToFloat, smallFloatToFloat } from "./half.ts";
import { unpack } from "./pack.ts";

/**
 * A dense array of ONNX elements, row-major, little-endian, packed below 8 bits.
 * Immutable. Its bytes may be lazy: they are produced (read from a file, computed) when asked for, each time anew,
 * so holding a Tensor costs nothing and a model larger than memory can be walked tensor by tensor.
 */
export interface Tensor {
  readonly dtype: DType;
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  /** Bytes of the packed data; for strings the sum of their UTF-8 lengths. */
  readonly byteLength: number;
  /**
   * The packed data, or `length` bytes of it from `offset`. The result may be a view of shared memory: never write to it.
   *
   * @param scratch memory of `length` bytes that the result may be put into; whoever reads in a loop saves allocations
   * @throws PareError for a string tensor, or where the source can't be read
   */
  bytes(offset?: number, length?: number, scratch?: Uint8Array): Uint8Array;
  /** The elements of a string tensor (bytes that are not UTF-8 stay bytes); undefined for every other type. */
  readonly strings?: readonly (string | Uint8Array)[];
}

/** The typed arrays that hold tensor elements. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/**
 * Number of elements of a shape.
 *
 * @throws PareError for negative, fractional or overflowing sizes
 */
export function sizeOf(shape: readonly number[], who = "tensor"): number {
  let size = 1;
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) fail(who, `bad dimension ${dim} in shape [${shape.join(", ")}]`);
    size *= dim;
  }
  if (!Number.isSafeInteger(size)) fail(who, `shape [${shape.join(", ")}] has too many elements`);
  return size;
}

/**
 * A tensor over data in memory (not copied).
 *
 * @param data the packed bytes, or a typed array whose element width is the type's own
 * @throws PareError where the data's length does not fit the shape
 */
export function tensor(dtype: DType, shape: readonly number[], data: TypedArray): Tensor {
  const view = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const size = sizeOf(shape);
  const expected = packedBytes(dtype, size);
  if (dtype === "string") fail("tensor", "string data needs stringTensor()");
  if (view.length !== expected) {
    fail("tensor", `${dtype} of shape [${shape.join(", ")}] takes ${expected} bytes, got ${view.length}`);
  }
  return {
    dtype,
    shape,
    size,
    byteLength: expected,
    bytes: (offset = 0, length = expected - offset) => view.subarray(offset, offset + length),
  };
}

/**
 * A tensor whose bytes are produced on demand.
 *
 * @param read gives `length` packed bytes from `offset`, in `scratch` or elsewhere; called each time bytes are asked for
 */
export function lazyTensor(
  dtype: DType,
  shape: readonly number[],
  read: (offset: number, length: number, scratch?: Uint8Array) => Uint8Array,
): Tensor {
  const size = sizeOf(shape);
  const byteLength = packedBytes(dtype, size);
  return {
    dtype,
    shape,
    size,
    byteLength,
    bytes: (offset = 0, length = byteLength - offset, scratch) => read(offset, length, scratch),
  };
}

/** A tensor of strings. */
export function stringTensor(shape: readonly number[], strings: readonly (string | Uint8Array)[]): Tensor {
  const size = sizeOf(shape);
  if (size !== strings.length)
    fail("tensor", `shape [${shape.join(", ")}] takes ${size} strings, got ${strings.length}`);
  const encoder = new TextEncoder();
  const byteLength = strings.reduce((sum, s) => sum + (typeof s === "string" ? encoder.encode(s).length : s.length), 0);
  const bytes = (): never => fail("tensor", "a string tensor has no packed bytes", "Use .strings");
  return { dtype: "string", shape, size, byteLength, strings, bytes };
}

/** A float32 tensor. */
export function float32(shape: readonly number[], data: Float32Array | readonly number[]): Tensor {
  return tensor("float32", shape, data instanceof Float32Array ? data : Float32Array.from(data));
}

/** An int64 tensor, the type of ONNX shapes and indices. Without a shape: a vector. */
export function int64(data: readonly (number | bigint)[], shape: readonly number[] = [data.length]): Tensor {
  return tensor(
    "int64",
    shape,
    BigInt64Array.from(data, (v) => BigInt(v)),
  );
}

const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  complex64: Float32Array,
  complex128: Float64Array,
} as const;

/**
 * The data as a typed array of the type's own width (16-bit floats as their bits, complex as pairs, types below
 * 8 bits and 8-bit floats as bytes). A view where memory allows, otherwise a copy. Do not write to it.
 */
export function typed(t: Tensor): TypedArray {
  const bytes = t.bytes();
  const View = arrays[t.dtype as keyof typeof arrays] ?? Uint8Array;
  const aligned = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new View(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.byteLength / View.BYTES_PER_ELEMENT);
}

/**
 * The elements as float32, from any real type (int64 beyond 2^24 rounds). A view, not a copy, when the type is
 * float32 already: do not write to it.
 *
 * @throws PareError for strings and complex numbers
 */
export function toFloat32(t: Tensor): Float32Array {
  const { kind, bits } = dtypes[t.dtype];
  if (kind === "complex" || kind === "string") fail("toFloat32", `can't convert '${t.dtype}'`);
  if (t.dtype === "float32") return typed(t) as Float32Array;
  if (t.dtype === "float16" || t.dtype === "bfloat16") return halfToFloat(typed(t) as Uint16Array, t.dtype);
  if (kind === "float" && bits < 32) return smallFloatToFloat(t.bytes(), t.dtype, t.size);
  if (bits < 8) return Float32Array.from(unpack(t.bytes(), t.dtype, t.size));
  const data = typed(t);
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return Float32Array.from(data, Number);
  return Float32Array.from(data);
}

/**
 * The elements as JavaScript numbers, for small tensors: shapes, axes, scalars.
 *
 * Integers beyond 2^53 round.
 *
 * @throws PareError for strings and complex numbers
 */
export function toNumbers(t: Tensor): number[] {
  const { kind, bits } = dtypes[t.dtype];
  if (kind === "float" && bits < 64) return Array.from(toFloat32(t));
  if (kind === "complex" || kind === "string") fail("toNumbers", `can't convert '${t.dtype}'`);
  if (bits < 8) return Array.from(unpack(t.bytes(), t.dtype, t.size));
  return Array.from(typed(t) as ArrayLike<number | bigint>, (v) => Number(v));
}

/** The same data under another shape of equal size. */
export function reshape(t: Tensor, shape: readonly number[]): Tensor {
  if (sizeOf(shape) !== t.size) fail("reshape", `can't view [${t.shape.join(", ")}] as [${shape.join(", ")}]`);
  return { ...t, shape };
}
