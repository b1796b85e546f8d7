import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { type TensorProto, TensorProto_DataLocation, TensorProtoSchema } from "onnx-buf";
import { fail, messageOf } from "../../errors.ts";
import { type DType, dtypeOfCode, dtypes, packedBytes } from "../../tensor/dtype.ts";
import { lazyTensor, sizeOf, stringTensor, type Tensor, type TypedArray, tensor } from "../../tensor/tensor.ts";
import type { ByteSource } from "../source.ts";
import { extract } from "./wire.ts";

/** Where the bytes of a tensor lie in a file, for readers that can map them instead of copying. */
export interface Location {
  readonly source: ByteSource;
  readonly offset: number;
}

/** Opens the file that external data names; checks that it may be read. */
export type OpenExternal = (location: string) => ByteSource;

/** Names of tensors whose file said more than shape, type and data (doc string, metadata, unknown fields). */
export const tensorExtras = new WeakMap<Tensor, Partial<TensorProto>>();

/** Where lazy tensors read from file keep their bytes. */
export const tensorLocations = new WeakMap<Tensor, Location>();

const rawDataField = 9;
const smallTensor = 4096;

/** Reads one TensorProto that lies at a span of the source; its data stays there if it is large. */
export function readTensorAt(
  source: ByteSource,
  start: number,
  end: number,
  open: OpenExternal,
): { name: string; tensor: Tensor } {
  if (end - start <= smallTensor) {
    const proto = decode(source, source.read(start, end - start));
    return { name: proto.name, tensor: readTensor(proto, source.name, open) };
  }
  const { spans, rest } = extract(source, start, end, rawDataField);
  const proto = decode(source, rest);
  const raw = spans.at(-1);
  if (!raw) return { name: proto.name, tensor: readTensor(proto, source.name, open) };
  const located = { source, offset: raw.dataStart, length: raw.end - raw.dataStart };
  return { name: proto.name, tensor: readTensor(proto, source.name, open, located) };
}

function decode(source: ByteSource, bytes: Uint8Array): TensorProto {
  try {
    return fromBinary(TensorProtoSchema, bytes);
  } catch (error) {
    return fail(source.name, `can't decode a tensor (${messageOf(error)})`, "The file is damaged", error);
  }
}

/**
 * A decoded TensorProto as a Tensor. Data given as typed fields is packed; raw and external data stay where they are.
 *
 * @param raw where the raw data lies, if it was left out of the message
 * @throws PareError where data and shape disagree
 */
export function readTensor(
  proto: TensorProto,
  file: string,
  open: OpenExternal,
  raw?: Location & { readonly length: number },
): Tensor {
  const who = `${file}: tensor '${proto.name}'`;
  const shape = proto.dims.map(Number);
  const dtype = dtypeOfCode(proto.dataType, who);
  const size = sizeOf(shape, who);
  const result = build(proto, dtype, shape, size, who, open, raw);
  const extra = extraOf(proto);
  if (extra) tensorExtras.set(result, extra);
  return result;
}

function build(
  proto: TensorProto,
  dtype: DType,
  shape: number[],
  size: number,
  who: string,
  open: OpenExternal,
  raw?: Location & { readonly length: number },
): Tensor {
  const external = proto.dataLocation === TensorProto_DataLocation.EXTERNAL;
  if (dtype === "string") {
    if (external || raw) fail(who, "strings can't be stored as raw or external data");
    return stringTensor(shape, proto.stringData.map(decodeString));
  }
  const expected = packedBytes(dtype, size);
  const located = external ? externalLocation(proto, who, open, expected) : raw;
  if (located) {
    checkLength(who, dtype, shape, expected, located.length);
    const lazy = lazyTensor(dtype, shape, (offset, length) => located.source.read(located.offset + offset, length));
    tensorLocations.set(lazy, { source: located.source, offset: located.offset });
    return lazy;
  }
  const data = proto.rawData.length > 0 ? proto.rawData : typedData(proto, dtype);
  checkLength(who, dtype, shape, expected, data.byteLength);
  return tensor(dtype, shape, data);
}

