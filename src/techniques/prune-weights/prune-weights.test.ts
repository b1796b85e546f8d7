import { describe, expect, it, test } from "vitest";
import { cpu, dataset, prune, single, uneven, value, zeros } from "../../../test/pruned.ts";
import { feedsOf } from "../../data/feeds.ts";
import { type Graph, makeGraph, makeNode, type PlainAttribute } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { random } from "../../random.ts";
import { float32, int64, toFloat32 } from "../../tensor/tensor.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { normal, outputOf, sqnr, testContext } from "../testing.ts";
import { inputMoments } from "../weight-matrices/input-moments.ts";
import { elementOrder, matrixValues } from "../weight-matrices/matrix.ts";
import { adaptive, erdosRenyi } from "./densities.ts";
import { type Layer, surveyLayers } from "./layers.ts";
import { pruneWeightsOptions } from "./options.ts";
import { blockScores, lowestMask, parsePattern, thresholdSearch } from "./patterns.ts";

test("magnitude keeps the largest weights as they are, whatever their type", async () => {
  const graph = single("MatMul", [40, 25]);
  const before = toFloat32(graph.weights.get("w")!);
  const { w, logs, exhibits } = await prune(graph, { sparsity: 0.7 });
  expect(zeros(w)).toBe(700);
  const bar = before.map(Math.abs).sort()[700]!;
  expect(w).toEqual(before.map((v) => (Math.abs(v) < bar ? 0 : v)));
  expect(logs).toContain("layer: 70.0 % of 1000 weights are zero");
  const note = { kind: "note", text: expect.stringMatching(/not the model faster/) };
  expect(exhibits).toEqual([{ kind: "sparsity", layers: [{ name: "layer", elements: 1000, zeros: 700 }] }, note]);
});

test("a pruned weight can be read in parts", async () => {
  const { small, w } = await prune(single("MatMul", [40, 25]), { sparsity: 0.5 });
  const part = small.weights.get("w")!.bytes(40, 80).slice();
  expect(new Float32Array(part.buffer)).toEqual(w.slice(10, 30));
});

const layouts: Record<string, { graph: Graph; shape: readonly number[]; axis: number }> = {
  MatMul: { graph: single("MatMul", [24, 16]), shape: [1, 30, 24], axis: 2 },
  "MatMul, weight on the left": { graph: single("MatMul", [16, 24], {}, ["w", "x"]), shape: [24, 30], axis: 0 },
  "Gemm transB": { graph: single("Gemm", [16, 24], { transB: 1 }), shape: [30, 24], axis: 1 },
  "Gemm transA": { graph: single("Gemm", [24, 16], { transA: 1 }), shape: [24, 30], axis: 0 },
  Conv: {
    graph: single("Conv", [8, 12, 3, 3], { pads: [1, 1, 1, 1], strides: [2, 2] }),
    shape: [1, 12, 9, 9],
    axis: 1,
  },
  "Conv, dilated": {
    graph: single("Conv", [8, 12, 3, 2], { pads: [1, 0, 2, 1], dilations: [2, 1] }),
    shape: [1, 12, 9, 8],
    axis: 1,
  },
  "Conv, padded by itself": {
    graph: single("Conv", [8, 12, 3, 2], { auto_pad: "SAME_LOWER", strides: [2, 1] }),
    shape: [1, 12, 9, 8],
    axis: 1,
  },
  "Conv, grouped": { graph: single("Conv", [8, 12, 3], { group: 2 }), shape: [1, 24, 20], axis: 1 },
};

describe("moments are those of the inputs that the weights meet", () => {
  for (const [name, { graph, shape, axis }] of Object.entries(layouts)) {
    it(name, async () => {
      const inputs = Array.from({ length: 3 }, (_, i): Tensors => ({ x: uneven(shape, 10 + i, axis) }));
      const data = dataset(3, (i) => ({ inputs: inputs[i]! }));
      const context = { ...testContext(cpu), data };
      const { layers } = surveyLayers(graph, pruneWeightsOptions.parse({ minElements: 1 }), parsePattern("1x1")!);
      const [layer] = layers as [Layer];
      const stream = feedsOf(calibrationBatches(graph, context, 3, 1, "test"));
      const [products] = (await inputMoments(graph, layers, "products", stream, context)).values();
      const [squares] = (await inputMoments(graph, layers, "squares", stream, context)).values();
      const { columns, rows, groups } = layer;
      const w = matrixValues(layer, elementOrder(layer));
      // the energy of all outputs: the sum over the rows w of w H wᵀ
      let energy = 0;
      for (let r = 0; r < rows; r++) {
        const g = Math.floor((r * groups) / rows);
        for (let i = 0; i < columns; i++) {
          const at = (g * columns + i) * columns;
          expect(products!.sums[at + i]).toBeCloseTo(squares!.sums[g * columns + i]!, 3);
          for (let j = 0; j < columns; j++)
            energy += w[r * columns + i]! * products!.sums[at + j]! * w[r * columns + j]!;
        }
      }
      let expected = 0;
      for (const feed of inputs) for (const y of await outputOf(cpu, graph, feed)) expected += y * y;
      expect(energy / expected).toBeCloseTo(1, 4);
    });
  }
});

