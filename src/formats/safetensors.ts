import { fail, messageOf } from "../errors.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { lazyTensor, sizeOf, type Tensor } from "../tensor/tensor.ts";
import type { ByteSource } from "./source.ts";

/** What a safetensors file holds: tensors by name, in the order of their data, and free text. */
export interface Safetensors {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The format's names of the element types it knows. */
const names: Partial<Record<DType, string>> = {
  bool: "BOOL",
  uint8: "U8",
  int8: "I8",
  uint16: "U16",
  int16: "I16",
  uint32: "U32",
  int32: "I32",
  uint64: "U64",
  int64: "I64",
  float16: "F16",
  bfloat16: "BF16",
  float32: "F32",
  float64: "F64",
  complex64: "C64",
  float8e5m2: "F8_E5M2",
  float8e4m3fn: "F8_E4M3",
  float8e8m0: "F8_E8M0",
};
const dtypeOf = new Map(Object.entries(names).map(([dtype, name]) => [name, dtype as DType]));

const lengthBytes = 8;
const alignment = 8;
/** The format's own limit on the header. */
const maxHeader = 100_000_000;

/**
 * Reads a safetensors file (huggingface/safetensors, format 0.4): a header of JSON, then the data. Tensors stay in the
 * source until asked for.
 *
 * @throws PareError where the header is damaged, or a tensor is of a type ONNX lacks or lies outside the file
 */
export function readSafetensors(source: ByteSource): Safetensors {
  if (source.size < lengthBytes) fail(source.name, "it is too short for a safetensors file");
  const first = source.read(0, lengthBytes);
  const length = Number(new DataView(first.buffer, first.byteOffset).getBigUint64(0, true));
  const dataStart = lengthBytes + length;
  if (length > maxHeader || dataStart > source.size) {
    fail(
      source.name,
      `its header claims ${length} bytes, the file has ${source.size}`,
      "It is cut short or no safetensors file",
    );
  }
  const tensors: [string, Tensor, number][] = [];
  let metadata: Readonly<Record<string, string>> = {};
  for (const [name, entry] of Object.entries(parseHeader(source, length))) {
    if (name === "__metadata__") metadata = textsOf(entry, source.name);
    else tensors.push([name, ...readEntry(source, name, entry, dataStart)]);
  }
  tensors.sort((a, b) => a[2] - b[2]);
  return { tensors: new Map(tensors.map(([name, t]) => [name, t])), metadata };
}

function parseHeader(source: ByteSource, length: number): object {
  try {
    const header: unknown = JSON.parse(new TextDecoder().decode(source.read(lengthBytes, length)));
    if (typeof header === "object" && header !== null && !Array.isArray(header)) return header;
  } catch (error) {
    return fail(
      source.name,
      `its header is not JSON (${messageOf(error)})`,
      "It is damaged or no safetensors file",
      error,
    );
  }
  return fail(source.name, "its header is not an object", "It is damaged or no safetensors file");
}

function textsOf(entry: unknown, who: string): Record<string, string> {
  const texts = Object.entries(entry ?? {});
  if (texts.some(([, text]) => typeof text !== "string")) fail(who, "its metadata holds something that is not text");
  return Object.fromEntries(texts) as Record<string, string>;
}

function readEntry(source: ByteSource, name: string, entry: unknown, dataStart: number): [Tensor, number] {
  const who = `${source.name}: tensor '${name}'`;
  const { dtype: type, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  const dtype = dtypeOf.get(`${type}`);
  if (!dtype)
    return fail(who, `its element type is ${JSON.stringify(type)}`, `pare reads ${[...dtypeOf.keys()].join(", ")}`);
  if (!isSizes(shape) || !isSizes(offsets) || offsets.length !== 2) return fail(who, "its shape or place is damaged");
  const [from, to] = offsets as [number, number];
  const bytes = (sizeOf(shape, who) * dtypes[dtype].bits) / 8;
  if (to - from !== bytes)
    fail(who, `${type} of shape [${shape.join(", ")}] takes ${bytes} bytes, it has ${to - from}`);
  if (dataStart + to > source.size)
    fail(who, `its data ends at byte ${dataStart + to} of ${source.size}`, "The file is cut short");
  return [
    lazyTensor(dtype, shape, (offset, count, scratch) => source.read(dataStart + from + offset, count, scratch)),
    from,
  ];
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/**
 * Tensors as a safetensors file, in chunks: the header, then each tensor's bytes when its turn comes. Wider elements come
 * first, so that all lie aligned.
 *
 * @throws PareError for element types the format has no name for
 */
export function* writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array> {
  const sorted = [...tensors].sort(([, a], [, b]) => dtypes[b.dtype].bits - dtypes[a.dtype].bits);
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [["__metadata__", metadata]] : [];
  let end = 0;
  for (const [name, { dtype, shape, byteLength }] of sorted) {
    const type = names[dtype] ?? fail("writeSafetensors", `the format has no type for '${dtype}' (tensor '${name}')`);
    header.push([name, { dtype: type, shape, data_offsets: [end, end + byteLength] }]);
    end += byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const start = new Uint8Array(lengthBytes + Math.ceil(text.length / alignment) * alignment).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(start.length - lengthBytes), true);
  start.set(text, lengthBytes);
  yield start;
  for (const [, t] of sorted) if (t.byteLength > 0) yield t.bytes();
}
