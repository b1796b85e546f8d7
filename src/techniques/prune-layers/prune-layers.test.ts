import { expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { edit } from "../../graph/edit.ts";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { assertValid } from "../../graph/validate.ts";
import { runtime } from "../../platform/node.ts";
import { float32, type Tensor } from "../../tensor/tensor.ts";
import { normal, operators, outputOf, type Skip, testContext } from "../testing.ts";
import { pruneLayers } from "./index.ts";

const ort = await runtime({ threads: 1 });
const samples: Dataset = {
  name: "made up",
  splits: ["all"],
  size: () => 8,
  async *batches({ batch }) {
    for (let at = 0; at < 8; at += batch) yield { inputs: { x: normal([batch, 4, 5, 5], at) }, size: batch };
  },
};
const context = (skips: Skip[] = []) => ({ ...testContext(ort, skips), data: samples });

/** x -> stem -> three residual blocks of two convolutions -> y; the scales weigh the branches. */
function residual(scales: readonly number[]): Graph {
  const weights = new Map<string, Tensor>([["stem", normal([4, 4, 1, 1], 50)]]);
  const nodes = [makeNode("Conv", ["x", "stem"], ["h0"], {}, "stem")];
  for (const [i, scale] of scales.entries()) {
    const w = normal([4, 4, 3, 3], i + 1);
    weights.set(`a${i}`, normal([4, 4, 3, 3], 20 + i));
    weights.set(
      `b${i}`,
      float32(
        w.shape,
        new Float32Array(w.bytes().slice().buffer).map((v) => v * scale),
      ),
    );
    nodes.push(
      makeNode("Conv", [`h${i}`, `a${i}`], [`p${i}`], { pads: [1, 1, 1, 1] }, `block${i}/first`),
      makeNode("Relu", [`p${i}`], [`q${i}`], {}, `block${i}/relu`),
      makeNode("Conv", [`q${i}`, `b${i}`], [`r${i}`], { pads: [1, 1, 1, 1] }, `block${i}/second`),
      makeNode("Add", [`r${i}`, `h${i}`], [`h${i + 1}`], {}, `block${i}/sum`),
    );
  }
  nodes.push(makeNode("Relu", [`h${scales.length}`], ["y"], {}, "last"));
  const border = (name: string) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape: ["n", 4, 5, 5] } as const,
  });
  return makeGraph({ nodes, weights, inputs: [border("x")], outputs: [border("y")] });
}

const feeds = { x: normal([2, 4, 5, 5], 99) };

test("the block of least influence goes, and what is left is the network with a branch of zeros", async () => {
  const graph = residual([3, 0.1, 2]);
  const pruned = await pruneLayers().apply(graph, context());
  assertValid(pruned);
  expect(pruned.nodes.some(({ name }) => name.startsWith("block1/"))).toBe(false);
  expect(pruned.weights.has("a1")).toBe(false);
  expect(operators(pruned.nodes)).toBe("Add 2, Conv 5, Relu 3");
  const zeroed = edit(graph, (draft) => {
    draft.weights.set("b1", float32([4, 4, 3, 3], new Float32Array(144)));
  });
  expect(await outputOf(ort, pruned, feeds)).toEqual(await outputOf(ort, zeroed, feeds));
});

test("a branch of zeros goes without a trace, and the next one is measured without it", async () => {
  const graph = residual([0.2, 0, 3]);
  const once = await pruneLayers({ count: 1 }).apply(graph, context());
  expect(await outputOf(ort, once, feeds)).toEqual(await outputOf(ort, graph, feeds));
  const twice = await pruneLayers({ count: 2 }).apply(graph, context());
  expect(twice.nodes.map(({ name }) => name.split("/")[0])).toEqual([
    "stem",
    ...Array.from({ length: 4 }, () => "block2"),
    "last",
  ]);
});

test("more than there is removes all blocks; the last one leaves the output its name", async () => {
  const graph = residual([1]);
  const bare = makeGraph({ ...graph, nodes: graph.nodes.slice(0, -1), outputs: [{ name: "h1" }] });
  const pruned = await pruneLayers({ count: 5 }).apply(bare, context());
  assertValid(pruned);
  expect(pruned.outputs.map(({ name }) => name)).toEqual(["h1"]);
  expect(operators(pruned.nodes)).toBe("Conv 1");
});

test("excluded blocks stay, and those whose inner values are needed elsewhere say so", async () => {
  const graph = residual([3, 0.1, 2]);
  const chosen = await pruneLayers({ exclude: ["block1/*"] }).apply(graph, context());
  expect(chosen.nodes.some(({ name }) => name === "block1/sum")).toBe(true);
  const shown = { ...graph, outputs: [...graph.outputs, { name: "q1" }] };
  const skips: Skip[] = [];
  const pruned = await pruneLayers().apply(shown, context(skips));
  expect(pruned.nodes.some(({ name }) => name === "block1/sum")).toBe(true);
  expect(skips).toEqual([{ node: "block1/sum", reason: "'q1', computed in its branch, is needed elsewhere" }]);
});

test("a sum of a value and something computed from it without weights is no block", async () => {
  const nodes = [
    makeNode("Tanh", ["x"], ["t"]),
    makeNode("Add", ["x", "t"], ["s"]),
    makeNode("Conv", ["s", "w"], ["y"]),
  ];
  const border = (name: string) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape: ["n", 4, 5, 5] } as const,
  });
  const weights = new Map([["w", normal([4, 4, 1, 1])]]);
  const graph = makeGraph({ nodes, weights, inputs: [border("x")], outputs: [border("y")] });
  expect(await pruneLayers().apply(graph, context())).toBe(graph);
});