describe("inputs make scores better", () => {
  for (const [name, { graph, shape, axis }] of Object.entries(layouts)) {
    it(name, async () => {
      const data = dataset(60, (i) => ({ inputs: { x: uneven(shape, 10 + i, axis) } }));
      const feed = { x: uneven(shape, 99, axis) };
      const exact = await outputOf(cpu, graph, feed);
      const quality = async (score: "magnitude" | "wanda" | "sparsegpt" | "random"): Promise<number> => {
        const { small, w } = await prune(graph, { score, sparsity: 0.5 }, data);
        expect(zeros(w)).toBe(w.length / 2);
        return sqnr(exact, await outputOf(cpu, small, feed));
      };
      const [chance, magnitude] = [await quality("random"), await quality("magnitude")];
      const [wanda, sparsegpt] = [await quality("wanda"), await quality("sparsegpt")];
      expect(magnitude).toBeGreaterThan(chance);
      expect(wanda).toBeGreaterThan(magnitude + 1);
      expect(sparsegpt).toBeGreaterThan(magnitude + 1);
    });
  }
});

test("wanda compares |w| times the norm of the input within an output", async () => {
  const graph = single("Gemm", [2, 3], { transB: 1 });
  const weights = float32([2, 3], [3, 2, 1, 30, 20, 10]);
  const changed = { ...graph, weights: new Map([["w", weights]]) };
  const data = dataset(2, () => ({ inputs: { x: float32([1, 3], [1, 1, 10]) } }));
  const { w } = await prune(changed, { score: "wanda", sparsity: 1 / 3 }, data);
  expect([...w]).toEqual([3, 0, 1, 30, 0, 10]);
});

describe("patterns", () => {
  for (const [name, { graph, shape, axis }] of Object.entries(layouts)) {
    for (const score of ["magnitude", "sparsegpt"] as const) {
      it(`${name} by ${score}`, async () => {
        const data = dataset(4, (i) => ({ inputs: { x: uneven(shape, 10 + i, axis) } }));
        const options = pruneWeightsOptions.parse({ minElements: 1 });
        const [layer] = surveyLayers(graph, options, parsePattern("unstructured")!).layers;
        const order = elementOrder(layer!);
        const matrixOf = (w: Float32Array): Float32Array => (order ? Float32Array.from(order, (at) => w[at]!) : w);
        const { w: nm } = await prune(graph, { pattern: "2:4", score }, data);
        const groups = matrixOf(nm);
        for (let i = 0; i < groups.length; i += 4) expect(zeros(groups.subarray(i, i + 4))).toBe(2);
        const { w: blocky } = await prune(graph, { pattern: "4x2", score, sparsity: 0.5 }, data);
        const matrix = matrixOf(blocky).map((v) => (v === 0 ? 0 : 1));
        const sums = blockScores(matrix, layer!, { rows: 4, columns: 2 });
        expect(new Set(sums.map((s) => Math.round(s ** 2)))).toEqual(new Set([0, 8]));
        expect(zeros(sums)).toBe(sums.length / 2);
      });
    }
  }

  test("neighbours are inputs of the same tap", () => {
    const graph = single("Conv", [2, 4, 1, 2]);
    const [layer] = surveyLayers(graph, pruneWeightsOptions.parse({ minElements: 1 }), parsePattern("2:4")!).layers;
    expect([...elementOrder(layer!)!].slice(0, 8)).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
  });

  test("what does not divide is left alone, what is no pattern refused", async () => {
    const { skips, small } = await prune(single("Gemm", [6, 10], { transB: 1 }), { pattern: "2:4" });
    expect(skips).toEqual([{ node: "layer", reason: "10 inputs are no multiple of 4" }]);
    expect(zeros(toFloat32(small.weights.get("w")!))).toBe(0);
    await expect(prune(single("MatMul", [8, 8]), { pattern: "4:4" })).rejects.toThrow(/prunes nothing/);
  });
});

