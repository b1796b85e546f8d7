import { beforeAll, expect, test } from "vitest";
import { calibrate } from "../../analysis/calibrate.ts";
import { reference, signalToNoise } from "../../analysis/output-error.ts";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { observeTypes } from "../../platform/observe.ts";
import type { Runtime, Tensors } from "../../platform/runtime.ts";
import { random } from "../../random.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { equalize } from "./equalize.ts";
import { inputChannels } from "./input-channels.ts";
import { makePlan } from "./plan.ts";

let engine: Runtime;
beforeAll(async () => {
  engine = await runtime({ threads: 1 });
});

const generator = random(21);

function noise(shape: readonly number[], scale: (i: number) => number = () => 0.3): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, (_, i) => generator.normal() * scale(i)),
  );
}

const feeds: Tensors[] = Array.from({ length: 8 }, () => ({ x: noise([1, 4, 8, 8], () => 1) }));

/** Convolution, activation, depthwise convolution, activation, pool, convolution; channel 0 dwarfs the others. */
function chain(activation: "Relu" | "Clip", outputs = ["y"]): Graph {
  const act = (from: string, to: string) => makeNode(activation, [from, ...bounds], [to]);
  const bounds = activation === "Clip" ? ["zero", "six"] : [];
  return makeGraph({
    nodes: [
      makeNode("Conv", ["x", "w1", "b1"], ["c1"]),
      act("c1", "r1"),
      makeNode("Conv", ["r1", "w2"], ["c2"], { group: 8, pads: [1, 1, 1, 1] }),
      act("c2", "r2"),
      makeNode("MaxPool", ["r2"], ["p"], { kernel_shape: [2, 2] }),
      makeNode("Conv", ["p", "w3"], ["y"]),
    ],
    weights: new Map([
      ["w1", noise([8, 4, 1, 1], (i) => (i < 4 ? 2 : 0.05))],
      ["b1", noise([8], (i) => (i < 1 ? 2 : 0.05))],
      ["w2", noise([8, 1, 3, 3])],
      ["w3", noise([6, 8, 1, 1])],
      ["zero", float32([], [0])],
      ["six", float32([], [6])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 4, 8, 8] } }],
    outputs: outputs.map((name) => ({ name, type: { kind: "tensor", dtype: "float32" } })),
  });
}

async function equalized(graph: Graph): Promise<Graph | undefined> {
  const types = await observeTypes(graph, engine, feeds[0]!);
  const plan = makePlan(graph, types, {
    chosen: () => true,
    depthwise: true,
    activationProducts: false,
    integerOutputs: false,
    worth: 0,
    absorb: true,
    blocked: new Set(),
  });
  const channels = inputChannels(graph, plan, types);
  const calibration = await calibrate(graph, engine, [...channels.keys()], feeds, { channels });
  return equalize(graph, plan, calibration);
}

async function channelReach(graph: Graph, name: string): Promise<number[]> {
  const channels = new Map([[name, [1]]]);
  const { tensors } = await calibrate(graph, engine, [name], feeds, { channels });
  return [...tensors.get(name)!.channels!.get(1)!.absMax];
}

test("channels before a depthwise convolution fill one range, and the function stays the same", async () => {
  const graph = chain("Relu");
  const changed = (await equalized(graph))!;
  expect(await signalToNoise(changed, engine, await reference(graph, engine, feeds))).toBeGreaterThan(99);
  const before = await channelReach(graph, "r1");
  const after = await channelReach(changed, "r1");
  expect(Math.max(...before) / Math.min(...before)).toBeGreaterThan(10);
  expect(Math.max(...after) / Math.min(...after)).toBeLessThan(1.01);
  expect(toFloat32(graph.weights.get("w1")!)).not.toEqual(toFloat32(changed.weights.get("w1")!));
});

test("under Clip quiet channels are raised to half the bound, clipped ones left alone", async () => {
  const graph = chain("Clip");
  const changed = (await equalized(graph))!;
  expect(await signalToNoise(changed, engine, await reference(graph, engine, feeds))).toBeGreaterThan(99);
  const after = await channelReach(changed, "r1");
  const before = await channelReach(graph, "r1");
  after.forEach((reach, c) => {
    if (before[c]! > 3) expect(reach).toBeCloseTo(before[c]!, 5);
    else expect(reach).toBeLessThanOrEqual(3.001);
  });
  expect(after.filter((reach, c) => reach > 2 * before[c]!).length).toBeGreaterThan(3);
});

test("values that something else sees are left alone", async () => {
  const changed = await equalized(chain("Relu", ["y", "r1", "r2"]));
  expect(changed).toBeUndefined();
});
