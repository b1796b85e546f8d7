import { expect, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { edit } from "../../graph/edit.ts";
import { float, type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { assertValid } from "../../graph/validate.ts";
import { runtime } from "../../platform/node.ts";
import { float32, type Tensor } from "../../tensor/tensor.ts";
import { normal, operators, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
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
const images = (name: string) => ({ name, type: { kind: "tensor", dtype: "float32", shape: ["n", 4, 5, 5] } as const });
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
  return makeGraph({ nodes, weights, inputs: [images("x")], outputs: [images("y")] });
}

const feeds = { x: normal([2, 4, 5, 5], 99) };

test.each(["divergence", "influence"] as const)(
  "by %s the least block goes, and what is left is the network with a branch of zeros",
  async (score) => {
    const graph = residual([3, 0.1, 2]);
    const pruned = await pruneLayers({ score }).apply(graph, context());
    assertValid(pruned);
    expect(pruned.nodes.some(({ name }) => name.startsWith("block1/"))).toBe(false);
    expect(pruned.weights.has("a1")).toBe(false);
    expect(operators(pruned.nodes)).toBe("Add 2, Conv 5, Relu 3");
    const zeroed = edit(graph, (draft) => {
      draft.weights.set("b1", float32([4, 4, 3, 3], new Float32Array(144)));
    });
    expect(await outputOf(ort, pruned, feeds)).toEqual(await outputOf(ort, zeroed, feeds));
  },
);

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
  expect(skips).toEqual([{ node: "block1/sum", reason: "'q1', computed in its branch, is an output" }]);
});

test("a sum of a value and something computed from it without weights is no block", async () => {
  const nodes = [
    makeNode("Tanh", ["x"], ["t"]),
    makeNode("Add", ["x", "t"], ["s"]),
    makeNode("Conv", ["s", "w"], ["y"]),
  ];
  const weights = new Map([["w", normal([4, 4, 1, 1])]]);
  const graph = makeGraph({ nodes, weights, inputs: [images("x")], outputs: [images("y")] });
  expect(await pruneLayers().apply(graph, context())).toBe(graph);
});

test("without its branch, a rectified sum of what was rectified is left out too", async () => {
  const weights = new Map([
    ["stem", normal([4, 4, 1, 1], 1)],
    ["w", normal([4, 4, 1, 1], 2)],
  ]);
  const nodes = [
    makeNode("Conv", ["x", "stem"], ["h"]),
    makeNode("Relu", ["h"], ["a"]),
    makeNode("Conv", ["a", "w"], ["f"]),
    makeNode("Add", ["a", "f"], ["s"]),
    makeNode("Relu", ["s"], ["y"]),
  ];
  const graph = makeGraph({ nodes, weights, inputs: [images("x")], outputs: [images("y")] });
  expect(operators((await pruneLayers().apply(graph, context())).nodes)).toBe("Conv 1, Relu 1");
});

test("a block whose shortcut is computed stays, and says so", async () => {
  const weights = new Map([
    ["w", normal([4, 4, 1, 1], 1)],
    ["v", normal([4, 4, 1, 1], 2)],
  ]);
  const nodes = [
    makeNode("Relu", ["x"], ["a"]),
    makeNode("Conv", ["a", "w"], ["f"]),
    makeNode("Conv", ["a", "v"], ["shortcut"]),
    makeNode("Add", ["f", "shortcut"], ["y"], {}, "sum"),
  ];
  const graph = makeGraph({ nodes, weights, inputs: [images("x")], outputs: [images("y")] });
  const skips: Skip[] = [];
  expect(await pruneLayers().apply(graph, context(skips))).toBe(graph);
  expect(skips).toEqual([
    { node: "sum", reason: "its shortcut is computed too (a projection, a crop), not the value itself" },
  ]);
});

/** Rows through layers: each x + f(x), its kind telling how the sum is written. */
const rows: Dataset = {
  name: "rows",
  splits: ["all"],
  size: () => 8,
  async *batches({ batch }) {
    for (let at = 0; at < 8; at += batch) yield { inputs: { x: normal([batch, 3, 8], at) }, size: batch };
  },
};
const sequence = (name: string) => ({ name, type: { kind: "tensor", dtype: "float32", shape: ["n", 3, 8] } as const });

