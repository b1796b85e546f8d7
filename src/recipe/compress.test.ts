import { expect, test } from "vitest";
import type { Dataset } from "../data/dataset.ts";
import { datasetOf } from "../data/samples.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { normal, testContext } from "../techniques/testing.ts";
import { float32 } from "../tensor/tensor.ts";
import { compress } from "./compress.ts";
import { type Judge, makeJudge } from "./judge.ts";
import { splitData } from "./split.ts";

const onnx = await runtime({ threads: 1 });

function network(): Graph {
  return makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w1"], ["h"]),
      makeNode("Relu", ["h"], ["a"]),
      makeNode("MatMul", ["a", "w2"], ["y"]),
    ],
    weights: new Map([
      ["w1", normal([128, 256])],
      ["w2", normal([256, 10], 2)],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 128] } }],
    outputs: [{ name: "y" }],
  });
}

function noise(count: number): Dataset {
  const read = async (indices: readonly number[]) => {
    const rows = indices.map((i) => {
      const stream = random(i);
      return Array.from({ length: 128 }, () => stream.normal());
    });
    return { inputs: { x: float32([indices.length, 128], rows.flat()) }, size: indices.length };
  };
  return datasetOf("noise", new Map([["all", { count, read }]]));
}

test("the next best plan takes the place of one that the final timing does not bear out", async () => {
  const graph = network();
  const parts = await splitData(noise(200), { seed: 1 });
  const signal = new AbortController().signal;
  const measured = await makeJudge(graph, { runtime: onnx, parts, seed: 1, signal, seconds: 0.02 });
  // what is timed in so short a while is left out, so that sizes alone rank the plans
  const gain: Judge["gain"] = async (g) => ({ ...(await measured.gain(g)), latency: 1, latencyInterval: [1, 1] });
  const judge: Judge = { ...measured, gain };
  const looked: Graph[] = [];
  const result = await compress(graph, { ...testContext(onnx), data: parts.calibration }, judge, {
    target: "balanced",
    maxDrop: 1,
    timeLimit: 60,
    async lastLook(changed) {
      looked.push(changed);
      const ratio = looked.length === 1 ? 1.5 : 0.5;
      return { latency: ratio, latencyInterval: [ratio, ratio], slower: [] };
    },
  });
  expect(looked).toHaveLength(2);
  expect(result.graph).toBe(looked[1]);
  expect(result.gain?.latency).toBe(0.5);
  const refused = result.plans.filter(({ reason }) => reason.startsWith("in the final timing slower: 1.50 times"));
  expect(refused).toHaveLength(1);
  expect(refused[0]!.outcome).toBe("no gain");
});
