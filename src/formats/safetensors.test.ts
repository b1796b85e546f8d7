import { describe, expect, test } from "vitest";
import { float32, int64, stringTensor, tensor, toNumbers } from "../tensor/tensor.ts";
import { readSafetensors, writeSafetensors } from "./safetensors.ts";
import { memorySource } from "./source.ts";

/** A file with a header of our choice, as the format describes it. */
function fileOf(header: string, data: Uint8Array = new Uint8Array(0), length = header.length): Uint8Array {
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(length));
  return new Uint8Array(Buffer.concat([start, Buffer.from(header), data]));
}
const read = (bytes: Uint8Array) => readSafetensors(memorySource(bytes, "m.safetensors"));

describe("safetensors", () => {
  test("reads a file laid out by the specification, and only what is asked for", () => {
    const header =
      '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"h":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}';
    const data = Uint8Array.of(0x80, 0x3f, ...new Uint8Array(Float32Array.of(1.5, -2).buffer));
    const bytes = fileOf(header, data);
    const reads: number[] = [];
    const source = memorySource(bytes);
    const spy = {
      ...source,
      read: (at: number, length: number) => {
        reads.push(length);
        return source.read(at, length);
      },
    };
    const { tensors, metadata } = readSafetensors(spy);
    expect(reads).toEqual([8, header.length]);
    expect([metadata, [...tensors.keys()]]).toEqual([{ format: "pt" }, ["h", "w"]]);
    expect([toNumbers(tensors.get("w")!), toNumbers(tensors.get("h")!)]).toEqual([[1.5, -2], [1]]);
  });

  test("survives a round trip, wide elements first and aligned", () => {
    const tensors = new Map([
      ["a", tensor("int8", [3], Int8Array.of(-1, 2, 3))],
      ["b", int64([7, -8])],
      ["c", float32([0, 4], [])],
    ]);
    const bytes = new Uint8Array(Buffer.concat([...writeSafetensors(tensors, { note: "é" })]));
    const back = read(bytes);
    expect(back.metadata).toEqual({ note: "é" });
    for (const [name, t] of tensors) {
      const again = back.tensors.get(name)!;
      expect([again.dtype, again.shape, Buffer.from(again.bytes()).toString("hex")]).toEqual([
        t.dtype,
        t.shape,
        Buffer.from(t.bytes()).toString("hex"),
      ]);
    }
    expect([...back.tensors.keys()][0]).toBe("b");
  });

  test("refuses damaged files, and says what is wrong", () => {
    const entry = (more: string) =>
      fileOf(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]${more}}}`, new Uint8Array(8));
    expect(() => read(Uint8Array.of(1))).toThrow("too short");
    expect(() => read(fileOf("{}", undefined, 2 ** 50))).toThrow("its header claims 1125899906842624 bytes");
    expect(() => read(fileOf("[]"))).toThrow("its header is not an object");
    expect(() => read(fileOf("{"))).toThrow("its header is not JSON");
    expect(() => read(entry(',"shape":[3]'))).toThrow(
      "m.safetensors: tensor 'w': F32 of shape [3] takes 12 bytes, it has 8",
    );
    expect(() => read(entry(',"data_offsets":[8,16]'))).toThrow("its data ends at byte");
    expect(() => read(entry(',"dtype":"F3"'))).toThrow('its element type is "F3"');
    expect(() => read(entry(',"shape":[-2]'))).toThrow("its shape or place is damaged");
    expect(() => [...writeSafetensors(new Map([["t", stringTensor([1], ["a"])]]))]).toThrow(
      "no type for 'string' (tensor 't')",
    );
  });
});