test("branches side by side go one by one, and what they share stays with the other", async () => {
  const weights = new Map([
    ["w", normal([8, 8], 1)],
    ["a", normal([8, 8], 2)],
    ["b", normal([8, 8], 3)],
  ]);
  const nodes = [
    makeNode("Tanh", ["x"], ["h"]),
    makeNode("MatMul", ["h", "w"], ["shared"]),
    makeNode("MatMul", ["shared", "a"], ["fa"], {}, "a"),
    makeNode("MatMul", ["shared", "b"], ["fb"], {}, "b"),
    makeNode("Add", ["fa", "fb"], ["both"]),
    makeNode("Add", ["x", "both"], ["y"]),
  ];
  const graph = makeGraph({ nodes, weights, inputs: [sequence("x")], outputs: [sequence("y")] });
  const world = { ...context(), data: rows };
  const without = async (name: "a" | "b", count: number): Promise<string> => {
    const keep = name === "a" ? "b" : "a";
    const options = count === 1 ? { exclude: [keep] } : {};
    return operators((await pruneLayers({ count, ...options }).apply(graph, world)).nodes);
  };
  expect(await without("a", 1)).toBe("Add 1, MatMul 2, Tanh 1");
  expect(await without("b", 1)).toBe("Add 1, MatMul 2, Tanh 1");
  expect(await without("a", 2)).toBe("Identity 1");
});

test.each([
  ["SkipLayerNormalization", "LayerNormalization"],
  ["SkipSimplifiedLayerNormalization", "SimplifiedLayerNormalization"],
])("of %s the normalization stays", async (fused, plain) => {
  const vector = (value: number): Tensor => float32([8], new Float32Array(8).fill(value));
  const weights = new Map([
    ["w", float32([8, 8], new Float32Array(64))],
    ["v", normal([8, 8], 2)],
    ["gamma", vector(2)],
    ["beta", vector(1)],
  ]);
  const inputs = ["x", "f", "gamma", ...(fused === "SkipLayerNormalization" ? ["beta"] : [])];
  const nodes = [
    makeNode("MatMul", ["x", "w"], ["f"], {}, "first"),
    makeNode(`com.microsoft:${fused}`, inputs, ["n", "", "", "s"], { epsilon: float(1e-3) }),
    makeNode("MatMul", ["n", "v"], ["g"], {}, "second"),
    makeNode("Add", ["s", "g"], ["y"]),
  ];
  const opsets = { "": 17, "com.microsoft": 1 };
  const graph = makeGraph({ nodes, weights, opsets, inputs: [sequence("x")], outputs: [sequence("y")] });
  const pruned = await pruneLayers().apply(graph, { ...context(), data: rows });
  expect(operators(pruned.nodes)).toBe(`Add 1, ${[plain, "MatMul"].sort().join(" 1, ")} 1`);
  const fed = { x: normal([2, 3, 8], 9) };
  const [before, after] = [await outputOf(ort, graph, fed), await outputOf(ort, pruned, fed)];
  expect(sqnr(before, after)).toBeGreaterThan(100);
});

test.each(["Add", "com.microsoft:SkipLayerNormalization"])(
  "the bias of a branch that goes into %s goes with it",
  async (op) => {
    const vector = (value: number): Tensor => float32([8], new Float32Array(8).fill(value));
    const weights = new Map([
      ["w", normal([8, 8], 1)],
      ["b", vector(0.5)],
      ["c", vector(0.25)],
      ["gamma", vector(1)],
    ]);
    const fused = op !== "Add";
    const nodes = [
      makeNode("Tanh", ["x"], ["h"]),
      makeNode("MatMul", ["h", "w"], ["product"], {}, "f/product"),
      makeNode("Add", ["b", "product"], ["biased"], {}, "f/bias"),
      makeNode("Add", ["biased", "c"], ["f"], {}, "f/more"),
      fused ? makeNode(op, ["h", "f", "gamma"], ["y"], {}, "f/sum") : makeNode("Add", ["h", "f"], ["y"], {}, "f/sum"),
    ];
    const opsets = { "": 17, "com.microsoft": 1 };
    const graph = makeGraph({ nodes, weights, opsets, inputs: [sequence("x")], outputs: [sequence("y")] });
    const logs: string[] = [];
    const world = { ...context(), data: rows, log: (line: string) => void logs.push(line) };
    for (const score of ["divergence", "influence"] as const) {
      const pruned = await pruneLayers({ score, include: ["f/*"] }).apply(graph, world);
      assertValid(pruned);
      expect(operators(pruned.nodes)).toBe(fused ? "LayerNormalization 1, Tanh 1" : "Tanh 1");
    }
    expect(logs.map((line) => line.split(",")[0])).toEqual(["f/sum: 3 nodes removed", "f/sum: 3 nodes removed"]);
  },
);

