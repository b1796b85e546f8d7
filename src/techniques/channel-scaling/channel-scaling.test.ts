import { describe, expect, it, test } from "vitest";
import { type Graph, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { observeTypes } from "../../platform/observe.ts";
import { random } from "../../random.ts";
import { float32, int64, type Tensor } from "../../tensor/tensor.ts";
import { normal, outputOf, sqnr } from "../testing.ts";
import { type ScalableSurvey, scalableChannels } from "./places.ts";
import { scaleChannels } from "./scale.ts";

const cpu = await runtime({ threads: 1 });
const x = normal([2, 5, 16], 90);

function graphOf(nodes: readonly Node[], weights: Readonly<Record<string, Tensor>>, domains = {}): Graph {
  return makeGraph({
    nodes,
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 5, 16] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map(Object.entries(weights)),
    opsets: { "": 23, ...domains },
    irVersion: 11,
  });
}

const w = (rows: number, columns: number, seed = 1): Tensor => normal([rows, columns], seed);
const v = (size: number, seed = 1): Tensor => normal([size], 50 + seed);
const all = (): boolean => true;

async function survey(graph: Graph): Promise<ScalableSurvey> {
  return scalableChannels(graph, await observeTypes(graph, cpu, { x }), all);
}

/** What takes scales up, and which products read them. */
const told = ({ found }: ScalableSurvey): string[] =>
  found.map(({ sources, readers }) => {
    const names = sources.map(({ name, axis }) => `${name}:${axis}`).join(" ");
    return `${names} -> ${readers.map(({ weight, axis }) => `${weight}:${axis}`).join(" ")}`;
  });

const cases: Record<string, { graph: Graph; found: string[] }> = {
  "a normalization that two products read": {
    graph: graphOf(
      [
        makeNode("LayerNormalization", ["x", "g", "b"], ["n"]),
        makeNode("MatMul", ["n", "p"], ["a"]),
        makeNode("MatMul", ["n", "q"], ["c"]),
        makeNode("Add", ["a", "c"], ["y"]),
      ],
      { g: v(16), b: v(16, 2), p: w(16, 8), q: w(16, 8, 2) },
    ),
    found: ["g:last b:last -> p:0 q:0"],
  },
  "a normalization spelled as nodes, behind a Reshape": {
    graph: graphOf(
      [
        makeNode("RMSNormalization", ["x", "one"], ["n"]),
        makeNode("Mul", ["n", "g"], ["m"]),
        makeNode("Add", ["b", "m"], ["s"]),
        makeNode("Reshape", ["s", "flat"], ["r"]),
        makeNode("Gemm", ["r", "p"], ["y"], { transB: 1 }),
      ],
      { one: v(16, 3), g: v(16), b: normal([1, 1, 16]), p: w(8, 16), flat: int64([-1, 16]) },
    ),
    found: ["g:last b:last -> p:1"],
  },
  "means over tokens, their axes given in several ways": {
    graph: graphOf(
      [
        makeNode("Constant", [], ["second"], { value_ints: [-2] }),
        makeNode("LayerNormalization", ["x", "g"], ["n"]),
        makeNode("ReduceMean", ["n", "second"], ["m"]),
        makeNode("ReduceSum", ["m", "first"], ["s"], { keepdims: 0 }),
        makeNode("MatMul", ["s", "p"], ["y"]),
      ],
      { g: v(16), p: w(16, 8), first: int64([0]) },
    ),
    found: ["g:last -> p:0"],
  },
  "a scale that is one number": {
    graph: graphOf([makeNode("Mul", ["x", "half"], ["m"]), makeNode("MatMul", ["m", "p"], ["y"])], {
      half: float32([], [0.5]),
      p: w(16, 8),
    }),
    found: ["half:last -> p:0"],
  },
  "a layer before a Relu, its matrix transposed by a node": {
    graph: graphOf(
      [
        makeNode("Transpose", ["p"], ["t"], { perm: [1, 0] }),
        makeNode("MatMul", ["x", "t"], ["h"]),
        makeNode("Add", ["h", "b"], ["s"]),
        makeNode("Relu", ["s"], ["r"]),
        makeNode("MatMul", ["r", "q"], ["y"]),
      ],
      { p: w(12, 16), b: v(12), q: w(12, 4) },
    ),
    found: ["p:0 b:last -> q:0"],
  },
  "a gate: the factor that is a layer": {
    graph: graphOf(
      [
        makeNode("MatMul", ["x", "p"], ["a"]),
        makeNode("Sigmoid", ["a"], ["g"]),
        makeNode("MatMul", ["x", "q"], ["u"]),
        makeNode("Mul", ["u", "g"], ["m"]),
        makeNode("MatMul", ["m", "d"], ["y"]),
      ],
      { p: w(16, 12), q: w(16, 12, 2), d: w(12, 16, 3) },
    ),
    found: ["q:1 -> d:0"],
  },
  "a Gemm with a bias for all": {
    graph: graphOf(
      [
        makeNode("Reshape", ["x", "flat"], ["r"]),
        makeNode("Gemm", ["r", "p", "b"], ["h"]),
        makeNode("Gemm", ["h", "q"], ["y"]),
      ],
      { p: w(16, 12), b: float32([1], [0.3]), q: w(12, 4), flat: int64([-1, 16]) },
    ),
    found: ["p:1 b:last -> q:0"],
  },
};

