import { expect, test } from "vitest";
import { memorySource } from "./source.ts";

test("a Buffer is read as plain bytes, whose slices are copies", () => {
  const buffer = Buffer.from([0, 1, 2, 3, 4]);
  const part = memorySource(buffer).read(1, 3);
  expect(part.constructor).toBe(Uint8Array);
  expect([...part]).toEqual([1, 2, 3]);
  part.slice()[0] = 9;
  expect([...buffer]).toEqual([0, 1, 2, 3, 4]);
});

test("reading beyond the end is an error", () => {
  const source = memorySource(new Uint8Array(4), "model");
  expect(() => source.read(2, 3)).toThrow(/model: bytes 2 to 5 lie beyond its end at 4/);
  expect(() => source.read(-1, 1)).toThrow(/beyond its end/);
});
