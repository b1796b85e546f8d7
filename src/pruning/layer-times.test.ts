import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { channelBlock } from "../platform/channel-block.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, type Tensor } from "../tensor/tensor.ts";
import { couplings } from "./couplings.ts";
import { cutUnits } from "./cut.ts";
import { layerTimes } from "./layer-times.ts";
import { productsOf } from "./products.ts";
import { cutTypes, highest, layerSizes } from "./widths.ts";

const ort = await runtime({ threads: 1 });

function normal(shape: readonly number[], seed: number): Tensor {
  const source = random(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => source.normal()),
  );
}

/** A convolution, a depthwise and a grouped one, a transposed one, and a product behind a flattening. */
function network(): Graph {
  const weights = new Map<string, Tensor>([
    ["w1", normal([16, 3, 3, 3], 1)],
    ["w2", normal([16, 1, 3, 3], 2)],
    ["w3", normal([8, 8, 1, 1], 3)],
    ["w4", normal([8, 12, 2, 2], 4)],
    ["w5", normal([12 * 64, 5], 5)],
  ]);
  const pads = [1, 1, 1, 1];
  const nodes = [
    makeNode("Conv", ["x", "w1"], ["a"], { pads, strides: [2, 2] }),
    makeNode("Conv", ["a", "w2"], ["b"], { pads, group: 16 }),
    makeNode("Conv", ["b", "w3"], ["c"], { group: 2 }),
    makeNode("ConvTranspose", ["c", "w4"], ["d"], { strides: [2, 2] }),
    makeNode("Flatten", ["d"], ["f"]),
    makeNode("Gemm", ["f", "w5"], ["y"]),
  ];
  const inputs = [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 3, 8, 8] } } as const];
  return makeGraph({ nodes, weights, inputs, outputs: [{ name: "y" }] });
}

const graph = network();
const found = couplings(graph, await observeTypes(graph, ort, { x: normal([1, 3, 8, 8], 6) }));
const groups = found.groups.filter(({ frozen }) => frozen === undefined);

test("sizes of layers follow from widths as they do from a cut", () => {
  const widths = new Map(groups.map((group, i) => [group, Math.ceil(group.units / (2 + i))]));
  const cuts = new Map([...widths].map(([group, width]) => [group, highest(new Float64Array(group.units), width)]));
  const [cut, types] = [cutUnits(found, cuts), cutTypes(found, cuts)];
  const layers = layerSizes(found, groups, productsOf(found));
  expect(layers.map(({ product }) => product.weight)).toEqual(["w1", "w2", "w3", "w4", "w5"]);
  for (const { product, shapes } of layers) {
    expect(shapes(widths)).toEqual({
      x: types.get(product.x)!.shape,
      weight: cut.weights.get(product.weight)!.shape,
    });
  }
});

test("layers are timed once for each shape, and narrower ones never take longer", async () => {
  const { signal } = new AbortController();
  const counts: number[] = [];
  const times = await layerTimes(found, groups, ort, signal, (done, total) => counts.push(done, total));
  expect(counts.at(-1)).toBe(counts.at(-2));
  const at = (share: number): number =>
    times.total(new Map(groups.map((group) => [group, Math.max(1, Math.round(share * group.units))])));
  const whole = times.total(new Map());
  expect(whole).toBeGreaterThan(0);
  expect(at(1)).toBe(whole);
  expect(at(0.5)).toBeLessThanOrEqual(whole);
  expect(at(0.25)).toBeLessThanOrEqual(at(0.5));
  const block = (await channelBlock(ort)) ?? 1;
  // of what the transposed convolution makes, whose layout is plain
  expect(groups.map(times.multiple)).toEqual([...groups.slice(1).map(() => block), 1]);
  const around = groups.map((group) => times.around(group, new Map()));
  for (const part of around) expect(part).toBeLessThanOrEqual(whole);
  // the second time nothing is left to time
  const again: number[] = [];
  await layerTimes(found, groups, ort, signal, (done) => again.push(done));
  expect(again).toEqual([]);
});
