import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import type { Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import { captureSamples } from "./captured.ts";
import { type Reconstruction, reconstruct, reconstructionError, wantedName } from "./reconstruct.ts";

const engine = await runtime({ threads: 1 });
const generator = random(2);
const signal = new AbortController().signal;
const normal = (size: number): Float32Array => Float32Array.from({ length: size }, () => generator.normal());
const w = normal(12);

/** y = relu(x W), and the same with a weight that is a factor times what it should be. */
const original = makeGraph({
  nodes: [makeNode("MatMul", ["x", "w"], ["p"]), makeNode("Relu", ["p"], ["y"])],
  weights: new Map([["w", float32([4, 3], w)]]),
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [null, 4] } }],
  outputs: [{ name: "y" }],
});
const changed: Reconstruction = {
  graph: {
    ...original,
    nodes: [makeNode("Mul", ["half", "factors"], ["w"]), ...original.nodes],
    weights: new Map([
      [
        "half",
        float32(
          [4, 3],
          w.map((v) => v / 2),
        ),
      ],
      ["factors", float32([1, 3], [1, 1, 1])],
    ]),
  },
  output: "y",
  parameters: new Map([["factors", 1]]),
  unit: 0.1,
};
const feeds: Tensors[] = Array.from({ length: 40 }, () => ({ x: float32([1, 4], normal(4)) }));
const options = { runtime: engine, steps: 300, batch: 16, rate: 0.02, random: random(1), signal };

async function samplesOf(limit: number) {
  const values = new Map([
    ["x", "x"],
    ["y", wantedName],
  ]);
  return captureSamples([{ graph: original, values }], engine, feeds, { limit, signal });
}

test("weights that other operators make of parameters learn to give the outputs again", async () => {
  const samples = await samplesOf(32);
  expect(samples.count).toBe(32);
  const before = await reconstructionError(changed, new Map(), samples, options);
  const found = await reconstruct(changed, samples, options);
  expect(await reconstructionError(changed, found, samples, options)).toBeLessThan(before / 1000);
  for (const factor of toFloat32(found.get("factors")!)) expect(factor).toBeCloseTo(2, 1);
});

test("a penalty, fed numbers and the seed count; a falling rate moves less", async () => {
  const samples = await samplesOf(32);
  const held: Reconstruction = {
    ...changed,
    penalty: (a) => {
      const away = a.sub("factors", a.scalar(1));
      return a.mul(a.op("ReduceSum", [a.mul(away, away)], { keepdims: 0 }), "strength");
    },
    fed: (step, steps) => ({ strength: float32([], [step < steps ? 1000 : 0]) }),
  };
  const kept = await reconstruct(held, samples, { ...options, random: random(1) });
  for (const factor of toFloat32(kept.get("factors")!)) expect(factor).toBeCloseTo(1, 1);
  const run = async (seed: number, decays: boolean): Promise<Float32Array> =>
    toFloat32(
      (await reconstruct(changed, samples, { ...options, steps: 20, rate: 0.01, random: random(seed), decays })).get(
        "factors",
      )!,
    );
  expect(await run(5, false)).toEqual(await run(5, false));
  const moved = (factors: Float32Array): number => factors.reduce((sum, f) => sum + Math.abs(f - 1), 0);
  expect(moved(await run(5, true))).toBeLessThan(0.7 * moved(await run(5, false)));
});

test("samples of other shapes are left out, and an abort ends the learning", async () => {
  const mixed = [feeds[0]!, { x: float32([2, 4], normal(8)) }, feeds[1]!];
  const values = new Map([
    ["x", "x"],
    ["y", wantedName],
  ]);
  const samples = await captureSamples([{ graph: original, values }], engine, mixed, { limit: 3, signal });
  expect(samples.count).toBe(2);
  expect(samples.stack([1, 0]).x!.shape).toEqual([2, 4]);
  expect(toFloat32(samples.stack([1, 0]).x!).subarray(4)).toEqual(toFloat32(feeds[0]!.x!));
  const stopped = AbortSignal.abort(new Error("stopped"));
  await expect(reconstruct(changed, samples, { ...options, signal: stopped })).rejects.toThrow("stopped");
});
