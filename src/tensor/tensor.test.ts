import { describe, expect, test } from "vitest";
import { PareError } from "../errors.ts";
import { dtypeOfCode, dtypeOfName, dtypes, integerRange, isPacked, packedBytes } from "./dtype.ts";
import { pack, packBits, unpack } from "./pack.ts";
import {
  float32,
  int64,
  lazyTensor,
  reshape,
  sizeOf,
  stringTensor,
  tensor,
  toFloat32,
  toNumbers,
  typed,
} from "./tensor.ts";

describe("packing", () => {
  test("low bits first, the end padded to a byte", () => {
    expect([...pack([1, -2, 7], "int4")]).toEqual([0xe1, 0x07]);
    expect([...pack([0, 1, 2, 3, 1], "uint2")]).toEqual([0b11100100, 0b01]);
    expect([...pack([-2, -1, 0, 1], "int2")]).toEqual([0b01001110]);
    expect([...packBits([1, 0, 0, 0, 0, 0, 0, 1, 1], 1, new Uint8Array(3), 1)]).toEqual([0, 0x81, 1]);
  });

  test.each(["int4", "uint4", "int2", "uint2"] as const)("%s comes back, odd counts included", (dtype) => {
    const [min, max] = integerRange(dtype);
    for (const count of [0, 1, 3, 8, 13]) {
      const values = Array.from({ length: count }, (_, i) => min + ((i * 5) % (max - min + 1)));
      expect([...unpack(pack(values, dtype), dtype, count)]).toEqual(values);
    }
  });

  test("types of whole bytes are refused", () => {
    expect(() => pack([1], "int8")).toThrow("'int8' is not stored several to a byte");
  });
});

describe("element types", () => {
  test("numbers and names agree, unknown ones are refused with a suggestion", () => {
    for (const [name, { code }] of Object.entries(dtypes)) expect(dtypeOfCode(code)).toBe(name);
    expect(() => dtypeOfCode(99, "w")).toThrow("w: unknown ONNX element type 99");
    expect(() => dtypeOfName("floaat32")).toThrow("Did you mean 'float32'");
  });

  test("ranges and sizes", () => {
    expect([integerRange("int8"), integerRange("uint2"), integerRange("int4")]).toEqual([
      [-128, 127],
      [0, 3],
      [-8, 7],
    ]);
    expect(() => integerRange("float32")).toThrow(PareError);
    expect([packedBytes("int4", 3), packedBytes("int2", 5), packedBytes("complex128", 2)]).toEqual([2, 2, 32]);
    expect([isPacked("int2"), isPacked("bool"), isPacked("string")]).toEqual([true, false, false]);
  });
});

describe("tensors", () => {
  test("data must fit the shape", () => {
    expect(() => tensor("float32", [3], new Float32Array(2))).toThrow("float32 of shape [3] takes 12 bytes, got 8");
    expect(() => stringTensor([2], ["a"])).toThrow("takes 2 strings, got 1");
    expect(() => reshape(float32([4], [1, 2, 3, 4]), [3])).toThrow("can't view [4] as [3]");
    for (const shape of [[-1], [0.5], [2 ** 40, 2 ** 40]]) expect(() => sizeOf(shape)).toThrow(PareError);
  });

  test("a part of the bytes can be asked for", () => {
    const t = float32([2, 2], [1, 2, 3, 4]);
    expect(new Float32Array(t.bytes(4, 8).slice().buffer)).toEqual(Float32Array.of(2, 3));
    expect(reshape(t, [4]).bytes(8).length).toBe(8);
  });

  test("lazy bytes are produced when asked for, each time anew", () => {
    let reads = 0;
    const t = lazyTensor("uint8", [4], (offset, length) => {
      reads += 1;
      return Uint8Array.of(1, 2, 3, 4).subarray(offset, offset + length);
    });
    expect([t.size, t.byteLength, reads]).toEqual([4, 4, 0]);
    expect([[...t.bytes(1, 2)], toNumbers(t), reads]).toEqual([[2, 3], [1, 2, 3, 4], 2]);
  });

  test("typed views data at any offset", () => {
    const odd = new Uint8Array(9);
    odd.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 1);
    expect(typed(tensor("float32", [2], odd.subarray(1)))).toEqual(Float32Array.of(1.5, -2));
  });

  test("numbers of every kind", () => {
    expect(toNumbers(int64([1, -5, 2 ** 40]))).toEqual([1, -5, 2 ** 40]);
    expect(toNumbers(tensor("uint64", [1], BigUint64Array.of(7n)))).toEqual([7]);
    expect([...toFloat32(tensor("int16", [2], Int16Array.of(-3, 4)))]).toEqual([-3, 4]);
    expect([...toFloat32(tensor("float64", [1], Float64Array.of(0.1)))]).toEqual([Math.fround(0.1)]);
    expect(toNumbers(tensor("bool", [2], Uint8Array.of(1, 0)))).toEqual([1, 0]);
    expect(() => toNumbers(stringTensor([1], ["a"]))).toThrow("can't convert 'string'");
    expect(() => toFloat32(tensor("complex64", [1], new Float32Array(2)))).toThrow(PareError);
  });
});
