import { strFromU8, strToU8, type Zippable, zipSync } from "fflate";
import { fail, messageOf } from "../errors.ts";
import { type DType, dtypes, packedBytes } from "../tensor/dtype.ts";
import { sizeOf, stringTensor, type Tensor, tensor } from "../tensor/tensor.ts";
import { readZip, type ZipEntry } from "./zip.ts";

const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const headerAlignment = 64;

/** NumPy's type codes (kind and bytes an element) of the element types NumPy has. */
const codes: Partial<Record<DType, string>> = {
  bool: "b1",
  int8: "i1",
  uint8: "u1",
  int16: "i2",
  uint16: "u2",
  int32: "i4",
  uint32: "u4",
  int64: "i8",
  uint64: "u8",
  float16: "f2",
  float32: "f4",
  float64: "f8",
  complex64: "c8",
  complex128: "c16",
};
const dtypeOfNumpy = new Map(Object.entries(codes).map(([dtype, code]) => [code, dtype as DType]));

interface Header {
  readonly descr: string;
  readonly fortran: boolean;
  readonly shape: readonly number[];
  readonly dataStart: number;
}

/**
 * Reads a NumPy array file (numpy.lib.format, versions 1 to 3): every plain numeric type, booleans and strings, either
 * byte order, either memory order. The tensor views the bytes where they are little-endian and row-major.
 *
 * @param who what to call the file in messages
 * @throws PareError where it is damaged, or holds Python objects or records
 */
export function readNpy(bytes: Uint8Array, who = "npy file"): Tensor {
  const { descr, fortran, shape, dataStart } = readHeader(bytes, who);
  const code = /^([<>|=])([a-zA-Z])(\d+)$/.exec(descr);
  if (!code) return fail(who, `it holds elements of type '${descr}'`, "Save it as a plain numeric array");
  const [, order, kind, digits] = code as unknown as [string, string, string, string];
  const size = sizeOf(shape, who);
  const strings = kind === "U" || kind === "S";
  const width = Number(digits) * (kind === "U" ? 4 : 1);
  const dtype = strings ? "string" : dtypeOfNumpy.get(kind + digits);
  if (!dtype) return fail(who, `it holds elements of type '${descr}'`, "Save it as a plain numeric array");
  if (width === 0 && size > 0) fail(who, `it holds ${size} strings without room for a character`);
  if (bytes.length - dataStart < size * width) {
    fail(
      who,
      `shape (${shape.join(", ")}) of '${descr}' takes ${size * width} bytes, it holds ${bytes.length - dataStart}`,
    );
  }
  let data = bytes.subarray(dataStart, dataStart + size * width);
  if (order === ">") data = swapped(data, kind === "U" ? 4 : kind === "c" ? width / 2 : width);
  if (fortran && shape.length > 1) data = rowMajor(data, shape, width);
  return strings ? stringTensor(shape, readStrings(data, size, width, kind)) : tensor(dtype, shape, data);
}

function readHeader(bytes: Uint8Array, who: string): Header {
  if (bytes.length < 12 || magic.some((byte, i) => bytes[i] !== byte)) fail(who, "it is not a NumPy array file");
  const major = bytes[6]!;
  if (major < 1 || major > 3) fail(who, `it has format version ${major}`, "pare reads versions 1 to 3");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const textStart = major === 1 ? 10 : 12;
  const dataStart = textStart + (major === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  if (dataStart > bytes.length) fail(who, "its header is cut short");
  const text = strFromU8(bytes.subarray(textStart, dataStart), major < 3);
  const descr = /'descr'\s*:\s*(?:'([^']*)'|(\[))/.exec(text);
  const fortran = /'fortran_order'\s*:\s*(True|False)/.exec(text);
  const shape = /'shape'\s*:\s*\(([\d,\sL]*)\)/.exec(text);
  if (!descr || !fortran || !shape) return fail(who, `can't read its header ${JSON.stringify(text.slice(0, 200))}`);
  if (descr[2]) fail(who, "it holds records (a structured type)", "Save each field as an array of its own");
  const dims = shape[1]!.split(",").filter((dim) => dim.trim() !== "");
  return {
    descr: descr[1]!,
    fortran: fortran[1] === "True",
    shape: dims.map((dim) => Number.parseInt(dim, 10)),
    dataStart,
  };
}

function swapped(data: Uint8Array, width: number): Uint8Array {
  const out = data.slice();
  for (let at = 0; at < out.length; at += width) out.subarray(at, at + width).reverse();
  return out;
}

