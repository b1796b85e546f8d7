import { expect, test } from "vitest";
import { type Graph, type GraphInit, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import type { Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { classDivergence, reference, signalToNoise } from "./output-error.ts";
import { type SecondOrder, type SecondOrderOptions, secondOrder, type WeightDifference } from "./second-order.ts";

const cpu = await runtime({ threads: 1 });
const source = random(3);

function normal(shape: readonly number[], scale = 1): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => scale * source.normal()),
  );
}

function model(nodes: GraphInit["nodes"], weights: Record<string, Tensor>): Graph {
  return makeGraph({
    nodes,
    weights: new Map(Object.entries(weights)),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32" } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
  });
}

async function estimated(
  graph: Graph,
  feeds: readonly Tensors[],
  options: Partial<SecondOrderOptions> & Pick<SecondOrderOptions, "by">,
): Promise<SecondOrder> {
  return secondOrder(graph, await reference(graph, cpu, feeds), cpu, {
    changes: [],
    nodes: new Set(),
    draws: 1,
    random: random(1),
    signal: new AbortController().signal,
    progress() {},
    ...options,
  });
}

const linear = model([makeNode("MatMul", ["x", "w"], ["y"], {}, "product")], { w: normal([3, 4]) });
const rows = [normal([1, 3]), normal([1, 3])];
const probabilities = async (x: Tensor): Promise<number[]> => {
  const { outputs } = await reference(linear, cpu, [{ x }]);
  const z = [...toFloat32(outputs[0]![0]!)].map(Math.exp);
  const total = z.reduce((a, b) => a + b, 0);
  return z.map((value) => value / total);
};

/** E[x_j² p_k (1 - p_k)], the Fisher information of a linear classifier. */
async function fisherOf(samples: readonly Tensor[]): Promise<number[]> {
  const exact = new Array<number>(12).fill(0);
  for (const x of samples) {
    const p = await probabilities(x);
    for (const [j, value] of toFloat32(x).entries())
      for (const [k, pk] of p.entries()) exact[j * 4 + k]! += (value ** 2 * pk * (1 - pk)) / samples.length;
  }
  return exact;
}

/** Every weight of the linear model changed alone, by 1. */
const single: readonly (readonly WeightDifference[])[] = Array.from({ length: 12 }, (_, i) => [
  { name: "w", axis: 1, shape: [3, 4], added: new Float32Array(12).fill(1, i, i + 1) },
]);

function expectClose(found: readonly number[], wanted: readonly number[], tolerance: number): void {
  expect(found.length).toBe(wanted.length);
  for (const [i, value] of wanted.entries())
    expect(Math.abs(found[i]! / value - 1), `element ${i}`).toBeLessThan(tolerance);
}

test("of class probabilities it is half the Fisher information, whether samples come one by one or as a batch", async () => {
  const exact = (await fisherOf(rows)).map((value) => value / 2);
  const feeds = rows.map((x) => ({ x }));
  const apart = await estimated(linear, feeds, { by: "kl", draws: 400, changes: single });
  expectClose(apart.damages, exact, 0.35);
  const both = float32([2, 3], [...toFloat32(rows[0]!), ...toFloat32(rows[1]!)]);
  const batch = await estimated(linear, [{ x: both }], { by: "kl", draws: 800, changes: single });
  expectClose(batch.damages, exact, 0.35);
});

test("of noise it is the squared error as a share of the signal, weights of an output together", async () => {
  const feeds = rows.map((x) => ({ x }));
  const { outputs } = await reference(linear, cpu, feeds);
  const signal = outputs.flatMap(([y]) => [...toFloat32(y!)]).reduce((sum, y) => sum + y * y, 0);
  const added = toFloat32(normal([3, 4]));
  const change: WeightDifference = { name: "w", axis: 1, shape: [3, 4], added };
  const { damages } = await estimated(linear, feeds, { by: "noise", changes: [[change], ...single] });
  const squares = rows.flatMap((x) =>
    [0, 1, 2, 3].map((k) => toFloat32(x).reduce((sum, value, j) => sum + value * added[j * 4 + k]!, 0) ** 2),
  );
  const alone = Array.from({ length: 12 }, (_, i) =>
    rows.reduce((sum, x) => sum + toFloat32(x)[Math.floor(i / 4)]! ** 2, 0),
  );
  const wanted = [squares.reduce((a, b) => a + b, 0), ...alone].map((square) => square / signal);
  expectClose(damages, wanted, 1e-4);
});

const network = model(
  [
    makeNode("Conv", ["x", "w1", "b1"], ["c"], { pads: [1, 1, 1, 1] }, "first"),
    makeNode("Relu", ["c"], ["r"]),
    makeNode("Conv", ["r", "w2", "b2"], ["d"], {}, "second"),
    makeNode("GlobalAveragePool", ["d"], ["g"]),
    makeNode("Flatten", ["g"], ["f"]),
    makeNode("Softmax", ["f"], ["y"]),
  ],
  { w1: normal([6, 2, 3, 3], 0.5), b1: normal([6], 0.2), w2: normal([5, 6, 3, 3], 0.5), b2: normal([5], 0.2) },
);
const images = Array.from({ length: 12 }, () => ({ x: normal([1, 2, 6, 6]) }));

type Values = ReadonlyMap<string, Float32Array>;

