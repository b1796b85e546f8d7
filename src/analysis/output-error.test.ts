import { beforeAll, expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import type { Runtime } from "../platform/runtime.ts";
import { float32 } from "../tensor/tensor.ts";
import { classDivergence, reference, signalToNoise } from "./output-error.ts";

let engine: Runtime;
beforeAll(async () => {
  engine = await runtime({ threads: 1 });
});

/** y = x * factor; s = softmax(x + shift). */
function graph(factor: number, shift = [0, 0]): Graph {
  return makeGraph({
    nodes: [
      makeNode("Mul", ["x", "factor"], ["y"]),
      makeNode("Add", ["x", "shift"], ["logits"]),
      makeNode("Softmax", ["logits"], ["s"]),
    ],
    weights: new Map([
      ["factor", float32([], [factor])],
      ["shift", float32([2], shift)],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 2] } }],
    outputs: ["y", "s"].map((name) => ({ name, type: { kind: "tensor", dtype: "float32" } })),
  });
}

const feeds = [{ x: float32([1, 2], [3, 4]) }, { x: float32([1, 2], [0, 5]) }];

test("the noise of all outputs is averaged, so that the worst counts most", async () => {
  const wanted = await reference(graph(2), engine, feeds);
  expect(await signalToNoise(graph(2), engine, wanted)).toBe(100);
  // y off by a tenth: noise 0.01 there, none in s
  expect(await signalToNoise(graph(2.2), engine, wanted)).toBeCloseTo(-10 * Math.log10(0.01 / 2), 3);
});

test("a final softmax is judged by what goes into it", async () => {
  const wanted = await reference(graph(2), engine, feeds);
  // adding the same to all logits leaves the softmax as it is: 2 * 2 * 1 of 3^2 + 4^2 + 5^2
  const shifted = await signalToNoise(graph(2, [1, 1]), engine, wanted);
  expect(shifted).toBeCloseTo(-10 * Math.log10(4 / 50 / 2), 3);
});

test("a single score is one class against another", async () => {
  const single = (shift: number): Graph =>
    makeGraph({
      nodes: [makeNode("Add", ["x", "shift"], ["score"])],
      weights: new Map([["shift", float32([1], [shift])]]),
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 1] } }],
      outputs: [{ name: "score", type: { kind: "tensor", dtype: "float32" } }],
    });
  const wanted = await reference(single(0), engine, [{ x: float32([2, 1], [0, 3]) }]);
  const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z));
  const divergence = (p: number, q: number): number => p * Math.log(p / q) + (1 - p) * Math.log((1 - p) / (1 - q));
  const mean = (divergence(0.5, sigmoid(1)) + divergence(sigmoid(3), sigmoid(4))) / 2;
  expect(await classDivergence(single(0), engine, wanted)).toBe(0);
  expect(await classDivergence(single(1), engine, wanted)).toBeCloseTo(mean, 6);
});

test("what both mask with minus infinity is no error", async () => {
  const mask = Number.NEGATIVE_INFINITY;
  const masked = [{ x: float32([1, 2], [3, mask]) }];
  const wanted = await reference(graph(2), engine, masked);
  expect(await signalToNoise(graph(2), engine, wanted)).toBe(100);
  expect(await classDivergence(graph(2), engine, wanted)).toBe(0);
});

test("outputs that are not finite are worth nothing", async () => {
  const wanted = await reference(graph(2), engine, feeds);
  expect(await signalToNoise(graph(Number.POSITIVE_INFINITY), engine, wanted)).toBe(Number.NEGATIVE_INFINITY);
});

test("class probabilities diverge by what is expected of the logarithm of their ratio", async () => {
  const wanted = await reference(graph(2), engine, feeds);
  expect(await classDivergence(graph(2, [7, 7]), engine, wanted)).toBeCloseTo(0, 6);
  // the first output is y = 2 x, of classes whose logits differ by 2 and 10
  const p = (difference: number): number => 1 / (1 + Math.exp(difference));
  const of = (d: number, e: number): number =>
    p(d) * Math.log(p(d) / p(e)) + (1 - p(d)) * Math.log((1 - p(d)) / (1 - p(e)));
  expect(await classDivergence(graph(1), engine, wanted)).toBeCloseTo((of(2, 1) + of(10, 5)) / 2, 5);
  expect(await classDivergence(graph(Number.POSITIVE_INFINITY), engine, wanted)).toBe(Number.POSITIVE_INFINITY);
});