describe("what is zero stays so and goes first", () => {
  // zeros among the first inputs only: the columns that SparseGPT settles together have unlike numbers of them
  const sparse = (share: number): Graph => {
    const graph = single("MatMul", [320, 16]);
    const source = random(2);
    const cleared = toFloat32(graph.weights.get("w")!).map((v, i) => (i < 200 * 16 && source.next() < share ? 0 : v));
    return { ...graph, weights: new Map([["w", float32([320, 16], cleared)]]) };
  };
  const data = dataset(20, (i) => ({ inputs: { x: uneven([30, 320], 10 + i, 1) } }));

  it.each([
    ["sparsegpt", "unstructured"],
    ["sparsegpt", "4x2"],
    ["sparsegpt", "2:4"],
    ["wanda", "unstructured"],
    ["wanda", "2:4"],
    ["magnitude", "unstructured"],
  ] as const)("%s, %s", async (score, pattern) => {
    for (const share of [0.3, 0.9]) {
      const graph = sparse(share);
      const before = toFloat32(graph.weights.get("w")!);
      const { w } = await prune(graph, { score, pattern, sparsity: 0.4 }, data);
      expect(before.filter((v, i) => v === 0 && w[i] !== 0)).toHaveLength(0);
      if (pattern !== "unstructured" || score === "wanda") continue;
      expect(zeros(w)).toBe(share === 0.3 ? 0.4 * w.length : zeros(before));
    }
  });
});

/** A multilayer perceptron; its middle layer's weights are ten times those of the others. */
function perceptron(): Graph {
  const layer = (i: number, x: string): ReturnType<typeof makeNode> =>
    makeNode(
      "Gemm",
      [x, `w${i}`],
      [i === 3 ? "y" : `h${i}`],
      { transB: 1 } as Record<string, PlainAttribute>,
      `fc${i}`,
    );
  const weights = [normal([64, 64], 1), normal([64, 64], 2), normal([32, 64], 3), normal([8, 32], 4)];
  const scaled = toFloat32(weights[1]!).map((v) => 10 * v);
  weights[1] = float32([64, 64], scaled);
  return makeGraph({
    nodes: [
      layer(0, "x"),
      makeNode("Relu", ["h0"], ["r0"]),
      layer(1, "r0"),
      makeNode("Relu", ["h1"], ["r1"]),
      layer(2, "r1"),
      makeNode("Relu", ["h2"], ["r2"]),
      layer(3, "r2"),
    ],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [null, 64] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map(weights.map((w, i) => [`w${i}`, w])),
  });
}

const shares = (graph: Graph): number[] =>
  ["w0", "w1", "w2", "w3"].map((name) => {
    const w = toFloat32(graph.weights.get(name)!);
    return zeros(w) / w.length;
  });

describe("densities", () => {
  const total = 64 * 64 * 2 + 32 * 64;

  test.each(["uniform", "global", "lamp", "erdos-renyi"] as const)(
    "%s takes exactly the share asked for",
    async (density) => {
      const { small, skips } = await prune(perceptron(), { density, sparsity: 0.6 });
      expect(skips).toEqual([{ node: "fc3", reason: "the last layer is kept dense: it holds 2.4 % of the weights" }]);
      const [a, b, c] = shares(small) as [number, number, number, number];
      expect(Math.abs(4096 * a + 4096 * b + 2048 * c - 0.6 * total)).toBeLessThan(2);
      if (density === "uniform") expect(Math.max(a, b, c) - Math.min(a, b, c)).toBeLessThan(1e-3);
      // one threshold takes nearly nothing of large weights; scaling a layer does not move its adaptive scores
      if (density === "global") expect(b).toBeLessThan(0.2);
      if (density === "lamp") expect(Math.abs(a - b)).toBeLessThan(0.02);
      if (density === "erdos-renyi") expect(c).toBeLessThan(a);
    },
  );

  test("layers named have their own, the last layer too", async () => {
    const { small } = await prune(perceptron(), {
      sparsity: 0.5,
      density: "global",
      layerSparsity: { "fc*": 0.25, w3: 0.75 },
    });
    expect(shares(small)).toEqual([0.25, 0.25, 0.25, 0.75]);
    // whatever their size
    const large = await prune(perceptron(), { layerSparsity: { fc3: 0.5 }, minElements: 1000 });
    expect(shares(large.small)).toEqual([0.5, 0.5, 0.5, 0.5]);
    await expect(prune(perceptron(), { layerSparsity: { fd1: 0.5 } })).rejects.toThrow(/fits.*'fd1'.*fc1/);
  });

  test("Erdos-Renyi densities stop at 1 and keep what they should", () => {
    const options = pruneWeightsOptions.parse({ minElements: 1, ends: "prune" });
    const { layers } = surveyLayers(perceptron(), options, parsePattern("unstructured")!);
    const kept = erdosRenyi(layers, 0.1);
    expect(Math.max(...kept)).toBe(1);
    const sum = layers.reduce((s, { rows, columns }, i) => s + kept[i]! * rows * columns, 0);
    expect(sum).toBeCloseTo(0.9 * (total + 256), 6);
  });

  test("adaptive scores divide a square by those not smaller", () => {
    const scores = [...adaptive(Float32Array.of(2, 1, 3))];
    expect(scores).toEqual([1 / 14, 4 / 13, 1].map((v) => expect.closeTo(v, 6)));
  });
});

