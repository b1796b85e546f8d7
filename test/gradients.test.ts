import { describe, expect, test } from "vitest";
import { gradient } from "../src/autodiff/gradient.ts";
import { gradients } from "../src/autodiff/gradients.ts";
import { makeGraph, makeNode } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import { observeTypes } from "../src/platform/observe.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { float32, type Tensor, toFloat32 } from "../src/tensor/tensor.ts";
import { type GradientCase, gradientCases } from "./gradients/cases.ts";

const onnx = await runtime({ threads: 1 });

/** <grad, v> against (L(x + hv) - L(x - hv)) / 2h along random directions, by Richardson's extrapolation over h and h/2. */
async function check(testCase: GradientCase): Promise<void> {
  const r = random(11);
  const [low, high] = testCase.range ?? [-1, 1];
  const kinks = testCase.kinks ?? [];
  const smooth = (): number => {
    const value = low + (high - low) * r.next();
    return kinks.some((kink) => Math.abs(value - kink) < 0.15) ? smooth() : value;
  };
  const draw = (shape: readonly number[]): Tensor =>
    float32(shape, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, smooth));
  const names = testCase.inputs.map((_, i) => `x${i}`);
  const feeds: Tensors = Object.fromEntries(testCase.inputs.map((shape, i) => [names[i]!, draw(shape)]));
  const node = makeNode(
    testCase.op,
    testCase.arguments ?? names,
    Array.from({ length: testCase.outputs ?? 1 }, (_, i) => `y${i}`),
    testCase.attributes,
  );
  const forward = makeGraph({
    nodes: [node],
    inputs: Object.entries(feeds).map(([name, { shape }]) => ({
      name,
      type: { kind: "tensor", dtype: "float32", shape },
    })),
    outputs: [{ name: "y0" }],
    weights: new Map(Object.entries(testCase.constants ?? {})),
    opsets: { "": testCase.opset ?? 21, "com.microsoft": 1 },
    irVersion: 10,
  });
  const { shape } = (await observeTypes(forward, onnx, feeds)).get("y0")!;
  const scored = makeGraph({
    ...forward,
    nodes: [
      node,
      makeNode("Mul", ["y0", "r"], ["weighted"]),
      makeNode("ReduceSum", ["weighted"], ["loss"], { keepdims: 0 }),
    ],
    weights: new Map([...forward.weights, ["r", draw(shape)]]),
    outputs: [{ name: "loss" }],
  });
  const wrt = testCase.wrt ?? names;
  const { graph, gradients: found } = gradient(scored, "loss", wrt, await observeTypes(scored, onnx, feeds));
  const outputs = [...found].flatMap(([, value]) => (value ? [{ name: value }] : []));
  const backward = await onnx.open({ ...graph, outputs });
  const loss = await onnx.open(scored, { optimize: "disabled" });
  try {
    const results = await backward.run(feeds);
    for (const name of wrt) {
      const x = feeds[name]!;
      const dx = toFloat32(results[found.get(name)!]!);
      expect(results[found.get(name)!]!.shape).toEqual(x.shape);
      for (let direction = 0; direction < 3; direction++) {
        const v = Float32Array.from({ length: x.size }, () => r.normal());
        const at = async (h: number): Promise<number> => {
          const moved = toFloat32(x).map((value, i) => value + h * v[i]!);
          return toFloat32((await loss.run({ ...feeds, [name]: float32(x.shape, moved) })).loss!)[0]!;
        };
        const h = testCase.step ?? 0.02;
        const slope = async (step: number): Promise<number> => ((await at(step)) - (await at(-step))) / (2 * step);
        const numeric = (4 * (await slope(h / 2)) - (await slope(h))) / 3;
        const analytic = dx.reduce((sum, d, i) => sum + d * v[i]!, 0);
        const size = Math.sqrt(dx.reduce((sum, d) => sum + d * d, 0)) + 1e-3;
        expect(Math.abs(numeric - analytic) / size, `${name}: ${numeric} against ${analytic}`).toBeLessThan(5e-3);
      }
    }
  } finally {
    await backward.release();
    await loss.release();
  }
}

describe("every gradient rule against central differences", () => {
  test.each(gradientCases.map((c, i) => [`${c.op} ${c.note ?? ""} #${i}`, c] as const))("%s", async (_, c) => check(c));

  test("no rule is left out", () => {
    const tested = new Set(gradientCases.map(({ op }) => op));
    const elsewhere = [
      "QuantizeLinear",
      "DequantizeLinear",
      "Round",
      "pare:BatchNormalization",
      "pare:FakeQuantize",
      "pare:FoldedBias",
    ];
    const ruled = Object.entries(gradients).flatMap(([op, row]) => (typeof row === "function" ? [op] : []));
    expect(ruled.filter((op) => !tested.has(op) && !elsewhere.includes(op))).toEqual([]);
  });
});
