import { describe, expect, it, test } from "vitest";
import type { Dataset } from "../../data/dataset.ts";
import { encodeOnnx } from "../../formats/onnx/index.ts";
import { edit } from "../../graph/edit.ts";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { random } from "../../random.ts";
import { float32, sizeOf, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { normal, outputOf, testContext } from "../testing.ts";
import { weightMatrix } from "../weight-matrices/matrix.ts";
import { quantizeWeights } from "./index.ts";
import { inPasses } from "./levels.ts";
import { surveyWeights } from "./targets.ts";

const cpu = await runtime({ threads: 1 });
const plain = { optimize: "disabled" } as const;

function layer(op: string, weight: readonly number[], attributes = {}, inputs = ["x", "w"]): Graph {
  const recurrent = op === "LSTM";
  return makeGraph({
    nodes: [makeNode(op, recurrent ? ["x", "w", "r"] : inputs, recurrent ? ["", "y"] : ["y"], attributes)],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32" } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map([["w", normal(weight)], ...(recurrent ? [["r", normal([1, 32, 8], 9)] as const] : [])]),
    opsets: { "": 21 },
    irVersion: 10,
  });
}

/** Inputs whose channels, along `axis`, are mixtures of three causes and a little noise. */
function mixed(shape: readonly number[], axis: number, seed: number): Tensor {
  const [channels, inner] = [shape[axis]!, sizeOf(shape.slice(axis + 1))];
  const mixing = toFloat32(normal([channels, 3], 77));
  const causes = toFloat32(normal([sizeOf(shape) / channels, 3], seed));
  const noise = toFloat32(normal(shape, seed + 1));
  return float32(
    shape,
    noise.map((v, at) => {
      const c = Math.floor(at / inner) % channels;
      const position = Math.floor(at / inner / channels) * inner + (at % inner);
      let sum = 0.05 * v;
      for (let k = 0; k < 3; k++) sum += 10 * mixing[c * 3 + k]! * causes[position * 3 + k]!;
      return sum;
    }),
  );
}

function samplesOf(count: number, make: (index: number) => Tensor): Dataset {
  return {
    name: "mixtures",
    splits: ["all"],
    size: () => count,
    async *batches({ limit = count }) {
      for (let i = 0; i < Math.min(limit, count); i++) yield { inputs: { x: make(i) }, size: 1 };
    },
  };
}

const cases: Record<string, { graph: Graph; shape: readonly number[]; axis: number }> = {
  MatMul: { graph: layer("MatMul", [48, 12]), shape: [1, 40, 48], axis: 2 },
  "MatMul, weight on the left": { graph: layer("MatMul", [9, 40], {}, ["w", "x"]), shape: [40, 50], axis: 0 },
  "Gemm transB": { graph: layer("Gemm", [12, 48], { transB: 1 }), shape: [40, 48], axis: 1 },
  Conv: { graph: layer("Conv", [8, 5, 3, 3], { pads: [1, 1, 1, 1] }), shape: [1, 5, 9, 9], axis: 1 },
  "Conv, grouped": { graph: layer("Conv", [8, 4, 3, 3], { group: 2 }), shape: [1, 8, 9, 9], axis: 1 },
  "input weights of an LSTM": {
    graph: layer("LSTM", [1, 32, 24], { hidden_size: 8 }),
    shape: [30, 1, 24],
    axis: 2,
  },
};

const options = { bits: 3, format: "storage", minElements: 1 } as const;

describe("outputs err less on other samples than when every block is rounded by itself", () => {
  for (const [name, { graph, shape, axis }] of Object.entries(cases)) {
    it(name, async () => {
      const data = samplesOf(16, (i) => mixed(shape, axis, 100 + 2 * i));
      const x = mixed(shape, axis, 4000);
      const exact = await outputOf(cpu, graph, { x });
      const errorOf = async (method: "search" | "gptq", actOrder = false): Promise<number> => {
        const lines: string[] = [];
        const context = { ...testContext(cpu), data, log: (line: string) => void lines.push(line) };
        const step = quantizeWeights({ ...options, method, actOrder, exclude: [], include: [] });
        const output = await outputOf(cpu, await step.apply(graph, context), { x }, plain);
        // the recurrent weights can't be seen
        if (name !== "input weights of an LSTM") expect(lines).toEqual([]);
        return output.reduce((sum, v, i) => sum + (v - exact[i]!) ** 2, 0);
      };
      const before = await errorOf("search");
      expect(await errorOf("gptq")).toBeLessThan(0.8 * before);
      expect(await errorOf("gptq", true)).toBeLessThan(0.8 * before);
    });
  }
});

test("every form stores the very numbers that were found", async () => {
  const { graph, shape, axis } = cases.MatMul!;
  const data = samplesOf(16, (i) => mixed(shape, axis, 100 + 2 * i));
  const identity = float32(
    [48, 48],
    Float32Array.from({ length: 48 * 48 }, (_, i) => (i % 49 === 0 ? 1 : 0)),
  );
  for (const bits of [8, 4, 2, "ternary", "binary"] as const) {
    const found: Float32Array[] = [];
    for (const format of ["matmulnbits", "dequantize"] as const) {
      // blocks of 16 divide the weight, so that all forms have the same; steps of storage are float16
      const step = quantizeWeights({ ...options, bits, format, block: 16, accuracyLevel: 1, method: "gptq" });
      const made = await step.apply(graph, { ...testContext(cpu), data });
      found.push(await outputOf(cpu, made, { x: identity }, plain));
    }
    expect(found[1]).toEqual(found[0]);
    const levels = new Set([...found[0]!].slice(0, 12 * 16).filter((_, i) => i % 12 === 0));
    expect(levels.size).toBeLessThanOrEqual(bits === "ternary" ? 3 : bits === "binary" ? 2 : 2 ** bits);
  }
});

test("a layer with fewer samples than inputs is rounded, and told of, where that errs less", async () => {
  const graph = layer("MatMul", [64, 16]);
  const lines: string[] = [];
  // nothing that one row has in common with the next
  const data = samplesOf(2, (i) => normal([1, 64], 500 + i));
  const context = { ...testContext(cpu), data, log: (line: string) => void lines.push(line) };
  const made = await quantizeWeights({ ...options, method: "gptq", damping: 1e-6 }).apply(graph, context);
  expect(lines).toEqual([expect.stringMatching(/^rounded without compensation, since that errs less .*'MatMul_y'$/)]);
  expect([...made.weights.keys()].some((name) => name.startsWith("w_codes"))).toBe(true);
});

test("without data it says what is missing", async () => {
  const step = quantizeWeights({ method: "gptq" });
  await expect(step.apply(layer("MatMul", [48, 12]), testContext(cpu))).rejects.toThrow(/method gptq needs samples/);
});

/** x -> (a, b) -> c, the next layer after both. */
function chain(): Graph {
  return makeGraph({
    nodes: [
      makeNode("MatMul", ["x", "a"], ["p"]),
      makeNode("MatMul", ["x", "b"], ["q"]),
      makeNode("Mul", ["p", "q"], ["m"]),
      makeNode("MatMul", ["m", "c"], ["n"]),
      makeNode("MatMul", ["n", "d"], ["y"]),
    ],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32" } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    weights: new Map(["a", "b", "c", "d"].map((name, i) => [name, normal([32, 32], i)])),
    opsets: { "": 21 },
    irVersion: 10,
  });
}

test("layers side by side share a pass, and passes are no more than asked for", () => {
  const graph = chain();
  const { targets } = surveyWeights(graph, { select: () => true, minElements: 1 });
  const parts = (passes: number): string[] =>
    inPasses(graph, targets.map(weightMatrix), passes).map((part) => part.map(({ target }) => target.name).join(""));
  expect(parts(16)).toEqual(["ab", "c", "d"]);
  expect(parts(2)).toEqual(["abc", "d"]);
  expect(parts(1)).toEqual(["abcd"]);
});

test("later layers are calibrated on what the coded ones before them give", async () => {
  const graph = chain();
  const data = samplesOf(12, (i) => mixed([20, 32], 1, 100 + 2 * i));
  const codesOf = async (passes: number): Promise<Map<string, Uint8Array>> => {
    const step = quantizeWeights({ ...options, bits: 2, method: "gptq", passes });
    const made = await step.apply(graph, { ...testContext(cpu), data });
    return new Map([...made.weights].map(([name, value]) => [name, value.bytes()]));
  };
  const [together, apart] = [await codesOf(1), await codesOf(16)];
  expect(apart.get("a_codes")).toEqual(together.get("a_codes"));
  expect(apart.get("c_codes")).not.toEqual(together.get("c_codes"));
});

test("the same samples give the same bytes, and the input stays as it was", async () => {
  const graph = edit(chain(), () => {});
  const before = encodeOnnx(graph);
  const data = samplesOf(12, (i) => mixed([20, 32], 1, 100 + 2 * i));
  const make = async (): Promise<Uint8Array> => {
    const step = quantizeWeights({ ...options, method: "gptq", actOrder: true });
    return encodeOnnx(await step.apply(graph, { ...testContext(cpu), random: random(4), data }));
  };
  expect(await make()).toEqual(await make());
  expect(encodeOnnx(graph)).toEqual(before);
});