/** What changes of weights do, and what is foretold of each. */
async function compared(
  by: "kl" | "noise",
  changes: readonly Values[],
): Promise<{ measured: number[]; foretold: readonly number[] }> {
  const wanted = await reference(network, cpu, images);
  const measured: number[] = [];
  for (const change of changes) {
    const weights = new Map(network.weights);
    for (const [name, added] of change) {
      const weight = weights.get(name)!;
      const values = toFloat32(weight).map((w, i) => w + added[i]!);
      weights.set(name, float32(weight.shape, values));
    }
    const changed = { ...network, weights };
    measured.push(
      by === "kl"
        ? await classDivergence(changed, cpu, wanted)
        : 10 ** (-(await signalToNoise(changed, cpu, wanted)) / 10),
    );
  }
  const { damages } = await estimated(network, images, {
    ...{ by, draws: 16 },
    changes: changes.map((change) =>
      [...change].map(([name, added]) => ({ name, added, axis: 0, shape: network.weights.get(name)!.shape })),
    ),
  });
  return { measured, foretold: damages };
}

test.each([
  ["kl", "w1"],
  ["kl", "w2"],
  ["noise", "w1"],
] as const)("it foretells %s, when %s changes at random", async (by, name) => {
  const { size } = network.weights.get(name)!;
  const random = (): Values =>
    new Map([[name, Float32Array.from({ length: size }, () => (source.next() < 0.5 ? 0.005 : -0.005))]]);
  const { measured, foretold } = await compared(by, Array.from({ length: 12 }, random));
  const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  expect(total(foretold) / total(measured)).toBeGreaterThan(0.7);
  expect(total(foretold) / total(measured)).toBeLessThan(1.4);
});

test("changes that make up for each other count for what is left of them", async () => {
  // all weights of an output up, its bias down by what that adds at the mean of its inputs
  const { outputs } = await reference({ ...network, outputs: [{ name: "r" }] }, cpu, images);
  const inputs = outputs.map(([r]) => toFloat32(r!));
  const mean = inputs.reduce((sum, r) => sum + r.reduce((a, b) => a + b, 0) / r.length, 0) / inputs.length;
  const up = new Float32Array(5 * 54).fill(0.01, 0, 54);
  const down = new Float32Array(5).fill(-0.01 * 54 * mean, 0, 1);
  const changes = [
    new Map([["w2", up]]),
    new Map([
      ["w2", up],
      ["b2", down],
    ]),
  ];
  const { measured, foretold } = await compared("kl", changes);
  expect(measured[1]).toBeLessThan(0.2 * measured[0]!);
  for (const [i, damage] of measured.entries()) {
    expect(foretold[i]! / damage, `change ${i}`).toBeGreaterThan(0.5);
    expect(foretold[i]! / damage, `change ${i}`).toBeLessThan(2);
  }
});

test("what a node reads counts by way of that node alone, and zeros do not", async () => {
  const [left, right] = [normal([3, 1]), normal([3, 1])];
  const fork = model(
    [
      makeNode("Relu", ["x"], ["r"]),
      makeNode("MatMul", ["r", "left"], ["a"], {}, "left"),
      makeNode("MatMul", ["r", "right"], ["b"], {}, "right"),
      makeNode("Add", ["a", "b"], ["y"]),
    ],
    { left, right },
  );
  const feeds = [
    [1, -2, 3],
    [-1, 4, -2],
  ].map((x) => ({ x: float32([1, 3], x) }));
  const { outputs } = await reference(fork, cpu, feeds);
  const signal = outputs.reduce((sum, [y]) => sum + toFloat32(y!)[0]! ** 2, 0);
  const { inputs } = await estimated(fork, feeds, { by: "noise", nodes: new Set(["left"]) });
  const [w0, w1, w2] = [...toFloat32(left)].map((w) => (2 / signal) * w ** 2);
  expect([...inputs.keys()]).toEqual(["left"]);
  // ranges 0 to 3 and 0 to 4 of the samples, 0 to 4 of both
  expect(inputs.get("left")!.own).toBeCloseTo(9 * (w0! + w2!) + 16 * w1!, 4);
  expect(inputs.get("left")!.fixed).toBeCloseTo(16 * (w0! + w1! + w2!), 4);
});

test("samples may differ in length", async () => {
  const feeds = [2, 5, 2].map((length) => ({ x: normal([1, length, 3]) }));
  const parts = feeds.flatMap(({ x }) => [...toFloat32(x)]);
  const together = [{ x: float32([1, 9, 3], parts) }];
  const total = async (some: readonly Tensors[]): Promise<number> => {
    const { damages } = await estimated(linear, some, { by: "noise", changes: single, draws: 100 });
    return damages.reduce((a, b) => a + b, 0);
  };
  const ratio = (await total(feeds)) / (await total(together));
  expect(ratio).toBeGreaterThan(0.8);
  expect(ratio).toBeLessThan(1.25);
});

test("a weight without a gradient, and an operator without one, are told", async () => {
  const change: WeightDifference = { name: "v", axis: 0, shape: [3], added: new Float32Array(3) };
  const { damages } = await estimated(linear, [{ x: rows[0]! }], { by: "noise", changes: [[change], single[0]!] });
  expect(damages[0]).toBeNaN();
  expect(damages[1]).toBeGreaterThan(0);
  const determinant = model(
    [makeNode("MatMul", ["x", "w"], ["h"], {}, "product"), makeNode("Det", ["h"], ["y"], {}, "determinant")],
    { w: normal([3, 3]) },
  );
  const some = {
    by: "noise",
    changes: [[{ ...change, name: "w", shape: [3, 3], added: new Float32Array(9) }]],
  } as const;
  await expect(estimated(determinant, [{ x: normal([3, 3]) }], some)).rejects.toThrow(/determinant.*no gradient/);
});
