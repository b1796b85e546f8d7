import { describe, expect, it, test } from "vitest";
import { float, type Graph, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { random } from "../../random.ts";
import { float32, int64, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { architectures } from "../../training/architectures/index.ts";
import { normal, type Skip, testContext } from "../testing.ts";
import { rotateResidual } from "./index.ts";
import { matrixOf, randomRotation } from "./rotation.ts";

const cpu = await runtime({ threads: 1 });

describe("rotations are orthogonal, spread every coordinate, and keep the mean where asked to", () => {
  for (const size of [32, 24, 7, 1]) {
    for (const keepsMean of [false, true]) {
      it(`${size}${keepsMean ? ", with the mean" : ""}`, () => {
        const rotation = randomRotation(size, random(3), keepsMean);
        const r = matrixOf(rotation, false);
        const t = matrixOf(rotation, true);
        for (let i = 0; i < size; i++) {
          const row = r.subarray(i * size, (i + 1) * size);
          const products = Array.from({ length: size }, (_, j) =>
            row.reduce((sum, v, k) => sum + v * r[j * size + k]!, 0),
          );
          const off = products.map((v, j) => Math.abs(v - (i === j ? 1 : 0)));
          expect(Math.max(...off)).toBeLessThan(1e-6);
          expect([...row]).toEqual(Array.from({ length: size }, (_, j) => t[j * size + i]));
          if (keepsMean) expect(row.reduce((sum, v) => sum + v, 0)).toBeCloseTo(1, 5);
        }
        if (size === 32) expect(Math.max(...r.map(Math.abs))).toBeLessThan(0.7);
      });
    }
  }
});

const dim = 24;
const vector = (seed: number, around = 1): Tensor => {
  const values = toFloat32(normal([dim], seed));
  return float32(
    [dim],
    values.map((v) => around + 3 * v),
  );
};

/** x / sqrt(mean x² + e) as nodes. */
function rms(x: string, out: string): Node[] {
  return [
    makeNode("Pow", [x, "two"], [`${out}_p`]),
    makeNode("ReduceMean", [`${out}_p`], [`${out}_m`], { axes: [-1] }),
    makeNode("Add", [`${out}_m`, "e"], [`${out}_e`]),
    makeNode("Sqrt", [`${out}_e`], [`${out}_s`]),
    makeNode("Div", [x, `${out}_s`], [out]),
  ];
}

/** A normalization with a mean, in nodes. */
function centred(x: string, out: string): Node[] {
  return [
    makeNode("ReduceMean", [x], [`${out}_c`], { axes: [2] }),
    makeNode("Sub", [x, `${out}_c`], [`${out}_d`]),
    makeNode("Mul", [`${out}_d`, `${out}_d`], [`${out}_q`]),
    makeNode("ReduceMean", [`${out}_q`], [`${out}_m`], { axes: [2] }),
    makeNode("Add", [`${out}_m`, "e"], [`${out}_e`]),
    makeNode("Sqrt", [`${out}_e`], [`${out}_s`]),
    makeNode("Reciprocal", [`${out}_s`], [`${out}_r`]),
    makeNode("Mul", [`${out}_d`, `${out}_r`], [out]),
  ];
}

/** Embedding, two gated blocks whose normalizations are spelled by `norm`, and the output layer, tied or not. */
function language(norm: typeof rms, tied: boolean): Graph {
  const block = (x: string, i: number): Node[] => [
    ...norm(x, `n${i}`),
    makeNode("Mul", [`n${i}`, `g${i}`], [`s${i}`]),
    makeNode("Add", [`s${i}`, `b${i}`], [`t${i}`]),
    makeNode("MatMul", [`t${i}`, `up${i}`], [`u${i}`]),
    makeNode("MatMul", [`t${i}`, `gate${i}`], [`a${i}`]),
    makeNode("Sigmoid", [`a${i}`], [`i${i}`]),
    makeNode("Mul", [`u${i}`, `i${i}`], [`h${i}`]),
    makeNode("MatMul", [`h${i}`, `down${i}`], [`o${i}`]),
    makeNode("Add", [x, `o${i}`], [`x${i + 1}`]),
  ];
  const weights: [string, Tensor][] = [0, 1].flatMap((i): [string, Tensor][] => [
    [`g${i}`, vector(i)],
    [`b${i}`, vector(10 + i, 0)],
    [`up${i}`, normal([dim, 40], 20 + i)],
    [`gate${i}`, normal([dim, 40], 30 + i)],
    [`down${i}`, normal([40, dim], 40 + i)],
  ]);
  return makeGraph({
    nodes: [
      makeNode("Gather", ["table", "ids"], ["w"]),
      makeNode("Add", ["w", "positions"], ["x0"]),
      ...block("x0", 0),
      ...block("x1", 1),
      ...norm("x2", "n"),
      makeNode("Mul", ["n", "g"], ["s"], {}, "scale"),
      makeNode("Transpose", [tied ? "table" : "head"], ["t"], { perm: [1, 0] }),
      makeNode("MatMul", ["s", "t"], ["y"]),
    ],
    inputs: [{ name: "ids", type: { kind: "tensor", dtype: "int64", shape: [2, 6] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map([
      ...weights,
      ["table", normal([50, dim], 1)],
      ...(tied ? [] : [["head", normal([50, dim], 2)] as const]),
      ["positions", normal([6, dim], 3)],
      ["g", vector(7)],
      ["two", float32([], [2])],
      ["e", float32([], [1e-5])],
    ]),
    opsets: { "": 17 },
    irVersion: 8,
  });
}

const ids = { ids: int64([3, 0, 19, 7, 44, 5, 9, 2, 31, 31, 8, 6], [2, 6]) };

async function outputs(graph: Graph, feeds: Tensors): Promise<Float32Array> {
  const session = await cpu.open(graph);
  const values = await session.run(feeds);
  await session.release();
  return toFloat32(values[graph.outputs[0]!.name]!).slice();
}

/** Largest difference relative to the largest output. */
async function difference(before: Graph, after: Graph, feeds: Tensors): Promise<number> {
  const [a, b] = [await outputs(before, feeds), await outputs(after, feeds)];
  const most = a.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  return a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0) / most;
}

const changed = (before: Graph, after: Graph, name: string): boolean =>
  before.weights.get(name) !== after.weights.get(name);

describe("outputs stay the same, the stream is rotated", () => {
  for (const [name, norm] of Object.entries({ rms, centred })) {
    it(`normalizations spelled as nodes: ${name}`, async () => {
      const graph = language(norm, false);
      const skips: Skip[] = [];
      const rotated = await rotateResidual().apply(graph, testContext(cpu, skips));
      expect(skips).toEqual([]);
      expect(await difference(graph, rotated, ids)).toBeLessThan(1e-5);
      for (const weight of ["table", "positions", "up0", "down1", "head"]) {
        expect(changed(graph, rotated, weight), weight).toBe(true);
      }
      expect(rotated.nodes.length).toBe(graph.nodes.length);
    });

    it(`an embedding that is the output layer: ${name}`, async () => {
      const graph = language(norm, true);
      const product = await rotateResidual().apply(graph, testContext(cpu));
      expect(await difference(graph, product, ids)).toBeLessThan(1e-5);
      expect(changed(graph, product, "table")).toBe(false);
      expect(product.nodes.length).toBe(graph.nodes.length + 2);
      const copy = await rotateResidual({ tied: "copy" }).apply(graph, testContext(cpu));
      expect(await difference(graph, copy, ids)).toBeLessThan(1e-5);
      expect(changed(graph, copy, "table")).toBe(true);
      expect([...copy.weights.values()].filter(({ shape }) => shape.join() === `50,${dim}`)).toHaveLength(2);
      expect(copy.nodes.length).toBe(graph.nodes.length);
    });
  }

  const built: Record<string, { graph: Graph; feeds: Tensors }> = {
    gpt: {
      graph: architectures.gpt!.build({ vocabulary: 50, length: 6, dim, heads: 2, layers: 2 }, random(1)),
      feeds: { input_ids: ids.ids },
    },
    vit: {
      graph: architectures.vit!.build({ size: 8, patch: 4, dim, heads: 2, layers: 2, classes: 5 }, random(1)),
      feeds: { image: normal([2, 3, 8, 8], 5) },
    },
  };
  for (const [name, { graph, feeds }] of Object.entries(built)) {
    it(`${name}, trained a little: normalizations with scales and shifts of their own`, async () => {
      const weights = new Map(
        [...graph.weights].map(([key, value], i): [string, Tensor] => {
          return /norm.*(weight|bias)$/.test(key)
            ? [key, vector(60 + i, key.endsWith("weight") ? 1 : 0)]
            : [key, value];
        }),
      );
      const trained = { ...graph, weights };
      const skips: Skip[] = [];
      const rotated = await rotateResidual().apply(trained, testContext(cpu, skips));
      expect(skips).toEqual([]);
      expect(await difference(trained, rotated, feeds)).toBeLessThan(1e-4);
      expect(changed(trained, rotated, "block1.up.weight")).toBe(true);
      expect(changed(trained, rotated, "block0.attention.out.weight")).toBe(true);
    });
  }

  it("normalizations fused with the sum before them", async () => {
    const skip = (x: string, y: string, out: string, sum: string): Node =>
      makeNode("com.microsoft:SkipLayerNormalization", [x, y, `${out}_g`, `${out}_b`], [out, "", "", sum], {
        epsilon: float(1e-5),
      });
    const graph = makeGraph({
      nodes: [
        makeNode("Gather", ["table", "ids"], ["w"]),
        makeNode("Gather", ["types", "ids"], ["v"]),
        skip("w", "v", "n", "r"),
        makeNode("MatMul", ["n", "up"], ["u"]),
        makeNode("Gelu", ["u"], ["h"]),
        makeNode("MatMul", ["h", "down"], ["d"]),
        skip("r", "d", "m", "z"),
        makeNode("MatMul", ["m", "head"], ["y"]),
      ],
      inputs: [{ name: "ids", type: { kind: "tensor", dtype: "int64", shape: [2, 6] } }],
      outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
      weights: new Map([
        ["table", normal([50, dim], 1)],
        ["types", normal([50, dim], 2)],
        ["n_g", vector(3)],
        ["n_b", vector(4, 0)],
        ["m_g", vector(5)],
        ["m_b", vector(6, 0)],
        ["up", normal([dim, 40], 7)],
        ["down", normal([40, dim], 8)],
        ["head", normal([dim, 9], 9)],
      ]),
      opsets: { "": 20, "com.microsoft": 1 },
      irVersion: 9,
    });
    const rotated = await rotateResidual().apply(graph, testContext(cpu));
    expect(changed(graph, rotated, "down")).toBe(true);
    expect(await difference(graph, rotated, ids)).toBeLessThan(1e-5);
  });
});

describe("scales of either sign in front of a Relu", () => {
  const shapes: Record<string, readonly Node[]> = {
    "behind a layer": [
      makeNode("MatMul", ["x0", "up"], ["u"]),
      makeNode("Mul", ["u", "signed"], ["m"]),
      makeNode("Add", ["m", "b"], ["s"]),
    ],
    "behind a normalization": [makeNode("LayerNormalization", ["x0", "signed", "b"], ["s"])],
  };
  for (const [name, before] of Object.entries(shapes)) {
    it(name, async () => {
      const graph = makeGraph({
        nodes: [
          makeNode("Gather", ["table", "ids"], ["x0"]),
          ...before,
          makeNode("Relu", ["s"], ["r"]),
          makeNode("MatMul", ["r", "down"], ["d"]),
          makeNode("Add", ["d", "x0"], ["x1"]),
          makeNode("MatMul", ["x1", "head"], ["y"]),
        ],
        inputs: [{ name: "ids", type: { kind: "tensor", dtype: "int64", shape: [2, 6] } }],
        outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
        weights: new Map([
          ["table", normal([50, dim], 1)],
          ["up", normal([dim, dim], 2)],
          ["signed", vector(3, 0)],
          ["b", vector(4, 0)],
          ["down", normal([dim, dim], 5)],
          ["head", normal([dim, 9], 6)],
        ]),
        opsets: { "": 17 },
        irVersion: 8,
      });
      const skips: Skip[] = [];
      const rotated = await rotateResidual().apply(graph, testContext(cpu, skips));
      expect(skips).toEqual([]);
      expect(changed(graph, rotated, "table")).toBe(true);
      expect(await difference(graph, rotated, ids)).toBeLessThan(1e-5);
    });
  }
});

test("a token of its own in front of the others, and the only one read in the end", async () => {
  const graph = makeGraph({
    nodes: [
      makeNode("Gather", ["table", "ids"], ["w"]),
      makeNode("Expand", ["first", "shape"], ["f"]),
      makeNode("Concat", ["f", "w"], ["x0"], { axis: 1 }),
      makeNode("LayerNormalization", ["x0", "g", "b"], ["n"]),
      makeNode("MatMul", ["n", "up"], ["u"]),
      makeNode("Relu", ["u"], ["h"]),
      makeNode("MatMul", ["h", "down"], ["d"]),
      makeNode("Add", ["d", "x0"], ["x1"]),
      makeNode("Slice", ["x1", "zero", "one", "one"], ["s"]),
      makeNode("Squeeze", ["s", "one"], ["q"]),
      makeNode("Gemm", ["q", "head"], ["y"], { transB: 1 }),
    ],
    inputs: [{ name: "ids", type: { kind: "tensor", dtype: "int64", shape: [2, 6] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map([
      ["table", normal([50, dim], 1)],
      ["first", normal([1, 1, dim], 2)],
      ["shape", int64([2, 1, dim])],
      ["zero", int64([0])],
      ["one", int64([1])],
      ["g", vector(3)],
      ["b", vector(4, 0)],
      ["up", normal([dim, 40], 7)],
      ["down", normal([40, dim], 8)],
      ["head", normal([9, dim], 9)],
    ]),
    opsets: { "": 17 },
    irVersion: 8,
  });
  const skips: Skip[] = [];
  const rotated = await rotateResidual().apply(graph, testContext(cpu, skips));
  expect(skips).toEqual([]);
  for (const name of ["first", "head"]) expect(changed(graph, rotated, name), name).toBe(true);
  expect(await difference(graph, rotated, ids)).toBeLessThan(1e-5);
});

test("outliers are spread: the largest input of a layer comes down to what others are", async () => {
  const graph = language(rms, false);
  const table = toFloat32(graph.weights.get("table")!).map((v, at) => (at % dim === 5 ? 30 * v : v));
  const weights = new Map(graph.weights).set("table", float32([50, dim], table));
  const rotated = await rotateResidual().apply({ ...graph, weights }, testContext(cpu));
  const peak = (values: Float32Array): number => {
    const rootMean = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
    return values.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / rootMean;
  };
  expect(peak(toFloat32(rotated.weights.get("table")!))).toBeLessThan(0.6 * peak(table));
});

test("a stream that something else reads is left alone, and the reason told", async () => {
  const graph = language(rms, false);
  const nodes = [
    ...graph.nodes,
    makeNode("Softmax", ["x1"], ["soft"], {}, "soft"),
    makeNode("Identity", ["soft"], ["z"]),
  ];
  const outputsToo = [...graph.outputs, { name: "z", type: { kind: "tensor", dtype: "float32" } } as const];
  const skips: Skip[] = [];
  const other = { ...graph, nodes, outputs: outputsToo };
  expect(await rotateResidual().apply(other, testContext(cpu, skips))).toBe(other);
  expect(skips.map(({ reason }) => reason)).toContain("'soft' (Softmax) mixes its channels in a way of its own");
});

test("a constant that is an output of the model too stays what it was", async () => {
  const graph = language(rms, false);
  const outputsToo = [...graph.outputs, ...["table", "positions"].map((name) => ({ name }))];
  const other = { ...graph, outputs: outputsToo };
  const rotated = await rotateResidual().apply(other, testContext(cpu));
  expect(changed(graph, rotated, "up0")).toBe(true);
  for (const name of ["table", "positions"]) expect(changed(graph, rotated, name), name).toBe(false);
  expect(await difference(other, rotated, ids)).toBeLessThan(1e-5);
});
