import { expect, test } from "vitest";
import { makeGraph } from "../graph/graph.ts";
import { float32 } from "../tensor/tensor.ts";
import { keepZeros } from "./keep-zeros.ts";

const graph = makeGraph({
  nodes: [],
  inputs: [],
  outputs: [],
  weights: new Map([
    ["pruned", float32([2, 3], [1, 0, 2, 0, -0, 3])],
    ["nearly dense", float32([4, 5], [0, ...new Array<number>(19).fill(1)])],
    ["empty", float32([2, 2], [0, 0, 0, 0])],
    ["bias", float32([4], [0, 0, 0, 1])],
  ]),
});
const moment = { step: 1, steps: 2, rate: 0.1 };

test("zeros are held in weights with enough of them, and in their averages", () => {
  const kept = keepZeros(graph, { least: 0.1 });
  expect([...kept.zeros]).toEqual([["pruned", 3]]);
  const learned = (length: number) => ({
    shape: [length],
    value: new Float32Array(length).fill(5),
    average: new Float32Array(length).fill(4),
    before: new Float32Array(length),
  });
  const weights = new Map([...graph.weights].map(([name, { size }]) => [name, learned(size)]));
  kept.apply(moment, weights);
  expect([...weights.get("pruned")!.value]).toEqual([5, 0, 5, 0, 0, 5]);
  expect([...weights.get("pruned")!.average]).toEqual([4, 0, 4, 0, 0, 4]);
  expect(new Set(weights.get("nearly dense")!.value)).toEqual(new Set([5]));
  expect(new Set(weights.get("empty")!.value)).toEqual(new Set([5]));
});

test("weights that are named are held whatever their share", () => {
  const kept = keepZeros(graph, { least: 0, names: ["nearly dense", "empty", "absent"] });
  expect([...kept.zeros]).toEqual([
    ["nearly dense", 1],
    ["empty", 4],
  ]);
});
