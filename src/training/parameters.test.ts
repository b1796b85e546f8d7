import { expect, test } from "vitest";
import { fakeQuantizeNode } from "../autodiff/fake-quantize.ts";
import { foldedBiasNode } from "../autodiff/folded-bias.ts";
import { makeGraph, makeNode, type Node } from "../graph/graph.ts";
import { random } from "../random.ts";
import { float32, int64, type Tensor } from "../tensor/tensor.ts";
import { architectures } from "./architectures/index.ts";
import { groupOptions, parametersOf, weightSettings } from "./parameters.ts";

test.each(["gpt", "vit"])("all that a fresh %s is made of learns, but for masks and scales", (arch) => {
  const graph = architectures[arch]!.build({ layers: 1 }, random(0));
  const learned = new Set(parametersOf(graph).map(({ name }) => name));
  const rest = [...graph.weights].filter(([name, { dtype }]) => dtype === "float32" && !learned.has(name));
  expect(rest.map(([name]) => name).filter((name) => !/^(scale|mask)/.test(name))).toEqual([]);
});

test("biases may begin at zero, matrices be shown in another shape; masks and constants of the computation stay", () => {
  const graph = makeGraph({
    nodes: [
      makeNode("Reshape", ["w", "shape"], ["matrix"]),
      makeNode("MatMul", ["x", "matrix"], ["product"]),
      makeNode("Add", ["product", "bias"], ["biased"]),
      makeNode("Add", ["biased", "mask"], ["masked"]),
      makeNode("Mul", ["masked", "ones"], ["y"]),
    ],
    weights: new Map([
      ["w", float32([6], [1, 2, 3, 4, 5, 6])],
      ["shape", int64([2, 3])],
      ["bias", float32([3], [0, 0, 0])],
      ["mask", float32([2, 3], [0, -1e9, -1e9, 0, 0, -1e9])],
      ["ones", float32([3], [1, 1, 1])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 2] } }],
    outputs: [{ name: "y" }],
  });
  expect(parametersOf(graph).map(({ name, decays }) => [name, decays])).toEqual([
    ["w", true],
    ["bias", false],
  ]);
});

test("kernels hold a map of patches a group, tables and vectors none", () => {
  const matrices = (arch: string): Map<string, unknown> =>
    new Map(
      parametersOf(architectures[arch]!.build({ layers: 1 }, random(0))).flatMap(({ nodes, matrices: held }) =>
        nodes.map((node): [string, unknown] => [node, held]),
      ),
    );
  const mobile = [...matrices("ds-cnn").values()];
  expect(mobile).toContainEqual([64, 1, 9]); // depthwise
  expect(mobile).toContainEqual([1, 64, 64]); // pointwise
  expect(mobile).toContain(undefined); // biases, norms
  const text = [...matrices("gpt")];
  expect(text.filter(([node]) => /gather|embed/i.test(node)).map(([, held]) => held)).toContain(undefined);
});

test("steps of fake quantization learn where they have a rule, and what is rounded learns as what reads it", () => {
  const fake = (inputs: readonly string[], output: string, rule: "none" | "lsq"): Node =>
    fakeQuantizeNode(inputs, output, `${output}_clipped`, { low: -7, high: 7, rule }, `${output}_fake`);
  const graph = makeGraph({
    nodes: [
      fake(["x", "xs"], "xq", "none"),
      fake(["w", "ws", "wz"], "wq", "lsq"),
      // a bias is a number of products of steps, and says nothing of whether these learn
      fake(["b", "ws", "", "xs"], "bq", "none"),
      makeNode("Gemm", ["xq", "wq", "bq"], ["y"], {}, "head"),
    ],
    weights: new Map([
      ["xs", float32([], [0.1])],
      ["w", float32([2, 2], [1, 2, 3, 4])],
      ["ws", float32([], [0.2])],
      ["wz", float32([], [0])],
      ["b", float32([2], [1, 2])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [2, 2] } }],
    outputs: [{ name: "y" }],
  });
  expect(parametersOf(graph).map(({ name, decays }) => [name, decays])).toEqual([
    ["w", true],
    ["ws", false],
    ["wz", false],
    ["b", false],
  ]);
  expect(parametersOf(graph)[0]!.matrices).toEqual([1, 2, 2]);
  const frozen = weightSettings(graph, groupOptions.parse({ freeze: ["head"] }));
  expect([...frozen].filter(([, { frozen }]) => frozen).map(([name]) => name)).toEqual(["xs", "w", "ws", "wz", "b"]);
});

test("what is folded into a bias learns as before, and steps only by others that read them", () => {
  const channels = (name: string, values: readonly number[]): [string, Tensor] => [name, float32([2], values)];
  const inputs = { gamma: "gamma", beta: "beta", mean: "mean", variance: "var", weightStep: "ws", readStep: "xs" };
  const graph = makeGraph({
    nodes: [
      fakeQuantizeNode(["w", "ws"], "wq", "wc", { low: -7, high: 7, rule: "lsq" }, "fake"),
      makeNode("Conv", ["x", "wq"], ["c"], {}, "conv"),
      foldedBiasNode({ ...inputs, bias: "b" }, "t", { epsilon: 1e-5, parts: 1 }, "fold"),
      makeNode("BatchNormalization", ["c", "gamma", "t", "zero", "var"], ["y"], {}, "norm"),
    ],
    weights: new Map([
      ["w", float32([2, 1, 1, 1], [1, 2])],
      ["ws", float32([], [0.1])],
      ["xs", float32([], [0.1])],
      // as they are before training, all the same
      channels("gamma", [1, 1]),
      channels("beta", [0, 0]),
      channels("mean", [1, 2]),
      channels("var", [1, 2]),
      channels("zero", [0, 0]),
      channels("b", [3, 4]),
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 1, 2, 2] } }],
    outputs: [{ name: "y" }],
  });
  expect(parametersOf(graph).map(({ name }) => name)).toEqual(["w", "ws", "gamma", "beta", "b"]);
  const frozen = weightSettings(graph, groupOptions.parse({ freeze: ["norm"] }));
  expect([...frozen.keys()].filter((name) => name === "gamma" || name === "beta")).toEqual(["gamma", "beta"]);
});
