import { expect, test } from "vitest";
import { datasetOf } from "../../data/samples.ts";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import type { Exhibit } from "../exhibit.ts";
import { normal, testContext } from "../testing.ts";
import { pruneWeights } from "./index.ts";
import type { Layer } from "./layers.ts";
import { proposeSparsities } from "./sensitivity.ts";

const cpu = await runtime({ threads: 1 });

/** Two branches that are added; what the second one gives is divided by a hundred. */
function branches(): Graph {
  const type = { kind: "tensor", dtype: "float32", shape: ["n", 32] } as const;
  return makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "w1"], ["a"], {}, "loud"),
      makeNode("MatMul", ["x", "w2"], ["b"], {}, "quiet"),
      makeNode("Mul", ["b", "hundredth"], ["c"]),
      makeNode("Add", ["a", "c"], ["y"]),
    ],
    weights: new Map([
      ["w1", normal([32, 32], 1)],
      ["w2", normal([32, 32], 2)],
      ["hundredth", float32([], [0.01])],
    ]),
    inputs: [{ name: "x", type }],
    outputs: [{ name: "y", type }],
  });
}

const data = datasetOf(
  "made up",
  new Map([
    [
      "all",
      {
        count: 20,
        read: async (indices: readonly number[]) => ({
          inputs: { x: normal([indices.length, 32], 7 + indices[0]!) },
          size: indices.length,
        }),
      },
    ],
  ]),
);

const share = (graph: Graph, name: string): number =>
  toFloat32(graph.weights.get(name)!).filter((v) => v === 0).length / 1024;

test("what the outputs hardly feel is pruned most", async () => {
  const exhibits: Exhibit[] = [];
  const context = { ...testContext(cpu, [], exhibits), data };
  const options = { minElements: 1, ends: "prune", density: "sensitivity", sparsity: 0.6 } as const;
  const pruned = await pruneWeights(options).apply(branches(), context);
  expect(share(pruned, "w2")).toBeCloseTo(0.97, 2);
  expect(share(pruned, "w1")).toBeCloseTo(0.23, 2);
  const exhibit = exhibits.find(({ kind }) => kind === "sensitivity");
  if (exhibit?.kind !== "sensitivity") throw new Error("no curves");
  const [loud, quiet] = exhibit.layers;
  expect([loud!.name, quiet!.name]).toEqual(["loud", "quiet"]);
  expect(loud!.curve.map(([amount]) => amount)).toEqual([0.2, 0.4, 0.6, 0.8, 0.9, 0.97]);
  for (const [i, [, noise]] of loud!.curve.entries()) {
    expect(noise / quiet!.curve[i]![1]).toBeGreaterThan(1000);
    if (i > 0) expect(noise).toBeGreaterThan(loud!.curve[i - 1]![1]);
  }
  expect(loud!.proposed).toBeCloseTo(0.23, 6);
  // layers that are named keep their own, and the rest makes up the sparsity of the rest
  const named = await pruneWeights({ ...options, layerSparsity: { quiet: 0.5 } }).apply(branches(), context);
  expect([share(named, "w1"), share(named, "w2")]).toEqual([expect.closeTo(0.6, 2), 0.5]);
  await expect(pruneWeights(options).apply(branches(), testContext(cpu))).rejects.toThrow(/needs data/);
});

test("shares are those of least noise together", () => {
  const layer = (rows: number): Layer => ({ rows, columns: 100 }) as Layer;
  const [small, large] = [layer(10), layer(30)];
  const cubic = (scale: number) => [0.2, 0.6, 0.97].map((s) => [s, scale * s ** 3] as const);
  const shares = proposeSparsities(
    [
      { layer: small, points: cubic(1) },
      { layer: large, points: cubic(1) },
    ],
    0.5,
  );
  // the derivatives 3 s² / n are equal: shares as the roots of sizes, which add up to half of 4000 weights
  const [a, b] = [shares.get(small)!, shares.get(large)!];
  expect(b / a).toBeCloseTo(Math.sqrt(3), 1);
  expect(1000 * a + 3000 * b).toBeCloseTo(2000, 6);
  // beyond what was measured, the rest is shared out evenly
  const beyond = proposeSparsities(
    [
      { layer: small, points: cubic(1) },
      { layer: large, points: cubic(9) },
    ],
    0.99,
  );
  for (const share of beyond.values()) expect(share).toBeCloseTo(0.99, 9);
});
