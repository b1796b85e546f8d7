import { expect, test } from "vitest";
import { type Graph, isNode, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { random } from "../../random.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { elementwiseInStrips } from "./strips.ts";

const onnx = await runtime({ threads: 2 });
const r = random(7);
const shape = [3, 400, 1000];
const draw = (): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: 1_200_000 }, () => r.normal()),
  );
const feeds = { x: draw(), y: draw() };

function network(nodes: readonly Node[], outputs: readonly string[], of: readonly number[] = shape): Graph {
  return makeGraph({
    nodes,
    inputs: ["x", "y"].map((name) => ({ name, type: { kind: "tensor", dtype: "float32", shape: of } as const })),
    outputs: outputs.map((name) => ({ name })),
    weights: new Map([
      ["half", float32([], [0.5])],
      ["row", float32([1000], new Float32Array(1000).fill(0.5))],
    ]),
    opsets: { "": 21 },
  });
}

async function run(graph: Graph): Promise<Readonly<Record<string, Tensor>>> {
  const session = await onnx.open(graph);
  const results = await session.run(feeds);
  await session.release();
  return results;
}

const scans = (graph: Graph): readonly Node[] => graph.nodes.filter((node) => isNode(node, "Scan"));

/** x y / 2, its sigmoid, and so on, six nodes under names that begin with a stem. */
const chain = (x: string, y: string, stem: string): readonly Node[] => [
  makeNode("Mul", [x, y], [`${stem}1`]),
  makeNode("Mul", [`${stem}1`, "half"], [`${stem}2`]),
  makeNode("Sigmoid", [`${stem}2`], [`${stem}3`]),
  makeNode("Sub", ["half", `${stem}3`], [`${stem}4`]),
  makeNode("Sum", [`${stem}4`, x, `${stem}2`], [`${stem}5`]),
  makeNode("Clip", [`${stem}5`, "half", ""], [`${stem}6`]),
];

const turned = (from: string, to: string): readonly Node[] => [
  makeNode("Transpose", [from], [`${to}_t`], { perm: [0, 2, 1] }),
  makeNode("Transpose", [`${to}_t`], [to], { perm: [0, 2, 1] }),
];

test.each([
  { name: "a chain", nodes: chain("x", "y", "a"), outputs: ["a6"], count: 1 },
  { name: "what is read elsewhere", nodes: chain("x", "y", "a"), outputs: ["a6", "a3"], count: 1 },
  {
    name: "two chains with something else between them",
    nodes: [...chain("x", "y", "a"), ...turned("a6", "t"), ...chain("t", "x", "b")],
    outputs: ["b6"],
    count: 2,
  },
  {
    // together with its end, which reads both, the chain would wait for itself
    name: "a chain that leads out and back",
    nodes: [...chain("x", "y", "a"), ...turned("a3", "t"), ...chain("a6", "t", "b")],
    outputs: ["b6"],
    count: 2,
  },
  {
    // a3 -> t -> b, e3 -> u -> d: once b and e are one, a and d can't be
    name: "two pairs of chains that would wait for each other",
    nodes: [
      ...chain("x", "y", "a"),
      ...turned("a3", "t"),
      ...chain("t", "y", "b"),
      ...chain("x", "y", "e"),
      ...turned("e3", "u"),
      ...chain("u", "y", "d"),
      makeNode("Add", ["b6", "e6"], ["f"]),
      makeNode("Add", ["a6", "d6"], ["g"]),
    ],
    outputs: ["f", "g"],
    count: 3,
  },
])("$name: strips give the same values", async ({ nodes, outputs, count }) => {
  const graph = network(nodes, outputs);
  const cut = elementwiseInStrips(graph, new Map(turnedTypes), 2);
  expect(scans(cut)).toHaveLength(count);
  expect(cut.nodes.filter(({ op }) => ["Mul", "Sigmoid", "Clip"].includes(op))).toEqual([]);
  const [expected, found] = [await run(graph), await run(cut)];
  for (const name of outputs) {
    expect(found[name]!.shape).toEqual(shape);
    const [right, other] = [toFloat32(expected[name]!), toFloat32(found[name]!)];
    expect(right.reduce((worst, value, i) => Math.max(worst, Math.abs(value - other[i]!)), 0)).toBeLessThan(1e-6);
  }
});

const turnedTypes = ["t", "u"].map((name) => [name, { dtype: "float32", shape }] as const);

test.each([
  { name: "short chains", graph: network(chain("x", "y", "a").slice(0, 3), ["a3"]) },
  { name: "values that all are read", graph: network(chain("x", "y", "a"), ["a2", "a3", "a4", "a5", "a6"]) },
  { name: "operands that are broadcast", graph: network(chain("x", "row", "a"), ["a6"]) },
  { name: "small values", graph: network(chain("x", "y", "a"), ["a6"], [3, 400, 800]) },
  { name: "values without divisors", graph: network(chain("x", "y", "a"), ["a6"], [1_200_007]) },
])("$name stay as they are", ({ graph }) => {
  expect(elementwiseInStrips(graph, new Map(), 2)).toBe(graph);
});