/** Column-major elements of `width` bytes in row-major order. */
function rowMajor(data: Uint8Array, shape: readonly number[], width: number): Uint8Array {
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((a, b) => a * b, width));
  const out = new Uint8Array(data.length);
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < out.length; to += width) {
    for (let k = 0; k < width; k++) out[to + k] = data[from + k]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

function readStrings(data: Uint8Array, size: number, width: number, kind: string): (string | Uint8Array)[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return Array.from({ length: size }, (_, i) => {
    if (kind === "S") {
      let end = (i + 1) * width;
      while (end > i * width && data[end - 1] === 0) end--;
      const text = data.subarray(i * width, end);
      try {
        return utf8.decode(text);
      } catch {
        return text;
      }
    }
    const points: number[] = [];
    for (let at = i * width; at < (i + 1) * width; at += 4) points.push(view.getUint32(at, true));
    while (points.at(-1) === 0) points.pop();
    return points.map((point) => (point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd")).join("");
  });
}

/**
 * A tensor as a NumPy array file (format version 1, little-endian, row-major; strings as UTF-32).
 *
 * @throws PareError for element types NumPy lacks (bfloat16, 8-bit floats, types below 8 bits, bytes that are not text)
 */
export function writeNpy(t: Tensor): Uint8Array {
  const texts = t.strings?.map((s) => {
    if (typeof s !== "string") return fail("writeNpy", "a string that is not UTF-8 can't be stored as text");
    return [...s].map((character) => character.codePointAt(0)!);
  });
  const width = texts ? texts.reduce((most, { length }) => Math.max(most, length), 1) : 0;
  const code = texts ? `U${width}` : codes[t.dtype];
  if (!code) return fail("writeNpy", `NumPy has no type for '${t.dtype}'`, "Convert it to float32 or int8 first");
  const order = dtypes[t.dtype].bits === 8 ? "|" : "<";
  const dims = t.shape.length === 1 ? `${t.shape[0]},` : t.shape.join(", ");
  const text = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${dims}), }`;
  const dataStart = Math.ceil((10 + text.length + 1) / headerAlignment) * headerAlignment;
  const length = texts ? texts.length * width * 4 : packedBytes(t.dtype, t.size);
  const out = new Uint8Array(dataStart + length);
  out.set([...magic, 1, 0]);
  new DataView(out.buffer).setUint16(8, dataStart - 10, true);
  out.fill(0x20, 10, dataStart - 1);
  out.set(strToU8(text), 10);
  out[dataStart - 1] = 0x0a;
  if (!texts) out.set(t.bytes(), dataStart);
  else {
    const points = new DataView(out.buffer, dataStart);
    for (const [i, s] of texts.entries())
      for (const [k, point] of s.entries()) points.setUint32((i * width + k) * 4, point, true);
  }
  return out;
}

/** Unpacks raw deflate data that should take `most` bytes. */
type Inflate = (deflated: Uint8Array, most: number) => Promise<Uint8Array>;

/**
 * Reads a NumPy archive (.npz, stored or deflated): its arrays by name, without ".npy".
 *
 * @param inflate unpacks raw deflate data, and may reject where that takes more than `most` bytes
 * @throws PareError where the archive or one of its arrays is damaged
 */
export async function readNpz(
  bytes: Uint8Array,
  inflate: Inflate,
  who = "npz file",
): Promise<ReadonlyMap<string, Tensor>> {
  const arrays = new Map<string, Tensor>();
  for (const entry of readZip(bytes, who)) {
    if (!entry.name.endsWith(".npy")) continue;
    const part = `${who}: ${entry.name}`;
    arrays.set(
      entry.name.slice(0, -4),
      readNpy(entry.deflated ? await inflated(entry, inflate, part) : entry.data, part),
    );
  }
  return arrays;
}

async function inflated({ data, size }: ZipEntry, inflate: Inflate, who: string): Promise<Uint8Array> {
  const bytes = await inflate(data, size).catch((error: unknown) =>
    fail(who, `it can't be unpacked (${messageOf(error)})`, "The file is damaged or cut short", error),
  );
  return bytes.length === size ? bytes : fail(who, `it unpacks to ${bytes.length} bytes, not ${size}`);
}

/**
 * Named tensors as a NumPy archive (.npz), deflated. The same tensors give the same bytes.
 *
 * @param level deflate level 0 (stored, fast) to 9
 * @throws PareError where {@link writeNpy} does
 */
export function writeNpz(tensors: ReadonlyMap<string, Tensor>, level: 0 | 1 | 6 | 9 = 6): Uint8Array {
  // zip's earliest date: the clock must not enter the file
  const mtime = new Date(1980, 0, 1);
  const files: Zippable = {};
  for (const [name, t] of tensors) files[`${name}.npy`] = [writeNpy(t), { level, mtime }];
  return zipSync(files);
}
