import { describe, expect, it } from "vitest";
import { cpu, dataset, prune, single } from "../../../test/pruned.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import { quantizeDynamic } from "../quantize-dynamic/index.ts";
import { quantizeStatic } from "../quantize-static/index.ts";
import { quantizeWeights } from "../quantize-weights/index.ts";
import { outputOf, testContext } from "../testing.ts";

describe("zeros stay zeros when quantized", () => {
  const graph = single("MatMul", [64, 48]);
  const identity = {
    x: float32(
      [64, 64],
      Float32Array.from({ length: 4096 }, (_, i) => (i % 65 === 0 ? 1 : 0)),
    ),
  };

  it.each([8, 4, 3, 2, "ternary"] as const)("weights of %s bits", async (bits) => {
    const { small, w } = await prune(graph, { sparsity: 0.6 });
    for (const symmetric of [true, false]) {
      for (const method of ["search", "rtn", "hqq"] as const) {
        const options = { bits, symmetric, method, minElements: 1, format: "storage" } as const;
        const quantized = await quantizeWeights(options).apply(small, testContext(cpu));
        const restored = await outputOf(cpu, quantized, identity);
        for (let i = 0; i < w.length; i++) if (w[i] === 0) expect(restored[i]).toBe(0);
      }
    }
  });

  it.each([{}, { perChannel: false }, { portable: true }])("dynamic, %o", async (options) => {
    const { small, w } = await prune(graph, { sparsity: 0.6 });
    const quantized = await quantizeDynamic({ minElements: 1, ...options }).apply(small, testContext(cpu));
    expect([...quantized.weights.values()].some(({ dtype }) => dtype === "int8" || dtype === "uint8")).toBe(true);
    const restored = await outputOf(cpu, quantized, identity);
    for (let i = 0; i < w.length; i++) if (w[i] === 0) expect(restored[i]).toBe(0);
  });

  it("static", async () => {
    const { small, w } = await prune(graph, { sparsity: 0.6 });
    const data = dataset(8, () => ({ inputs: identity }));
    const quantized = await quantizeStatic().apply(small, { ...testContext(cpu), data });
    expect(quantized.nodes.some(({ op }) => op === "QuantizeLinear")).toBe(true);
    const restored = await outputOf(cpu, quantized, identity, { optimize: "disabled" });
    const codes = [...quantized.weights.values()].find(({ dtype, size }) => dtype === "int8" && size === w.length)!;
    expect(toFloat32(codes).filter((code, i) => w[i] === 0 && code !== 0)).toHaveLength(0);
    expect(restored).toHaveLength(w.length);
  });
});
