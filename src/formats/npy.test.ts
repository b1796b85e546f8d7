import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import { describe, expect, test } from "vitest";
import { PareError } from "../errors.ts";
import { nodeFiles } from "../platform/node-data.ts";
import type { DType } from "../tensor/dtype.ts";
import { float32, int64, stringTensor, tensor, toNumbers, typed } from "../tensor/tensor.ts";
import { readNpy, readNpz, writeNpy, writeNpz } from "./npy.ts";

const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));
const padded = (start: string, spaces: number, end: string): Uint8Array =>
  fromBase64(`${start}${"ICAg".repeat(spaces)}${end}`);

// files written by NumPy 2
const bigEndianColumnMajor = padded(
  "k05VTVBZAQB2AHsnZGVzY3InOiAnPmkyJywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMyksIH0g",
  19,
  "IAoAAAADAAEABAACAAU=",
);
const unicode = padded(
  "k05VTVBZAQB2AHsnZGVzY3InOiAnPFUzJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAg",
  19,
  "IArpAAAAAAAAAAAAAABhAAAAYgAAAGMAAAA=",
);
const byteStrings = padded(
  "k05VTVBZAQB2AHsnZGVzY3InOiAnfFMyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAg",
  19,
  "IAp4AP/+",
);
const scalar = padded(
  "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKCksIH0gICAg",
  19,
  "IAoAAMA/",
);
const archive = fromBase64(
  "UEsDBC0AAAAIAAAAIQD3QBLq//////////8FABQAYS5ucHkBABAAmAAAAAAAAABMAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TaaGuo6Ce" +
    "ll9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GsY6mjoKtQoUAC4GKGCE0kxQGgBQSwMELQAAAAgAAAAhAEz77xb//////////wUAFABiLm5weQEA" +
    "EACQAAAAAAAAAEwAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgbpNmoq6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkaRjoKRpo6CrUK" +
    "ZAMuBoYGe2QMAFBLAQItAy0AAAAIAAAAIQD3QBLqTAAAAJgAAAAFAAAAAAAAAAAAAACAAQAAAABhLm5weVBLAQItAy0AAAAIAAAAIQBM++8WTAAA" +
    "AJAAAAAFAAAAAAAAAAAAAACAAYMAAABiLm5weVBLBQYAAAAAAgACAGYAAAAGAQAAAAA=",
);

/** A version 1 file with the given header fields over four zero bytes. */
function fileOf(descr: string, shape: string): Uint8Array {
  const text = `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}, }\n`;
  const head = [0x93, ...Buffer.from("NUMPY"), 1, 0, text.length & 255, text.length >> 8];
  return Uint8Array.from([...head, ...Buffer.from(text), 0, 0, 0, 0]);
}

