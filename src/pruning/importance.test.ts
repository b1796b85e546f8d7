import { describe, expect, test } from "vitest";
import type { Batch } from "../data/dataset.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, int64, type Tensor } from "../tensor/tensor.ts";
import { couplings } from "./couplings.ts";
import { type Importance, type normalizations, unitScores } from "./importance.ts";

const ort = await runtime({ threads: 1 });

/** x [n, 2] -> 4 hidden units -> y [n, 2]; the hidden units are the one group. */
function perceptron(first: readonly number[], second: readonly number[], bias = [0, 0, 0, 0]): Graph {
  const weights = new Map<string, Tensor>([
    ["w1", float32([4, 2], first)],
    ["b1", float32([4], bias)],
    ["w2", float32([2, 4], second)],
  ]);
  const nodes = [
    makeNode("Gemm", ["x", "w1", "b1"], ["h"], { transB: 1 }),
    makeNode("Relu", ["h"], ["a"]),
    makeNode("Gemm", ["a", "w2"], ["y"], { transB: 1 }),
  ];
  const border = (name: string) => ({ name, type: { kind: "tensor", dtype: "float32", shape: ["n", 2] } as const });
  return makeGraph({ nodes, weights, inputs: [border("x")], outputs: [border("y")] });
}

const x = float32([4, 2], [1, 2, 2, 1, 1, 1, 3, 2]);
const unlabelled: Batch = { inputs: { x }, size: 4 };

async function scoresOf(
  graph: Graph,
  importance: Importance,
  batch = unlabelled,
  normalization: (typeof normalizations)[number] = "none",
): Promise<number[]> {
  const found = couplings(graph, await observeTypes(graph, ort, batch.inputs));
  const groups = found.groups.filter(({ frozen }) => frozen === undefined);
  expect(groups.map(({ units }) => units)).toEqual([4]);
  const batches = {
    async *[Symbol.asyncIterator]() {
      yield batch;
    },
  };
  const world = { runtime: ort, random: random(1), batches, signal: new AbortController().signal, log() {} };
  return [...(await unitScores(found, groups, importance, normalization, world)).get(groups[0]!)!];
}

const first = [3, -4, 1, 0, 0, 0, 2, 2];
const second = [0, 2, 5, -1, 0, -1, 0, 1];

