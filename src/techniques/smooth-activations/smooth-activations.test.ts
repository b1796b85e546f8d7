import { expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import { quantizeDynamic } from "../quantize-dynamic/index.ts";
import { quantizeStatic } from "../quantize-static/index.ts";
import type { Step } from "../technique.ts";
import { normal, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
import { Channels } from "./channels.ts";
import { smoothActivations } from "./index.ts";
import { chooseScales } from "./search.ts";

const cpu = await runtime({ threads: 1 });
const channels = 32;

/** Two blocks of which the normalizations make some channels a hundred times as large as the others. */
const graph = makeGraph({
  nodes: [
    makeNode("LayerNormalization", ["x", "g", "b"], ["n"]),
    makeNode("MatMul", ["n", "up"], ["u"], {}, "up"),
    makeNode("Relu", ["u"], ["r"]),
    makeNode("MatMul", ["r", "down"], ["d"], {}, "down"),
    makeNode("Gelu", ["d"], ["e"]),
    makeNode("MatMul", ["e", "head"], ["y"], {}, "head"),
  ],
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["batch", channels] } }],
  outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  weights: new Map([
    [
      "g",
      float32(
        [channels],
        Float32Array.from({ length: channels }, (_, c) => (c % 8 === 3 ? 50 : 0.5)),
      ),
    ],
    ["b", normal([channels], 8)],
    // what large channels are multiplied with is small, as it is in language models
    [
      "up",
      float32(
        [channels, 48],
        toFloat32(normal([channels, 48], 1)).map((v, at) => (Math.floor(at / 48) % 8 === 3 ? v / 50 : v)),
      ),
    ],
    ["down", normal([48, channels], 3)],
    ["head", normal([channels, 16], 4)],
  ]),
  opsets: { "": 20 },
  irVersion: 9,
});

const data: Dataset = {
  name: "normal",
  splits: ["all"],
  size: () => 32,
  async *batches({ batch, limit = 32 }) {
    for (let i = 0; i + batch <= Math.min(limit, 32); i += batch) {
      yield { inputs: { x: normal([batch, channels], 300 + i) }, size: batch };
    }
  },
};
const feeds = { x: normal([64, channels], 999) };
const exact = await outputOf(cpu, graph, feeds);

test("outputs stay the same, with the exponent given and with each layer's own", async () => {
  for (const options of [{}, { alpha: 0.5 }, { alpha: 0 }, { alpha: 1 }]) {
    const smoothed = await smoothActivations(options).apply(graph, { ...testContext(cpu), data });
    expect(smoothed.weights.get("up")).not.toBe(graph.weights.get("up"));
    expect(sqnr(exact, await outputOf(cpu, smoothed, feeds))).toBeGreaterThan(110);
  }
});

test("8 bits err less afterwards, with ranges found on data and with ranges found at run time", async () => {
  const quality = async (...steps: readonly Step[]): Promise<number> => {
    let current = graph;
    for (const step of steps) current = await step.apply(current, { ...testContext(cpu), data });
    return sqnr(exact, await outputOf(cpu, current, feeds));
  };
  // what outliers spoil most would else stay float
  const integers = [quantizeStatic({ samples: 32, protect: false }), quantizeDynamic({})];
  for (const quantize of integers) {
    expect(await quality(smoothActivations(), quantize), quantize.name).toBeGreaterThan((await quality(quantize)) + 6);
  }
});

test("a layer in front of which nothing takes the scales up is told of", async () => {
  const skips: Skip[] = [];
  await smoothActivations().apply(graph, { ...testContext(cpu, skips), data });
  expect(skips).toEqual([{ node: "head", reason: "'Gelu_e' (Gelu) does not scale with its input" }]);
});

test("scales follow the formula, up to a common factor, and leave channels that are always zero", () => {
  const seen = new Channels(4, 1);
  seen.add(float32([2, 4], [8, 1, 0, -2, -4, 0.5, 0, 1]));
  const readers = { largest: Float64Array.of(2, 1, 3, 0.5), rows: [Float32Array.of(2, 1, 3, 0.5)] };
  const scales = chooseScales(seen, readers, 0.5)!;
  // sqrt(8 / 2), sqrt(1 / 1), -, sqrt(2 / 0.5)
  expect(scales[0]! / scales[1]!).toBeCloseTo(2, 12);
  expect(scales[3]! / scales[1]!).toBeCloseTo(2, 12);
  expect(scales[2]).toBe(1);
  expect(scales[0]! * scales[1]! * scales[3]!).toBeCloseTo(1, 12);
});

test("even channels are left alone", () => {
  const seen = new Channels(2, 1);
  seen.add(float32([2, 2], [1, 1, -1, -1]));
  const readers = { largest: Float64Array.of(1, 1), rows: [Float32Array.of(1, -1)] };
  expect(chooseScales(seen, readers, undefined)).toBeUndefined();
});
