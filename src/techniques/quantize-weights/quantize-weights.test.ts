import { describe, expect, it } from "vitest";
import { type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { runtime as webRuntime } from "../../platform/web.ts";
import { int64 } from "../../tensor/tensor.ts";
import { normal, outputOf, type Skip, sqnr, testContext } from "../testing.ts";
import { quantizeWeights } from "./index.ts";

const cpu = await runtime({ threads: 1 });
const wasm = await webRuntime({ provider: "wasm", threads: 1 });
/** Optimizations turn DequantizeLinear and MatMul into a kernel that rounds activations to int8. */
const plain = { optimize: "disabled" } as const;

const opsets = { "": 25 };
const x = { name: "x", type: { kind: "tensor", dtype: "float32" } } as const;
const y = { name: "y", type: { kind: "tensor", dtype: "float32" } } as const;
const one = (op: string, weight: readonly number[], attributes = {}, inputs = ["x", "w"]): Graph =>
  makeGraph({
    nodes: [makeNode(op, inputs, ["y"], attributes)],
    inputs: [x],
    outputs: [y],
    weights: new Map([["w", normal(weight)]]),
    opsets,
    irVersion: 13,
  });

const cases: Record<string, { graph: Graph; feed: Tensors; kernels?: boolean }> = {
  "MatMul [K, N]": { graph: one("MatMul", [72, 24]), feed: { x: normal([3, 72]) }, kernels: true },
  "MatMul, batch of weights": { graph: one("MatMul", [2, 40, 9]), feed: { x: normal([2, 3, 40]) } },
  "MatMul, weight on the left": { graph: one("MatMul", [9, 40], {}, ["w", "x"]), feed: { x: normal([40, 5]) } },
  "Gemm transB": { graph: one("Gemm", [24, 70], { transB: 1 }), feed: { x: normal([3, 70]) }, kernels: true },
  Conv: { graph: one("Conv", [8, 5, 3, 3]), feed: { x: normal([1, 5, 6, 6]) } },
  "Conv, grouped": { graph: one("Conv", [8, 4, 3, 3], { group: 2 }), feed: { x: normal([1, 8, 6, 6]) } },
  ConvTranspose: { graph: one("ConvTranspose", [6, 4, 3, 3]), feed: { x: normal([1, 6, 4, 4]) } },
  "ConvTranspose, grouped": {
    graph: one("ConvTranspose", [6, 4, 3, 3], { group: 2 }),
    feed: { x: normal([1, 6, 4, 4]) },
  },
  Gather: { graph: one("Gather", [20, 48], {}, ["w", "x"]), feed: { x: int64([3, 0, 19, 7], [2, 2]) }, kernels: true },
};
for (const [name, { graph }] of Object.entries(cases)) {
  if (name === "Gather") (graph.inputs as unknown[])[0] = { name: "x", type: { kind: "tensor", dtype: "int64" } };
}

/** Least SQNR of 8, 4, 3, 2 bits, ternary and binary on normal weights, in dB, for the finest granularity tested. */
const bars = { 8: 35, 4: 14, 3: 9, 2: 4, ternary: 3, binary: 1.5 } as const;

describe("every form stands for the same numbers", () => {
  for (const [name, { graph, feed, kernels }] of Object.entries(cases)) {
    for (const bits of [8, 4, 3, 2, "ternary", "binary"] as const) {
      it(`${name}, ${bits} bits`, async () => {
        const float = await outputOf(cpu, graph, feed);
        for (const granularity of ["block", "channel", "tensor"] as const) {
          for (const symmetric of [true, false]) {
            const results: Float32Array[] = [];
            for (const format of ["storage", "dequantize", "matmulnbits"] as const) {
              if ((bits === 3 && format !== "storage") || (format === "matmulnbits" && !kernels)) continue;
              const block = name === "Gather" ? 16 : 32;
              const options = {
                bits,
                granularity,
                symmetric,
                format,
                block,
                minElements: 1,
                accuracyLevel: 1,
              } as const;
              const step = quantizeWeights({ ...options });
              const skips: Skip[] = [];
              const small = await step.apply(graph, testContext(cpu, skips));
              expect(skips).toEqual([]);
              const got = await outputOf(cpu, small, feed, plain);
              const browser = await outputOf(wasm, small, feed);
              expect(sqnr(got, browser), `${format} on WASM`).toBeGreaterThan(90);
              const optimized = await outputOf(cpu, small, feed);
              expect(sqnr(got, optimized), `${format} optimized`).toBeGreaterThan(format === "dequantize" ? 35 : 90);
              expect(sqnr(float, got), `${format} ${granularity} ${symmetric}`).toBeGreaterThan(bars[bits]);
              results.push(got);
            }
            // storage of short rows evens out its blocks, and keeps block scales in float16
            const same = granularity === "block" ? 8 : 80;
            for (const other of results.slice(1)) expect(sqnr(results[0]!, other)).toBeGreaterThan(same);
          }
        }
      });
    }
  }
});
