import { expect, test } from "vitest";
import { float32, lazyTensor, stringTensor, type Tensor } from "../tensor/tensor.ts";
import { duplicateWeights, transposedWeights } from "./duplicates.ts";

const ramp = (rows: number, columns: number, change: (i: number) => number = (i) => i): Tensor =>
  float32(
    [rows, columns],
    Float32Array.from({ length: rows * columns }, (_, i) => change(i)),
  );

test("equal content is found, whatever the names; type and shape must agree", () => {
  const weights = new Map<string, Tensor>([
    ["a", ramp(30, 100)],
    ["b", ramp(100, 30)],
    ["c", ramp(30, 100)],
    ["d", ramp(30, 100, (i) => (i === 2999 ? 0 : i))],
    ["e", ramp(30, 100)],
    ["s", stringTensor([2], ["p", "q"])],
    ["t", stringTensor([2], ["p", "q"])],
    ["u", stringTensor([2], ["p", "r"])],
  ]);
  expect(duplicateWeights(weights)).toEqual([
    ["a", "c", "e"],
    ["s", "t"],
  ]);
});

test("a difference between the samples is seen", () => {
  const plain = ramp(300, 1000);
  for (const at of [1500, 150_000, 299_000]) {
    const other = ramp(300, 1000, (i) => (i === at ? -1 : i));
    expect(
      duplicateWeights(
        new Map([
          ["a", plain],
          ["b", other],
        ]),
      ),
    ).toEqual([]);
  }
});

test("large tensors that differ are told apart by kilobytes", () => {
  let read = 0;
  const large = (seed: number): Tensor =>
    lazyTensor("float32", [1 << 14, 1 << 14], (offset, length) => {
      read += length;
      return new Uint8Array(length).fill(seed + (offset % 251));
    });
  const weights = new Map([1, 2, 3].map((seed): [string, Tensor] => [`w${seed}`, large(seed)]));
  expect(duplicateWeights(weights)).toEqual([]);
  expect(transposedWeights(weights)).toEqual([]);
  expect(read).toBeLessThan(1e5);
});

test("transposed pairs are found across tiles", () => {
  const a = ramp(700, 900);
  const turned = float32(
    [900, 700],
    Float32Array.from({ length: 630_000 }, (_, i) => (i % 700) * 900 + Math.floor(i / 700)),
  );
  expect(
    transposedWeights(
      new Map([
        ["a", a],
        ["b", turned],
      ]),
    ),
  ).toEqual([["a", "b"]]);
  const spoilt = float32(
    [900, 700],
    Float32Array.from(new Float32Array(turned.bytes().buffer), (v, i) => (i === 629_998 ? 0 : v)),
  );
  expect(
    transposedWeights(
      new Map([
        ["a", a],
        ["b", spoilt],
      ]),
    ),
  ).toEqual([]);
});