test("a threshold is found exactly, ties and all", () => {
  const source = random(3);
  const numbers = Float32Array.from({ length: 100_000 }, () => Math.round(source.next() * 5000) / 100);
  const sorted = numbers.slice().sort();
  for (const count of [1, 777, 50_000, 100_000]) {
    const search = thresholdSearch(count);
    for (let pass = 0; pass < 2; pass++) {
      search.add(numbers.subarray(0, 30_000));
      search.add(numbers.subarray(30_000));
      search.next();
    }
    const kth = sorted[count - 1]!;
    expect(search.result()).toEqual({ value: kth, ties: count - sorted.indexOf(kth) });
    const mask = lowestMask(numbers, { rows: 1, columns: numbers.length }, parsePattern("1x1")!, count);
    expect(mask.reduce((a, b) => a + b, 0)).toBe(count);
  }
});

test("gradients find the weights that the loss does not need", async () => {
  // half of the inputs are silent
  const graph = perceptron();
  const source = random(8);
  const silent = (rows: number): Tensors => ({
    x: float32(
      [rows, 64],
      Float32Array.from({ length: 64 * rows }, (_, i) => (i % 64 < 32 ? source.normal() : 0)),
    ),
  });
  const feed = silent(20);
  const exact = await outputOf(cpu, graph, feed);
  const data = dataset(64, () => ({ inputs: silent(1), labels: int64([source.int(8)]) }));
  const quality = async (score: "taylor" | "snip" | "magnitude"): Promise<number> => {
    const { small, logs } = await prune(graph, { score, sparsity: 0.5, include: ["fc0"], ends: "prune" }, data);
    expect(logs.join()).not.toMatch(/magnitude/);
    expect(shares(small)).toEqual([0.5, 0, 0, 0]);
    return sqnr(exact, await outputOf(cpu, small, feed));
  };
  expect(await quality("magnitude")).toBeLessThan(20);
  expect(await quality("taylor")).toBeGreaterThan(30);
  expect(await quality("snip")).toBeGreaterThan(30);
});

test("gradients leave out the class that does not count", async () => {
  const data = dataset(16, (i) => ({ inputs: { x: normal([1, 64], i + 1) }, labels: int64([i % 4 ? 3 : 255]) }));
  await expect(prune(perceptron(), { score: "snip" }, data)).rejects.toThrow("--ignore=255");
  const { small } = await prune(perceptron(), { score: "snip", ignore: 255, ends: "prune" }, data);
  expect(shares(small).every((share) => share > 0)).toBe(true);
});

test("scores that need data say so", async () => {
  await expect(prune(perceptron(), { score: "wanda" })).rejects.toThrow(/needs data/);
  await expect(prune(perceptron(), { score: "snip" })).rejects.toThrow(/needs data with labels/);
});

test("depthwise kernels and lookup tables are left alone, shared weights pruned once", async () => {
  const depthwise = await prune(single("Conv", [40, 1, 3, 3], { group: 40 }), {});
  expect(depthwise.skips[0]?.reason).toMatch(/depthwise/);
  const shared = makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["h"], {}, "a"), makeNode("MatMul", ["h", "w"], ["y"], {}, "b")],
    inputs: [value("x")],
    outputs: [value("y")],
    weights: new Map([["w", normal([32, 32])]]),
  });
  const data = dataset(3, (i) => ({ inputs: { x: normal([1, 32], i + 1) } }));
  for (const score of ["magnitude", "wanda", "sparsegpt"] as const) {
    const { small, w } = await prune(shared, { score }, data);
    expect(small.weights.size).toBe(1);
    expect(zeros(w)).toBe(512);
  }
});
