import { beforeAll, expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, tensor } from "../tensor/tensor.ts";
import { calibrate, mergeCalibrations } from "./calibrate.ts";

let engine: Runtime;
beforeAll(async () => {
  engine = await runtime({ threads: 1 });
});

const graph = makeGraph({
  nodes: [makeNode("Relu", ["x"], ["r"]), makeNode("Log", ["r"], ["l"])],
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 3] } }],
  outputs: [{ name: "l", type: { kind: "tensor", dtype: "float32" } }],
});
const generator = random(9);
const feeds: Tensors[] = Array.from({ length: 9 }, () => ({
  x: float32(
    [2, 3],
    Float32Array.from({ length: 6 }, () => generator.normal()),
  ),
}));

test("the order of the samples does not matter, nor does splitting them", async () => {
  const options = { channels: new Map([["x", [0, 1]]]) };
  const forward = await calibrate(graph, engine, ["x", "r"], feeds, options);
  const backward = await calibrate(graph, engine, ["x", "r"], feeds.toReversed(), options);
  const parts = mergeCalibrations(
    await calibrate(graph, engine, ["x", "r"], feeds.slice(0, 4), options),
    await calibrate(graph, engine, ["x", "r"], feeds.slice(4), options),
  );
  for (const other of [backward, parts]) {
    expect(other.samples).toBe(9);
    for (const name of ["x", "r"]) {
      const [a, b] = [forward.tensors.get(name)!, other.tensors.get(name)!];
      expect(b.histogram).toEqual(a.histogram);
      expect(b.meanMin).toBeCloseTo(a.meanMin, 12);
      expect(b.meanMax).toBeCloseTo(a.meanMax, 12);
      for (const axis of name === "x" ? [0, 1] : []) {
        const [first, second] = [a.channels!.get(axis)!, b.channels!.get(axis)!];
        expect(second.absMax).toEqual(first.absMax);
        first.mean.forEach((m, c) => {
          expect(second.mean[c]).toBeCloseTo(m, 12);
        });
      }
    }
  }
});

test("figures are those of the data", async () => {
  const { tensors } = await calibrate(graph, engine, ["x"], feeds, { channels: new Map([["x", [-1, 0]]]) });
  const all = feeds.map(({ x }) => new Float32Array(x!.bytes().slice().buffer));
  const x = tensors.get("x")!;
  expect(x.histogram!.max).toBe(x.max);
  expect(x.max).toBe(Math.max(...all.flatMap((v) => [...v])));
  expect(x.meanMax).toBeCloseTo(all.reduce((sum, v) => sum + Math.max(...v), 0) / 9, 10);
  const second = all.flatMap((v) => [v[1]!, v[4]!]);
  expect(x.channels!.get(-1)!.mean[1]).toBeCloseTo(second.reduce((a, b) => a + b) / 18, 10);
  expect(x.channels!.get(-1)!.absMax[1]).toBe(Math.max(...second.map(Math.abs)));
  const lower = all.flatMap((v) => [...v.subarray(3)]);
  expect(x.channels!.get(0)!.mean[1]).toBeCloseTo(lower.reduce((a, b) => a + b) / 27, 10);
});

test("without histograms, all but these is the same though no tensor leaves the runtime", async () => {
  const whole = await calibrate(graph, engine, ["x", "r", "l"], feeds);
  const extremes = await calibrate(graph, engine, ["x", "r", "l"], feeds, { histograms: false });
  expect(extremes.samples).toBe(whole.samples);
  expect(extremes.growth).toBe(whole.growth);
  for (const [name, { histogram, ...rest }] of whole.tensors) {
    expect(histogram).toBeDefined();
    expect(extremes.tensors.get(name), name).toEqual(rest);
  }
  const zeros = makeGraph({ ...graph, nodes: [makeNode("Compress", ["x", "none"], ["l"])] });
  const empty = { ...zeros, weights: new Map([["none", tensor("bool", [1], new Uint8Array(1))]]) };
  const { tensors } = await calibrate(empty, engine, ["x", "l"], feeds, { histograms: false });
  expect(tensors.get("x")!.max).toBe(whole.tensors.get("x")!.max);
  expect(tensors.get("l")!.samples).toBe(0);
});

test("growth tells whether ranges still widen", async () => {
  const level = (k: number): Tensors => ({ x: float32([2, 3], new Float32Array(6).fill(k)) });
  const steady = await calibrate(graph, engine, ["x"], [1, 1, 1, 1, 1, 1, 1, 1].map(level));
  expect(steady.growth).toBe(0);
  const widening = await calibrate(graph, engine, ["x"], [1, 2, 3, 4, 5, 6, 7, 8].map(level));
  expect(widening.growth).toBeCloseTo(0.5, 10);
});

test.each([true, false])("an infinite tensor is marked, NaN is refused by name and sample", async (histograms) => {
  const zeros = [{ x: float32([2, 3], new Float32Array(6)) }];
  const { tensors } = await calibrate(graph, engine, ["r", "l"], zeros, { histograms });
  expect(tensors.get("l")!.infinite).toBe(true);
  expect(tensors.get("r")!.infinite).toBe(false);
  const bad = { x: float32([2, 3], [0, Number.NaN, 0, 0, 0, 0]) };
  await expect(calibrate(graph, engine, ["x"], [feeds[0]!, bad], { histograms })).rejects.toThrow(
    "'x' is NaN on sample 2",
  );
  await expect(calibrate(graph, engine, ["x"], [], { histograms })).rejects.toThrow(/no data/);
});