/** A decoder of one head a layer with its cache: keys are values. */
function decoder(layers: number): Graph {
  const weights = new Map<string, Tensor>();
  const state = (name: string) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape: ["n", null, 8] } as const,
  });
  const nodes = Array.from({ length: layers }, (_, i) => {
    const x = i === 0 ? "x" : `h${i - 1}`;
    for (const [k, part] of ["k", "q", "o"].entries()) weights.set(`${part}${i}`, normal([8, 8], 10 * i + k));
    return [
      makeNode("MatMul", [x, `k${i}`], [`key${i}`], {}, `layer${i}/k`),
      makeNode("Concat", [`past.${i}.key`, `key${i}`], [`present.${i}.key`], { axis: 1 }, `layer${i}/cache`),
      makeNode("MatMul", [x, `q${i}`], [`query${i}`], {}, `layer${i}/q`),
      makeNode("Transpose", [`present.${i}.key`], [`turned${i}`], { perm: [0, 2, 1] }, `layer${i}/turn`),
      makeNode("MatMul", [`query${i}`, `turned${i}`], [`scores${i}`], {}, `layer${i}/scores`),
      makeNode("Softmax", [`scores${i}`], [`probabilities${i}`], {}, `layer${i}/softmax`),
      makeNode("MatMul", [`probabilities${i}`, `present.${i}.key`], [`context${i}`], {}, `layer${i}/context`),
      makeNode("MatMul", [`context${i}`, `o${i}`], [`f${i}`], {}, `layer${i}/o`),
      makeNode("Add", [x, `f${i}`], [`h${i}`], {}, `layer${i}/sum`),
    ];
  }).flat();
  nodes.push(makeNode("Tanh", [`h${layers - 1}`], ["y"]));
  const numbered = (kind: string) => Array.from({ length: layers }, (_, i) => state(`${kind}.${i}.key`));
  return makeGraph({
    nodes,
    weights,
    inputs: [sequence("x"), ...numbered("past")],
    outputs: [sequence("y"), ...numbered("present")],
  });
}

const histories: Dataset = {
  ...rows,
  async *batches({ batch }) {
    for (let at = 0; at < 8; at += batch) {
      const past = Array.from({ length: 4 }, (_, i) => [`past.${i}.key`, normal([batch, 2, 8], at + i)]);
      yield { inputs: { x: normal([batch, 3, 8], at), ...Object.fromEntries(past) }, size: batch };
    }
  },
};

test("the caches of a decoder go with their layers, and the others are numbered without a gap", async () => {
  const graph = decoder(4);
  const options = { count: 2, include: ["layer0/*", "layer2/*"] };
  const pruned = await pruneLayers(options).apply(graph, { ...context(), data: histories });
  assertValid(pruned);
  expect(pruned.inputs.map(({ name }) => name)).toEqual(["x", "past.0.key", "past.1.key"]);
  expect(pruned.outputs.map(({ name }) => name)).toEqual(["y", "present.0.key", "present.1.key"]);
  expect(pruned.nodes.filter(({ op }) => op === "Concat").map(({ inputs }) => inputs[0])).toEqual([
    "past.0.key",
    "past.1.key",
  ]);
  const zeroed = edit(graph, (draft) => {
    for (const name of ["o0", "o2"]) draft.weights.set(name, float32([8, 8], new Float32Array(64)));
  });
  const [x, a, b] = [normal([1, 3, 8], 5), normal([1, 2, 8], 6), normal([1, 2, 8], 7)];
  const short = await outputOf(ort, pruned, { x, "past.0.key": a, "past.1.key": b });
  const long = { x, "past.0.key": a, "past.1.key": a, "past.2.key": a, "past.3.key": b };
  expect(sqnr(await outputOf(ort, zeroed, long), short)).toBeGreaterThan(100);
});

test("attention whose cache is handed out without an input for it stays", async () => {
  const graph = decoder(1);
  const past = makeNode("Tanh", ["past.0.key"], ["peek"]);
  const shown = { ...graph, nodes: [...graph.nodes, past], outputs: [...graph.outputs, { name: "peek" }] };
  const skips: Skip[] = [];
  expect(await pruneLayers().apply(shown, { ...context(skips), data: histories })).toBe(shown);
  expect(skips).toEqual([{ node: "layer0/sum", reason: "'present.0.key', computed in its branch, is an output" }]);
});

test("training wins back what was lost", async () => {
  const graph = residual([0.4, 0.2]);
  const loss = async (model: Graph): Promise<number> =>
    -sqnr(await outputOf(ort, graph, feeds), await outputOf(ort, model, feeds));
  const cut = await pruneLayers().apply(graph, context());
  const trained = await pruneLayers({ epochs: 20, batch: 4, rate: 0.01, holdOut: 0 }).apply(graph, context());
  expect(operators(trained.nodes)).toBe(operators(cut.nodes));
  expect(await loss(trained)).toBeLessThan((await loss(cut)) - 1);
});
