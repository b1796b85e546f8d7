import { expect, test } from "vitest";
import { float32, int64, lazyTensor, stringTensor, tensor, toNumbers } from "../tensor/tensor.ts";
import { gathered, zeroed } from "./cut-weights.ts";

const numbers = float32(
  [3, 4, 2],
  Float32Array.from({ length: 24 }, (_, i) => i),
);

test("keeps the indices of every axis, in order", () => {
  const some = gathered(numbers, [[0, 2], [3], undefined]);
  expect(some.shape).toEqual([2, 1, 2]);
  expect(toNumbers(some)).toEqual([6, 7, 22, 23]);
  expect(toNumbers(gathered(numbers, [undefined, [1, 2], [1]]))).toEqual([3, 5, 11, 13, 19, 21]);
});

test("gives any range of bytes, whatever the width of an element and wherever the source lies in memory", () => {
  const sources = [
    numbers,
    tensor(
      "int8",
      [3, 4, 2],
      Int8Array.from({ length: 24 }, (_, i) => i),
    ),
    tensor(
      "float16",
      [3, 4, 2],
      Uint16Array.from({ length: 24 }, (_, i) => 1000 * i),
    ),
    int64(
      Array.from({ length: 24 }, (_, i) => -i),
      [3, 4, 2],
    ),
  ];
  for (const source of sources) {
    const shifted = lazyTensor(source.dtype, source.shape, (offset, length) => {
      const copy = new Uint8Array(length + 1);
      copy.set(source.bytes(offset, length), 1);
      return copy.subarray(1);
    });
    const some = gathered(shifted, [[1, 2], [0, 1, 3], undefined]);
    const all = [...some.bytes()];
    const element = source.byteLength / 24;
    const kept = [8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23];
    expect(all).toEqual(kept.flatMap((i) => [...source.bytes(i * element, element)]));
    for (const [offset, length] of [
      [0, 1],
      [5, 7],
      [some.byteLength - 3, 3],
      [some.byteLength, 0],
    ] as const) {
      expect([...some.bytes(offset, length)]).toEqual(all.slice(offset, offset + length));
    }
  }
});

test("reads rows that are far apart one by one", () => {
  const reads: number[] = [];
  const row = 2 ** 22;
  const large = lazyTensor("uint8", [8, row], (offset, length) => {
    reads.push(offset / row, length / row);
    return new Uint8Array(length).fill(offset / row);
  });
  const some = gathered(large, [[1, 6], [5]]);
  expect([...some.bytes()]).toEqual([1, 6]);
  expect(reads).toEqual([1, 1, 6, 1]);
});

test("keeps packed elements and strings", () => {
  const nibbles = tensor("int4", [2, 3], Uint8Array.of(0x21, 0x43, 0x65));
  expect(toNumbers(gathered(nibbles, [undefined, [0, 2]]))).toEqual([1, 3, 4, 6]);
  const words = stringTensor([3], ["a", "b", "c"]);
  expect(gathered(words, [[0, 2]]).strings).toEqual(["a", "c"]);
});

test("writes zeros where an index goes", () => {
  const zeros = zeroed(numbers, [[0, 2], undefined, [1]]);
  expect(toNumbers(zeros).flatMap((v) => (v === 0 ? [] : [v]))).toEqual([1, 3, 5, 7, 17, 19, 21, 23]);
  expect([...zeros.bytes(6, 9)]).toEqual([...zeros.bytes()].slice(6, 15));
});
