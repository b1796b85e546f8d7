import { expect, test } from "vitest";
import { reference, signalToNoise } from "../../analysis/output-error.ts";
import type { Dataset } from "../../data/dataset.ts";
import { makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import { normal, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
import { quantizeWeights } from "./index.ts";

const cpu = await runtime({ threads: 1 });
const plain = { optimize: "disabled" } as const;
const channels = 64;

/** A normalization that makes a few channels large, two products that read it, and one that reads their product. */
const graph = makeGraph({
  nodes: [
    makeNode("LayerNormalization", ["x", "g", "b"], ["n"]),
    makeNode("MatMul", ["n", "up"], ["u"]),
    makeNode("MatMul", ["n", "gate"], ["a"]),
    makeNode("Sigmoid", ["a"], ["s"]),
    makeNode("Mul", ["u", "s"], ["m"]),
    makeNode("MatMul", ["m", "down"], ["d"], {}, "down"),
    makeNode("Gelu", ["d"], ["e"]),
    makeNode("MatMul", ["e", "head"], ["y"], {}, "head"),
  ],
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 20, channels] } }],
  outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  weights: new Map([
    [
      "g",
      float32(
        [channels],
        Float32Array.from({ length: channels }, (_, c) => (c % 16 === 5 ? 12 : 0.5)),
      ),
    ],
    ["b", normal([channels], 8)],
    ["up", normal([channels, 48], 1)],
    ["gate", normal([channels, 48], 2)],
    ["down", normal([48, channels], 3)],
    ["head", normal([channels, 32], 4)],
  ]),
  opsets: { "": 21 },
  irVersion: 10,
});

const data: Dataset = {
  name: "normal",
  splits: ["all"],
  size: () => 16,
  async *batches({ limit = 16 }) {
    for (let i = 0; i < Math.min(limit, 16); i++) yield { inputs: { x: normal([1, 20, channels], 300 + i) }, size: 1 };
  },
};
const feeds = { x: normal([1, 20, channels], 999) };
const exact = await outputOf(cpu, graph, feeds);
const options = { format: "storage", minElements: 1 } as const;

async function quality(settings: Parameters<typeof quantizeWeights>[0], skips: Skip[] = []): Promise<number> {
  const made = await quantizeWeights({ ...options, ...settings }).apply(graph, { ...testContext(cpu, skips), data });
  return sqnr(exact, await outputOf(cpu, made, feeds, plain));
}

test("weights of large inputs keep more of their bits", async () => {
  // the layers behind the normalization alone, so that nothing else errs
  const include = ["MatMul_u", "MatMul_a"];
  for (const [method, gain] of [
    ["rtn", 2],
    ["search", 0.5],
  ] as const) {
    const before = await quality({ bits: 3, method, include });
    expect(await quality({ bits: 3, method, include, awq: true }), method).toBeGreaterThan(before + gain);
  }
});

test("one scale for a whole weight is fitted anew to each way of scaling its channels", async () => {
  const single = { ...graph, nodes: graph.nodes.slice(0, 2), outputs: [{ name: "u" }] };
  const samples = Array.from({ length: 16 }, (_, i) => ({ x: normal([1, 20, channels], 300 + i) }));
  const products = await reference(single, cpu, samples);
  for (const [bits, method, gain] of [
    [8, "rtn", 1],
    [8, "search", 1],
    [3, "search", -0.1],
  ] as const) {
    const decibels = async (awq: boolean): Promise<number> => {
      const step = quantizeWeights({ ...options, bits, method, awq, granularity: "tensor" });
      return signalToNoise(await step.apply(single, { ...testContext(cpu), data }), cpu, products);
    };
    expect(await decibels(true), `${bits} ${method}`).toBeGreaterThan((await decibels(false)) + gain);
  }
});

test("it goes with GPTQ", async () => {
  const before = await quality({ bits: 3, method: "rtn" });
  expect(await quality({ bits: 3, method: "gptq", awq: true })).toBeGreaterThan(before + 2);
});

test("scaling alone changes nothing: at 8 bits the outputs are as near as before", async () => {
  expect(await quality({ bits: 8, awq: true })).toBeGreaterThan((await quality({ bits: 8 })) - 1);
  const made = await quantizeWeights({ ...options, awq: true, include: ["down"] }).apply(graph, {
    ...testContext(cpu),
    data,
  });
  // the gate's other factor took up what `down` was multiplied with
  const before = toFloat32(graph.weights.get("up")!);
  const after = toFloat32(made.weights.get("up")!);
  const ratio = before.map((v, i) => v / after[i]!);
  for (let i = 48; i < ratio.length; i++) expect(ratio[i]).toBeCloseTo(ratio[i % 48]!, 3);
});

test("where nothing can take the scales up it says so", async () => {
  const skips: Skip[] = [];
  await quality({ awq: true }, skips);
  expect(skips).toEqual([
    { node: "head", reason: "its inputs are not scaled: 'Gelu_e' (Gelu) does not scale with its input" },
  ]);
});

test("without data it says what is missing", async () => {
  await expect(quantizeWeights({ awq: true }).apply(graph, testContext(cpu))).rejects.toThrow(/awq needs samples/);
});