function checkLength(who: string, dtype: DType, shape: readonly number[], expected: number, got: number): void {
  if (got === expected) return;
  fail(who, `${dtype} of shape [${shape.join(", ")}] takes ${expected} bytes, the file holds ${got}`, "It is damaged");
}

function externalLocation(
  proto: TensorProto,
  who: string,
  open: OpenExternal,
  expected: number,
): Location & { readonly length: number } {
  const entries = new Map(proto.externalData.map(({ key, value }) => [key, value]));
  const location = entries.get("location") ?? fail(who, "external data without a location");
  const offset = Number(entries.get("offset") ?? 0);
  const length = Number(entries.get("length") ?? expected);
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0) {
    fail(who, `external data has a bad offset or length (${entries.get("offset")}, ${entries.get("length")})`);
  }
  const source = open(location);
  if (offset + length > source.size) {
    fail(who, `its data ends at byte ${offset + length} of '${location}', which has ${source.size}`, "It is cut short");
  }
  return { source, offset, length };
}

function typedData(proto: TensorProto, dtype: DType): TypedArray {
  switch (dtype) {
    case "float32":
    case "complex64":
      return Float32Array.from(proto.floatData);
    case "float64":
    case "complex128":
      return Float64Array.from(proto.doubleData);
    case "int64":
      return BigInt64Array.from(proto.int64Data);
    case "uint64":
      return BigUint64Array.from(proto.uint64Data);
    case "uint32":
      return Uint32Array.from(proto.uint64Data, Number);
    case "int32":
      return Int32Array.from(proto.int32Data);
    default:
      return dtypes[dtype].bits === 16 ? Uint16Array.from(proto.int32Data) : Uint8Array.from(proto.int32Data);
  }
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as a string where they are UTF-8, else unchanged. */
export function decodeString(bytes: Uint8Array): string | Uint8Array {
  try {
    return strict.decode(bytes);
  } catch {
    return bytes;
  }
}

/** The inverse of {@link decodeString}. */
export function encodeString(text: string | Uint8Array): Uint8Array<ArrayBuffer> {
  return (typeof text === "string" ? new TextEncoder().encode(text) : text) as Uint8Array<ArrayBuffer>;
}

const externalKeys = new Set(["location", "offset", "length", "checksum"]);

function extraOf(proto: TensorProto): Partial<TensorProto> | undefined {
  const custom = proto.externalData.filter(({ key }) => !externalKeys.has(key));
  const said =
    proto.docString || proto.metadataProps.length > 0 || proto.segment || proto.$unknown || custom.length > 0;
  if (!said) return undefined;
  const { docString, metadataProps, segment, $unknown } = proto;
  return {
    docString,
    metadataProps,
    ...(segment && { segment }),
    ...($unknown && { $unknown }),
    ...(custom.length > 0 && { externalData: custom }),
  };
}

/** A TensorProto with everything but raw data; strings included. */
export function tensorHeader(t: Tensor, name: string): TensorProto {
  const { externalData, $unknown, docString, metadataProps, segment } = tensorExtras.get(t) ?? {};
  const extra: MessageInitShape<typeof TensorProtoSchema> = {
    ...(docString && { docString }),
    ...(metadataProps && { metadataProps }),
    ...(segment && { segment }),
  };
  const proto = create(TensorProtoSchema, {
    ...extra,
    name,
    dims: t.shape.map(BigInt),
    dataType: dtypes[t.dtype].code,
    ...(t.strings && { stringData: t.strings.map(encodeString) }),
  });
  if ($unknown) proto.$unknown = $unknown;
  if (externalData) proto.externalData = externalData;
  return proto;
}

/** A whole TensorProto, its data in memory. */
export function tensorProto(t: Tensor, name = ""): TensorProto {
  const proto = tensorHeader(t, name);
  if (!t.strings) proto.rawData = t.bytes() as Uint8Array<ArrayBuffer>;
  return proto;
}