describe("scores of units", () => {
  test("l1 and l2 are norms over the layer that makes a unit and the layer that reads it", async () => {
    expect(await scoresOf(perceptron(first, second), "l1")).toEqual([7, 4, 5, 6]);
    const squares = (await scoresOf(perceptron(first, second), "l2")).map((v) => Math.round(v ** 2));
    expect(squares).toEqual([25, 6, 25, 10]);
  });

  test("scores are divided by their mean or their maximum", async () => {
    expect(await scoresOf(perceptron(first, second), "l1", unlabelled, "mean")).toEqual(
      [7, 4, 5, 6].map((v) => v / 5.5),
    );
    expect(await scoresOf(perceptron(first, second), "l1", unlabelled, "max")).toEqual([7, 4, 5, 6].map((v) => v / 7));
  });

  test("fpgm is the distance to the geometric median of the filters, whatever their norms", async () => {
    // three filters around (5, 5) and one far off: the median stays with the three
    const scores = await scoresOf(perceptron([5, 5, 5.1, 5, 5, 5.1, 0, 0], second), "fpgm");
    expect(scores[3]).toBeGreaterThan(7);
    expect(Math.max(...scores.slice(0, 3))).toBeLessThan(0.15);
  });

  test("activation and variance are those of what the next layer reads", async () => {
    const graph = perceptron([1, 0, 0, 1, -1, -1, 0, 0], second, [0, 0, 0, 7]);
    expect(await scoresOf(graph, "activation")).toEqual([7 / 4, 6 / 4, 0, 7].map((v) => v / (41 / 16)));
    const variance = await scoresOf(graph, "variance");
    expect(variance.slice(2)).toEqual([0, 0]);
    expect(variance[0]).toBeGreaterThan(variance[1]!);
  });

  test.each([
    ["with labels", { ...unlabelled, labels: int64([0, 1, 1, 0]) }],
    ["without", unlabelled],
  ])("taylor finds units that change nothing, %s", async (_, batch) => {
    // the second never fires, nobody reads the fourth
    const scores = await scoresOf(perceptron([1, 1, -1, -1, 1, 0, 5, 5], [1, 9, -1, 0, -1, 9, 2, 0]), "taylor", batch);
    expect([scores[1], scores[3]]).toEqual([0, 0]);
    expect(Math.min(scores[0]!, scores[2]!)).toBeGreaterThan(1e-6);
  });

  test("taylor is the squared change of the outputs", async () => {
    const [one, other] = [perceptron(first, [1, 1, 1, 0, 0, 0, 2, 2]), perceptron(first, [1, 1, 1, 0, 0, 0, 1, 1])];
    const [wide, narrow] = [await scoresOf(one, "taylor"), await scoresOf(other, "taylor")];
    // twice the weight, four times the squared change of the outputs
    expect(wide[3]! / narrow[3]!).toBeCloseTo(4, 4);
    expect(wide[0]).toBeCloseTo(narrow[0]!, 6);
  });

  test("hessian is that by weights that make a unit and weights that read it, whatever the labels", async () => {
    const graph = (scale: number) => perceptron([1, 0, 0, 1, 1, 1, 1, -1], [0, 0, scale, 0, 0, scale, 0, 0]);
    const [plain, double] = [await scoresOf(graph(1), "hessian"), await scoresOf(graph(2), "hessian")];
    // gradients of what makes the unit grow with what reads it
    expect(double[1]! / plain[1]!).toBeCloseTo(4, 4);
    expect(plain[3]).toBe(0);
    const labelled = { ...unlabelled, labels: int64([0, 1, 1, 0]) };
    expect(await scoresOf(graph(1), "hessian", labelled)).toEqual(plain);
  });

  test("reconstruction: of two units that say the same one is free, and then the other is not", async () => {
    const scores = await scoresOf(
      perceptron([1, 0, 0, 1, 1, 0, 0.5, 0.5], [1, 1, 1, 0, 1, -1, 1, 0]),
      "reconstruction",
    );
    // nobody reads the fourth
    expect(scores[3]).toBe(0);
    const [cheap, dear] = [Math.min(scores[0]!, scores[2]!), Math.max(scores[0]!, scores[2]!)];
    expect(cheap).toBeLessThan(0.03);
    expect(dear).toBeGreaterThan(10 * cheap);
  });

  test("bn-scale takes the scales of batch normalization, and norms where there is none", async () => {
    const plain = perceptron(first, second);
    expect(await scoresOf(plain, "bn-scale")).toEqual(await scoresOf(plain, "l2"));
    const weights = new Map(plain.weights)
      .set("scale", float32([4], [0.5, -2, 1, 0]))
      .set("zero", float32([4], [0, 0, 0, 0]))
      .set("one", float32([4], [1, 1, 1, 1]));
    const [make, relu, read] = plain.nodes;
    const norm = makeNode("BatchNormalization", ["h", "scale", "zero", "zero", "one"], ["n"]);
    const nodes = [make!, norm, { ...relu!, inputs: ["n"] }, read!];
    expect(await scoresOf({ ...plain, weights, nodes }, "bn-scale")).toEqual([0.5, 2, 1, 0]);
  });

  test("random is repeatable and tells units apart", async () => {
    const scores = await scoresOf(perceptron(first, second), "random");
    expect(await scoresOf(perceptron(first, second), "random")).toEqual(scores);
    expect(new Set(scores).size).toBe(4);
  });

  test("a weight that is not a number is named", async () => {
    const broken = perceptron([Number.NaN, ...first.slice(1)], second);
    await expect(scoresOf(broken, "l1")).rejects.toThrow("weight 'w1': holds NaN");
  });
});
