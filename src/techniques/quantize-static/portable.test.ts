import { expect, test } from "vitest";
import { saturatingLayers } from "../../analysis/saturating-layers.ts";
import { makeNode } from "../../graph/graph.ts";
import { float32, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import { engine, network, noise, outputs, quantize, ratio, samples } from "./testing.ts";

/** A layer whose neighbouring weights are of one sign, so that bright pixels saturate, and one of small weights beside large. */
const graph = network({
  nodes: [
    makeNode("Conv", ["x", "w1"], ["c1"], { pads: [1, 1, 1, 1] }, "even"),
    makeNode("Relu", ["c1"], ["r1"]),
    makeNode("Conv", ["r1", "w2"], ["c2"], {}, "sparse"),
    makeNode("Relu", ["c2"], ["y"]),
  ],
  weights: {
    w1: float32(
      [8, 3, 3, 3],
      toFloat32(noise([8, 3, 3, 3], 0.01)).map((v) => 0.3 + v),
    ),
    // every second input channel alone has weights: no pair has two
    w2: float32(
      [8, 8, 1, 1],
      toFloat32(noise([8, 8, 1, 1])).map((v, i) => (i % 2 === 0 ? v : 0)),
    ),
  },
});
const bright = samples.map(({ x }) => ({
  x: float32(
    [1, 3, 12, 12],
    toFloat32(x!).map((v) => 3 + v),
  ),
}));
const plain = { target: "size", equalize: false, protect: false, method: "min-max", simplify: false };
const reach = (weights: typeof graph.weights, name: string): number =>
  Math.max(...toNumbers(weights.get(`${name}_quantized`)!).map(Math.abs));

test("full-range weights saturate on this data, portable ones are shown not to", async () => {
  const { graph: full } = await quantize(graph, plain, bright);
  const clipped = async (g: typeof full): Promise<number[]> =>
    (await saturatingLayers(g, engine, bright.slice(0, 4))).map((layer) => layer.clipped);
  const [even, sparse] = await clipped(full);
  expect(even).toBeGreaterThan(0);
  expect(sparse).toBe(0);
  const { graph: portable, log } = await quantize(graph, { ...plain, portable: true }, bright);
  expect(await clipped(portable)).toEqual([0, 0]);
  expect(log.find((line) => line.startsWith("without VNNI"))).toMatch(/^without VNNI 0 of \d+ sums .* 32767 fits$/);
});

test("only layers that saturate on the data lose a bit where that is asked for", async () => {
  const { graph: reduced, log } = await quantize(
    graph,
    { ...plain, portable: true, portableLayers: "saturating" },
    bright,
  );
  expect([reach(reduced.weights, "w1"), reach(reduced.weights, "w2")]).toEqual([64, 127]);
  expect(log).toContain("1 of 2 weights have 7 bits");
  expect(log.find((line) => line.startsWith("without VNNI"))).toMatch(/^without VNNI 0 of/);
  const { graph: all } = await quantize(graph, { ...plain, portable: true }, bright);
  expect(await ratio(graph, reduced, bright)).toBeGreaterThan((await ratio(graph, all, bright)) - 0.5);
  expect((await outputs(reduced, bright.slice(0, 1)))[0]!.every(Number.isFinite)).toBe(true);
});
