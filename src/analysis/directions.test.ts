import { expect, test } from "vitest";
import { random } from "../random.ts";
import { float32, int64, toFloat32 } from "../tensor/tensor.ts";
import { directionsOf } from "./directions.ts";

const softmax = (z: readonly number[]): number[] => {
  const e = z.map(Math.exp);
  return e.map((value) => value / e.reduce((a, b) => a + b, 0));
};

test("directions of classes have the Fisher information of the probabilities as their mean square", () => {
  const logits = [
    [2, 0.5, -1],
    [0, 0.2, 0.1],
  ];
  const draw = directionsOf({ feeds: [{}], outputs: [[int64([1]), float32([2, 3], logits.flat())]] }, "kl");
  const source = random(5);
  // the first output of real numbers counts
  expect([...draw(0, source).keys()]).toEqual([1]);
  const rounds = 40000;
  const moments = Array.from({ length: 2 }, () => new Array<number>(9).fill(0));
  for (let round = 0; round < rounds; round++) {
    const drawn = draw(0, source);
    const u = toFloat32(drawn.get(1)!);
    for (const [row, sums] of moments.entries())
      for (let i = 0; i < 9; i++) sums[i]! += (u[3 * row + Math.floor(i / 3)]! * u[3 * row + (i % 3)]!) / rounds;
  }
  for (const [row, z] of logits.entries()) {
    const p = softmax(z);
    for (let i = 0; i < 9; i++) {
      const [a, b] = [Math.floor(i / 3), i % 3];
      // means over two rows
      const wanted = ((a === b ? p[a]! : 0) - p[a]! * p[b]!) / 2;
      expect(moments[row]![i], `row ${row}, classes ${a} and ${b}`).toBeCloseTo(wanted, 2.5);
    }
  }
});

test("directions of noise have the length that makes a square a share of the signal, for each output its own", () => {
  const feeds = [{}, {}];
  const outputs = [
    [float32([2], [3, 0]), float32([1], [1])],
    [float32([2], [0, 4]), float32([1], [1])],
  ];
  const drawn = directionsOf({ feeds, outputs }, "noise")(0, random(1));
  const squares = [0, 1].map((at) => [...toFloat32(drawn.get(at)!)].map((u) => u ** 2));
  expect(squares[0]).toEqual([expect.closeTo(2 / (2 * 25), 6), expect.closeTo(2 / (2 * 25), 6)]);
  expect(squares[1]).toEqual([expect.closeTo(2 / (2 * 2), 6)]);
});