describe("npy", () => {
  test("reads big-endian column-major data as NumPy wrote it", () => {
    const t = readNpy(bigEndianColumnMajor);
    expect([t.dtype, t.shape, toNumbers(t)]).toEqual(["int16", [2, 3], [0, 1, 2, 3, 4, 5]]);
  });

  test("reads text and byte strings as NumPy wrote them", () => {
    expect(readNpy(unicode).strings).toEqual(["é", "abc"]);
    expect(readNpy(byteStrings).strings).toEqual(["x", Uint8Array.of(0xff, 0xfe)]);
  });

  test("writes the bytes NumPy writes", () => {
    expect(writeNpy(float32([], [1.5]))).toEqual(scalar);
    expect(writeNpy(stringTensor([2], ["é", "abc"]))).toEqual(unicode);
  });

  test.each<[DType, number]>([
    ["bool", 1],
    ["int8", 1],
    ["uint8", 1],
    ["int16", 2],
    ["uint16", 2],
    ["int32", 4],
    ["uint32", 4],
    ["int64", 8],
    ["uint64", 8],
    ["float16", 2],
    ["float32", 4],
    ["float64", 8],
    ["complex64", 8],
    ["complex128", 16],
  ])("%s survives a round trip", (dtype, width) => {
    const data = Uint8Array.from({ length: 6 * width }, (_, i) => (dtype === "bool" ? i & 1 : i * 7));
    const back = readNpy(writeNpy(tensor(dtype, [3, 1, 2], data)));
    expect([back.dtype, back.shape, back.bytes()]).toEqual([dtype, [3, 1, 2], data]);
  });

  test("an empty array survives", () => {
    const back = readNpy(writeNpy(float32([0, 4], [])));
    expect([back.shape, back.size]).toEqual([[0, 4], 0]);
  });

  test("refuses what it can't hold, and says what", () => {
    expect(() => readNpy(Uint8Array.of(1, 2, 3))).toThrow("it is not a NumPy array file");
    expect(() => readNpy(fileOf("'|O'", "(1,)"))).toThrow("elements of type '|O'");
    expect(() => readNpy(fileOf("[('a', '<f4')]", "(1,)"))).toThrow("records");
    expect(() => readNpy(fileOf("'<f4'", "(9,)"))).toThrow("takes 36 bytes, it holds 4");
    expect(() => readNpy(fileOf("'<f4'", "(9")).shape).toThrow(PareError);
    expect(() => writeNpy(tensor("bfloat16", [1], new Uint16Array(1)))).toThrow("no type for 'bfloat16'");
  });

  test("an array of the declared size may be followed by other bytes", () => {
    expect(typed(readNpy(fileOf("'|u1'", "(3,)")))).toEqual(new Uint8Array(3));
  });
});

const inflate = promisify(inflateRaw) as (bytes: Uint8Array) => Promise<Uint8Array>;

describe("npz", () => {
  test("reads an archive NumPy deflated", async () => {
    const arrays = await readNpz(archive, inflate);
    expect([...arrays.keys()]).toEqual(["a", "b"]);
    expect(toNumbers(arrays.get("a")!)).toEqual([0, 1, 2]);
    expect(toNumbers(arrays.get("b")!)).toEqual([1, 1, 1, 1]);
  });

  test.each([0, 6] as const)("survives a round trip at level %i, with the same bytes each time", async (level) => {
    const tensors = new Map([
      ["x", float32([2, 2], [1, 2, 3, 4])],
      ["folder/y", int64([-5])],
    ]);
    const bytes = writeNpz(tensors, level);
    expect(writeNpz(tensors, level)).toEqual(bytes);
    const back = await readNpz(bytes, inflate);
    expect([...back.keys()]).toEqual(["x", "folder/y"]);
    expect(toNumbers(back.get("x")!)).toEqual([1, 2, 3, 4]);
    expect(toNumbers(back.get("folder/y")!)).toEqual([-5]);
  });

  test("an array is unpacked only as far as the archive says", async () => {
    const bytes = writeNpz(new Map([["zeros", float32([2 ** 18], new Float32Array(2 ** 18))]]));
    const view = new DataView(bytes.buffer);
    const central = view.getUint32(bytes.length - 6, true);
    view.setUint32(central + 24, 100, true);
    const inflateUpTo = (deflated: Uint8Array, most: number): Promise<Uint8Array> =>
      nodeFiles.decompress("deflate", deflated, most);
    await expect(readNpz(bytes, inflateUpTo)).rejects.toThrow("it can't be unpacked (Cannot create a Buffer larger");
  });

  test("strings without room are refused before they are counted out", () => {
    const bytes = writeNpy(stringTensor([1], ["a"]));
    const text = Buffer.from(bytes)
      .toString("latin1")
      .replace("<U1', ", "<U0', ")
      .replace("(1,), }         ", "(4000000000,), }");
    expect(() => readNpy(Buffer.from(text, "latin1"))).toThrow("strings without room");
  });

  test("a damaged archive is refused", async () => {
    await expect(readNpz(archive.subarray(0, 200), inflate)).rejects.toThrow("not a readable zip archive");
    await expect(readNpz(archive.subarray(0, 10), inflate)).rejects.toThrow("not a readable zip archive");
    const broken = archive.slice();
    broken.fill(0xff, 0x40, 0x50);
    await expect(readNpz(broken, inflate)).rejects.toThrow("npz file: a.npy");
  });
});