describe("scales go in where channels are made and out where they are read", () => {
  for (const [name, { graph, found }] of Object.entries(cases)) {
    it(name, async () => {
      const places = await survey(graph);
      expect(told(places)).toEqual(found);
      const chance = random(3);
      const scalings = places.found.map((at) => ({
        at,
        scales: Float64Array.from({ length: at.channels }, () => Math.exp(chance.normal())),
      }));
      const scaled = scaleChannels(graph, scalings);
      for (const { at } of scalings) {
        for (const { weight } of at.readers) expect(scaled.weights.get(weight)).not.toBe(graph.weights.get(weight));
      }
      expect(sqnr(await outputOf(cpu, graph, { x }), await outputOf(cpu, scaled, { x }))).toBeGreaterThan(110);
    });
  }
});

test("where outputs would change it says why", async () => {
  const norm = makeNode("RMSNormalization", ["x", "g"], ["n"]);
  const reasons = async (nodes: readonly Node[], weights: Readonly<Record<string, Tensor>>): Promise<string[]> => {
    const { found, refused } = await survey(graphOf(nodes, { g: v(16), p: w(16, 16), ...weights }));
    expect(found).toEqual([]);
    return refused.map(({ reason }) => reason);
  };
  const product = makeNode("MatMul", ["n", "p"], ["h"]);
  expect(await reasons([norm, product, makeNode("Add", ["h", "n"], ["y"])], {})).toEqual([
    "'Add_y' (Add) reads its input too",
  ]);
  expect(await reasons([makeNode("Gelu", ["x"], ["n"]), { ...product, outputs: ["y"] }], {})).toEqual([
    "'Gelu_n' (Gelu) does not scale with its input",
  ]);
  expect(await reasons([makeNode("MatMul", ["x", "p"], ["y"])], {})).toEqual(["'x' is no layer's output"]);
});

test("a mean over the channels is none of tokens, though there be as many", async () => {
  const square = normal([2, 16, 16], 91);
  for (const [op, reduction] of [
    ["ReduceMean", { axes: [-1], keepdims: 0 }],
    ["ReduceSum", { keepdims: 0 }],
  ] as const) {
    const inputs = op === "ReduceSum" ? ["n", "axes"] : ["n"];
    const graph: Graph = {
      ...graphOf(
        [
          makeNode("LayerNormalization", ["x", "g"], ["n"]),
          makeNode(op, inputs, ["r"], reduction),
          makeNode("MatMul", ["r", "p"], ["y"]),
        ],
        { g: v(16), p: w(16, 8), axes: int64([2]) },
      ),
      opsets: { "": 17 },
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 16, 16] } }],
    };
    const { found, refused } = scalableChannels(graph, await observeTypes(graph, cpu, { x: square }), all);
    expect(found).toEqual([]);
    expect(refused.map(({ reason }) => reason)).toEqual([`'${op}_r' (${op}) does not scale with its input`]);
  }
});

test("a weight that something else reads too is left alone", async () => {
  const graph = graphOf(
    [
      makeNode("RMSNormalization", ["x", "g"], ["n"]),
      makeNode("MatMul", ["n", "p"], ["a"]),
      makeNode("MatMul", ["a", "p"], ["y"]),
    ],
    { g: v(16), p: w(16, 16) },
  );
  const { found, refused } = await survey(graph);
  expect(found).toEqual([]);
  expect(refused.map(({ reason }) => reason)).toEqual([
    "weight 'p' is read elsewhere too",
    "weight 'p' is read elsewhere too",
  ]);
});

test("a product left out keeps its neighbours from being scaled", async () => {
  const { graph } = cases["a normalization that two products read"]!;
  const types = await observeTypes(graph, cpu, { x });
  const { found, refused } = scalableChannels(graph, types, ({ outputs }) => outputs[0] === "a");
  expect(found).toEqual([]);
  expect(refused.map(({ reason }) => reason)).toEqual(["'MatMul_c', which reads the same, is not selected"]);
});
