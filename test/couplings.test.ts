import { describe, expect, test } from "vitest";
import type { Graph } from "../src/graph/graph.ts";
import { assertValid } from "../src/graph/validate.ts";
import { runtime } from "../src/platform/node.ts";
import { observeTypes } from "../src/platform/observe.ts";
import type { Runtime, Tensors } from "../src/platform/runtime.ts";
import { type Couplings, couplings } from "../src/pruning/couplings.ts";
import { cutUnits } from "../src/pruning/cut.ts";
import { maskUnits } from "../src/pruning/cut-mask.ts";
import { random } from "../src/random.ts";
import { toFloat32 } from "../src/tensor/tensor.ts";
import { architectures } from "../src/training/architectures/index.ts";
import { couplingCases } from "./coupling-cases.ts";
import { randomCuts, spreadFeeds } from "./cutting.ts";
import { networks } from "./graphs.ts";

const node = await runtime({ threads: 1 });
const wasm = await runtime({ provider: "wasm", threads: 1 });

async function outputOf(ort: Runtime, graph: Graph, feeds: Tensors): Promise<Float32Array> {
  const session = await ort.open(graph);
  try {
    return toFloat32(Object.values(await session.run(feeds))[0]!).slice();
  } finally {
    await session.release();
  }
}

const free = (found: Couplings) => found.groups.filter(({ frozen }) => frozen === undefined);

/** Largest difference relative to the largest element. */
function distance(a: Float32Array, b: Float32Array): number {
  expect(b.length).toBe(a.length);
  const scale = a.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0) / scale;
}

async function expectLaw(graph: Graph, ratios: readonly number[]): Promise<Couplings> {
  const feeds = spreadFeeds(graph, 1);
  const found = couplings(graph, await observeTypes(graph, node, feeds));
  for (const [i, ratio] of ratios.entries()) {
    const cuts = randomCuts(found, ratio, random(i));
    if (cuts.size === 0) continue;
    const [cut, masked] = [cutUnits(found, cuts), maskUnits(found, cuts)];
    assertValid(cut);
    const expected = await outputOf(node, masked, feeds);
    expect(distance(expected, await outputOf(node, cut, feeds))).toBeLessThan(1e-5);
    expect(distance(expected, await outputOf(wasm, cut, feeds))).toBeLessThan(1e-5);
    // something was taken away, and free sizes stayed free
    const removed = [...cuts].some(([group, kept]) => kept.length < group.units);
    if (removed) expect(distance(expected, await outputOf(node, graph, feeds))).toBeGreaterThan(1e-4);
    const more = spreadFeeds(graph, 2);
    expect(distance(await outputOf(node, masked, more), await outputOf(node, cut, more))).toBeLessThan(1e-5);
  }
  return found;
}

describe("cutting units equals masking them", () => {
  test.each(Object.entries(couplingCases))("%s", async (_, { graph, units, frozen = [] }) => {
    const found = await expectLaw(graph(), [0.2, 0.5, 0.7]);
    expect(free(found).map((group) => group.units)).toEqual(units);
    const reasons = found.groups.map((group) => group.frozen ?? "").join("\n");
    for (const reason of frozen) expect(reasons).toContain(reason);
  });

  test.each(Object.entries(networks))("%s (small)", async (_, graph) => {
    await expectLaw(graph(), [0.5]);
  });

  // 16 pixels and few layers, so that the many sessions take little time
  const small = { size: 16, layers: 2, width: 0.5 };
  test.each(Object.keys(architectures))("%s", async (name) => {
    const { options, build } = architectures[name]!;
    await expectLaw(build(options.parse(name === "lenet-5" ? {} : small), random(1)), [0.5]);
  });
});
