import { didYouMean, fail } from "../errors.ts";

/** Element types of ONNX tensors, by the name ONNX gives them in lower case (onnx.proto, TensorProto.DataType). */
export type DType =
  | "float32"
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "int32"
  | "int64"
  | "string"
  | "bool"
  | "float16"
  | "float64"
  | "uint32"
  | "uint64"
  | "complex64"
  | "complex128"
  | "bfloat16"
  | "float8e4m3fn"
  | "float8e4m3fnuz"
  | "float8e5m2"
  | "float8e5m2fnuz"
  | "uint4"
  | "int4"
  | "float4e2m1"
  | "float8e8m0"
  | "uint2"
  | "int2";

/** What is fixed about an element type. */
export interface DTypeInfo {
  /** TensorProto.DataType number. */
  readonly code: number;
  /** Bits per element; elements below 8 bits are packed low bits first, the tensor's end padded to a byte. 0 for strings. */
  readonly bits: number;
  readonly kind: "float" | "int" | "uint" | "bool" | "complex" | "string";
  /** First ONNX IR version whose readers know the type. */
  readonly ir: number;
}

/** Every ONNX element type. */
export const dtypes: Readonly<Record<DType, DTypeInfo>> = {
  float32: { code: 1, bits: 32, kind: "float", ir: 1 },
  uint8: { code: 2, bits: 8, kind: "uint", ir: 1 },
  int8: { code: 3, bits: 8, kind: "int", ir: 1 },
  uint16: { code: 4, bits: 16, kind: "uint", ir: 1 },
  int16: { code: 5, bits: 16, kind: "int", ir: 1 },
  int32: { code: 6, bits: 32, kind: "int", ir: 1 },
  int64: { code: 7, bits: 64, kind: "int", ir: 1 },
  string: { code: 8, bits: 0, kind: "string", ir: 1 },
  bool: { code: 9, bits: 8, kind: "bool", ir: 1 },
  float16: { code: 10, bits: 16, kind: "float", ir: 1 },
  float64: { code: 11, bits: 64, kind: "float", ir: 1 },
  uint32: { code: 12, bits: 32, kind: "uint", ir: 1 },
  uint64: { code: 13, bits: 64, kind: "uint", ir: 1 },
  complex64: { code: 14, bits: 64, kind: "complex", ir: 1 },
  complex128: { code: 15, bits: 128, kind: "complex", ir: 1 },
  bfloat16: { code: 16, bits: 16, kind: "float", ir: 4 },
  float8e4m3fn: { code: 17, bits: 8, kind: "float", ir: 9 },
  float8e4m3fnuz: { code: 18, bits: 8, kind: "float", ir: 9 },
  float8e5m2: { code: 19, bits: 8, kind: "float", ir: 9 },
  float8e5m2fnuz: { code: 20, bits: 8, kind: "float", ir: 9 },
  uint4: { code: 21, bits: 4, kind: "uint", ir: 10 },
  int4: { code: 22, bits: 4, kind: "int", ir: 10 },
  float4e2m1: { code: 23, bits: 4, kind: "float", ir: 11 },
  float8e8m0: { code: 24, bits: 8, kind: "float", ir: 12 },
  uint2: { code: 25, bits: 2, kind: "uint", ir: 13 },
  int2: { code: 26, bits: 2, kind: "int", ir: 13 },
};

const byCode = new Map(Object.entries(dtypes).map(([name, info]) => [info.code, name as DType]));

/** The element type with a TensorProto.DataType number; undefined for a number ONNX does not define. */
export function knownDtype(code: number): DType | undefined {
  return byCode.get(code);
}

/**
 * The element type with a TensorProto.DataType number.
 *
 * @throws PareError for a number ONNX does not define
 */
export function dtypeOfCode(code: number, who = "tensor"): DType {
  return (
    byCode.get(code) ?? fail(who, `unknown ONNX element type ${code}`, "The file may be damaged, or newer than pare")
  );
}

/**
 * Checks a name against the element types.
 *
 * @throws PareError for an unknown name
 */
export function dtypeOfName(name: string, who = "tensor"): DType {
  if (name in dtypes) return name as DType;
  return fail(who, `unknown element type '${name}'`, didYouMean(name, Object.keys(dtypes)) || "Use an ONNX type name");
}

/** Bytes that `count` elements of a type take when packed. Strings count as 0. */
export function packedBytes(dtype: DType, count: number): number {
  return Math.ceil((count * dtypes[dtype].bits) / 8);
}

/** Whether elements are stored several to a byte. */
export function isPacked(dtype: DType): boolean {
  const { bits } = dtypes[dtype];
  return bits > 0 && bits < 8;
}

/** Integer range of a type, inclusive, e.g. [-8, 7] for int4. Throws for types that are not integers. */
export function integerRange(dtype: DType): readonly [min: number, max: number] {
  const { kind, bits } = dtypes[dtype];
  if (kind === "uint") return [0, 2 ** bits - 1];
  if (kind === "int") return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
  return fail("integerRange", `'${dtype}' is not an integer type`);
}
