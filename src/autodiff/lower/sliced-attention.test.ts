import { expect, test } from "vitest";
import { type Graph, isNode, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { intermediates, observeTypes } from "../../platform/observe.ts";
import { random } from "../../random.ts";
import { float32, sizeOf, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { differentiate } from "../gradient.ts";
import { attentionInSlices } from "./sliced-attention.ts";

const onnx = await runtime({ threads: 2 });
const r = random(5);
const draw = (...shape: number[]): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => r.normal()),
  );

// 3 x 5 heads of 280 queries and 272 keys
const queries = draw(3, 5, 280, 8);
const others = { k: draw(3, 5, 272, 8), v: draw(3, 5, 272, 6), scale: float32([], [0.3]) };
const turn = makeNode("Transpose", ["k"], ["turned"], { perm: [0, 1, 3, 2] });
const scaled = makeNode("Mul", ["q", "scale"], ["scaled"]);
const scored = makeNode("MatMul", ["scaled", "turned"], ["s"]);
const softmax = makeNode("Softmax", ["masked"], ["p"], { axis: 3 });
const mixed = makeNode("MatMul", ["p", "v"], ["y"]);

/** The graph of Σ y² and its gradients, and what observation knows of it. */
async function backward(nodes: readonly Node[], weights: Readonly<Record<string, Tensor>>) {
  const graph = makeGraph({
    nodes: [...nodes, makeNode("ReduceSumSquare", ["y"], ["loss"], { keepdims: 0 })],
    inputs: [{ name: "q", type: { kind: "tensor", dtype: "float32", shape: queries.shape } }],
    outputs: [{ name: "loss" }],
    weights: new Map(Object.entries(weights)),
    opsets: { "": 21 },
  });
  const made = differentiate(graph, "loss", ["q", "k", "v"], await observeTypes(graph, onnx, { q: queries }));
  const outputs = [{ name: "loss" }, { name: "y" }, ...[...made.gradients.values()].map((name) => ({ name: name! }))];
  return { graph: { ...made.graph, outputs }, types: made.types };
}

async function run(graph: Graph): Promise<Readonly<Record<string, Tensor>>> {
  const session = await onnx.open(graph);
  const results = await session.run({ q: queries });
  await session.release();
  return results;
}

/** That two graphs give the same but for rounding. */
async function expectSame(graph: Graph, sliced: Graph): Promise<void> {
  const [expected, found] = [await run(graph), await run(sliced)];
  for (const [name, t] of Object.entries(expected)) {
    expect(found[name]!.shape, name).toEqual(t.shape);
    const [right, other] = [toFloat32(t), toFloat32(found[name]!)];
    const [worst, scale] = [right.map((value, i) => Math.abs(value - other[i]!)), right.map(Math.abs)].map((values) =>
      values.reduce((a, b) => Math.max(a, b), 0),
    );
    expect(worst! / scale!, name).toBeLessThan(1e-5);
  }
}

const causal = Float32Array.from({ length: 280 * 272 }, (_, i) => (i % 272 > Math.floor(i / 272) ? -1e9 : 0));

test.each([
  { name: "scaled queries, a mask", nodes: [makeNode("Add", ["s", "mask"], ["masked"])], mask: [280, 272] },
  { name: "a mask of all axes", nodes: [makeNode("Add", ["s", "mask"], ["masked"])], mask: [1, 1, 280, 272] },
  {
    name: "scaled scores",
    nodes: [makeNode("Div", ["s", "scale"], ["t"]), makeNode("Add", ["mask", "t"], ["masked"])],
    mask: [280, 272],
  },
])("attention in slices gives the gradients of attention: $name", async ({ nodes, mask }) => {
  const all = [turn, scaled, scored, ...nodes, softmax, mixed];
  const { graph, types } = await backward(all, { ...others, mask: float32(mask, causal) });
  const sliced = attentionInSlices(graph, types, 3);
  const large = 3 * 5 * 280 * 272;
  const seen = await observeTypes(sliced, onnx, { q: queries });
  expect(sliced.nodes.filter((node) => isNode(node, "Scan"))).toHaveLength(2);
  // a matrix for each of three threads
  const bodies = sliced.nodes.flatMap(({ attributes: { body } }) => (body?.type === "graph" ? [body.value] : []));
  expect(bodies.map(({ inputs: [first] }) => first!.type)).toMatchObject([
    { shape: [3, 280, 8] },
    { shape: [3, 280, 8] },
  ]);
  expect(intermediates(sliced).filter((name) => sizeOf(seen.get(name)!.shape) >= large)).toEqual([]);
  await expectSame(graph, sliced);
});

test.each([
  { name: "scores that are an output", nodes: [makeNode("Add", ["s", "mask"], ["masked"])], outputs: [{ name: "p" }] },
  {
    name: "scores that something else reads",
    nodes: [makeNode("Add", ["s", "mask"], ["masked"]), makeNode("ReduceMax", ["s"], ["most"])],
    outputs: [{ name: "most" }],
  },
  { name: "a mask for some of the heads", nodes: [makeNode("Add", ["s", "each"], ["masked"])], outputs: [] },
])("$name: attention stays as it is", async ({ nodes, outputs }) => {
  const weights = { ...others, mask: float32([280, 272], causal), each: draw(3, 1, 280, 272) };
  const all = [turn, scaled, scored, ...nodes, softmax, mixed];
  const { graph, types } = await backward(all, weights);
  const more = { ...graph, outputs: [...graph.outputs, ...outputs] };
  expect(attentionInSlices(more, types, 2)).toBe(more);
});

test.each([
  { name: "causal", open: (row: number, column: number) => column <= row, bands: 2 },
  { name: "a window", open: (row: number, column: number) => column <= row && column > row - 40, bands: 2 },
  { name: "some rows see nothing", open: (row: number, column: number) => row % 100 > 0 && column <= row, bands: 1 },
  { name: "nothing is masked", open: () => true, bands: 1 },
])("masked scores are left out in bands of rows: $name", async ({ open, bands }) => {
  const mask = Float32Array.from({ length: 280 * 272 }, (_, i) => (open(Math.floor(i / 272), i % 272) ? 0 : -1e9));
  const all = [turn, scaled, scored, makeNode("Add", ["s", "mask"], ["masked"]), softmax, mixed];
  const { graph, types } = await backward(all, { ...others, mask: float32([280, 272], mask) });
  const sliced = attentionInSlices(graph, types, 2);
  const bodies = sliced.nodes.flatMap(({ attributes: { body } }) => (body?.type === "graph" ? [body.value.nodes] : []));
  const softmaxes = bodies.map((nodes) => nodes.filter((node) => isNode(node, "Softmax")).length);
  expect(softmaxes).toEqual([bands, bands]);
  await expectSame(graph, sliced);
});
