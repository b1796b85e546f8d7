import { create, fromBinary } from "@bufbuild/protobuf";
import { type TensorProto, TensorProto_DataLocation, TensorProtoSchema } from "onnx-buf";
import { fail, messageOf } from "../../errors.ts";
import { type DType, dtypeOfCode, dtypes, packedBytes } from "../../tensor/dtype.ts";
import { lazyTensor, sizeOf, stringTensor, type Tensor, type TypedArray, tensor } from "../../tensor/tensor.ts";
import type { ByteSource } from "../source.ts";
import { beyond, stringEntry } from "./messages.ts";
import { extract } from "./wire.ts";

/** Where a weight's bytes go when not into the model file itself. */
export interface ExternalSlot {
  readonly location: string;
  readonly offset: number;
}

/** Where the bytes of a tensor lie in a file, for readers that can map them instead of copying. */
export interface Location {
  readonly source: ByteSource;
  readonly offset: number;
}

/** Opens the file that external data names; checks that it may be read. */
export type OpenExternal = (location: string) => ByteSource;

/** What the file said of a tensor beyond shape, type and data (name, doc string, metadata, unknown fields). */
const tensorExtras = new WeakMap<Tensor, Readonly<Record<string, unknown>>>();

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
    const lazy = lazyTensor(dtype, shape, (offset, length, scratch) =>
      located.source.read(located.offset + offset, length, scratch),
    );
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

const placeKeys = new Set(["location", "offset", "length", "checksum"]);
const dataFields = [
  "dims",
  "dataType",
  "dataLocation",
  "externalData",
  "rawData",
  "floatData",
  "doubleData",
  "int32Data",
  "int64Data",
  "uint64Data",
  "stringData",
];

function extraOf(proto: TensorProto): Readonly<Record<string, unknown>> | undefined {
  const externalData = proto.externalData.filter(({ key }) => !placeKeys.has(key));
  const said = beyond(proto, dataFields);
  return externalData.length > 0 ? { ...said, externalData } : said;
}

/** A TensorProto with everything but its packed data; strings included. Without a name: the one its file gave it. */
export function tensorHeader(t: Tensor, name?: string): TensorProto {
  const proto = Object.assign(create(TensorProtoSchema), tensorExtras.get(t));
  if (name !== undefined) proto.name = name;
  proto.dims = t.shape.map(BigInt);
  proto.dataType = dtypes[t.dtype].code;
  if (t.strings) proto.stringData = t.strings.map(encodeString);
  return proto;
}

/** Makes a TensorProto point to its data in another file. */
export function pointOutside(proto: TensorProto, slot: ExternalSlot, byteLength: number): TensorProto {
  proto.dataLocation = TensorProto_DataLocation.EXTERNAL;
  const place = [
    stringEntry("location", slot.location),
    stringEntry("offset", `${slot.offset}`),
    stringEntry("length", `${byteLength}`),
  ];
  proto.externalData = [...place, ...proto.externalData];
  return proto;
}

/** A whole TensorProto, its data in memory or in another file. */
export function tensorProto(t: Tensor, name?: string, slot?: ExternalSlot): TensorProto {
  const proto = tensorHeader(t, name);
  if (slot) return pointOutside(proto, slot, t.byteLength);
  proto.externalData = [];
  if (!t.strings) proto.rawData = t.bytes() as Uint8Array<ArrayBuffer>;
  return proto;
}
