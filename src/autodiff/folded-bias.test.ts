import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import { foldedBias, foldedBiasNode } from "./folded-bias.ts";
import { gradient } from "./gradient.ts";
import { lowered } from "./lower/plain.ts";

const onnx = await runtime({ threads: 1 });
const r = random(2);
const normal = (count: number): Float32Array => Float32Array.from({ length: count }, () => r.normal());
const positive = (count: number): Float32Array => normal(count).map((v) => 0.01 + Math.abs(v));

const channels = 64;
const how = { epsilon: 1e-3, parts: 18 };
const names = ["gamma", "beta", "mean", "variance", "weightStep", "readStep", "bias"] as const;

function given(own: boolean) {
  return {
    gamma: normal(channels).map((g, c) => (c === 5 ? 0 : g)),
    beta: normal(channels),
    mean: normal(channels),
    variance: positive(channels),
    weightStep: positive(own ? 1 : channels),
    readStep: Float32Array.of(0.037),
    bias: own ? normal(channels) : undefined,
  };
}

/** The operator's result y, and the gradients of Σ q y. */
async function run(inputs: ReturnType<typeof given>, q: Float32Array) {
  const shapes = { weightStep: [inputs.weightStep.length, 1, 1], readStep: [] };
  const some = names.flatMap((name) => {
    const values = inputs[name];
    return values ? [[name, float32({ ...shapes }[name as "readStep"] ?? [channels], values)] as const] : [];
  });
  const graph = makeGraph({
    nodes: [
      foldedBiasNode(
        {
          ...(Object.fromEntries(names.map((name) => [name, name])) as Record<(typeof names)[number], string>),
          bias: inputs.bias && "bias",
        },
        "y",
        how,
        "fold",
      ),
      makeNode("Mul", ["y", "q"], ["yq"]),
      makeNode("ReduceSum", ["yq"], ["loss"], { keepdims: 0 }),
    ],
    weights: new Map([...some, ["q", float32([channels], q)]]),
    inputs: [],
    outputs: [{ name: "loss" }],
    opsets: { "": 21 },
  });
  const types = await observeTypes(lowered(graph), onnx, {});
  const wanted = ["gamma", "beta", "mean", ...(inputs.bias ? ["bias"] : [])];
  const { graph: made, gradients } = gradient(graph, "loss", wanted, types);
  const found = [...gradients].filter(([, name]) => name !== undefined);
  const session = await onnx.open({
    ...made,
    outputs: ["y", ...found.map(([, name]) => name!)].map((name) => ({ name })),
  });
  const results = await session.run({});
  await session.release();
  return {
    y: toFloat32(results.y!),
    gradients: new Map(found.map(([input, name]) => [input, toFloat32(results[name!]!)])),
  };
}

test.each([true, false])(
  "is what its definition computes, to the last digit; with a bias of the layer's own: %s",
  async (own) => {
    const inputs = given(own);
    const { bias, steps } = foldedBias(inputs, how);
    const { y } = await run(inputs, normal(channels));
    expect([...y]).toEqual([...bias]);
    for (const [c, value] of bias.entries()) {
      const a = inputs.gamma[c]! / Math.sqrt(inputs.variance[c]! + how.epsilon);
      const exact = inputs.beta[c]! + a * ((inputs.bias?.[c] ?? 0) - inputs.mean[c]!);
      const unit = (Math.abs(a) * inputs.weightStep[own ? 0 : c]! * 0.037) / how.parts;
      expect(Math.abs(value - exact)).toBeLessThan(0.51 * unit + 1e-6 * Math.abs(exact));
      if (a !== 0) expect(steps[c]! / (Math.abs(a) * inputs.weightStep[own ? 0 : c]!)).toBeCloseTo(1, 6);
    }
  },
);

test("gradients pass as if nothing were rounded, and none reaches the statistics", async () => {
  const inputs = given(true);
  const q = normal(channels);
  const { gradients } = await run(inputs, q);
  expect([...gradients.keys()]).toEqual(["gamma", "beta", "bias"]);
  for (let c = 0; c < channels; c++) {
    const inverse = 1 / Math.sqrt(inputs.variance[c]! + how.epsilon);
    expect(gradients.get("beta")![c]).toBe(q[c]);
    expect(gradients.get("gamma")![c]).toBeCloseTo(q[c]! * inverse * (inputs.bias![c]! - inputs.mean[c]!), 4);
    expect(gradients.get("bias")![c]).toBeCloseTo(q[c]! * inverse * inputs.gamma[c]!, 4);
  }
});
