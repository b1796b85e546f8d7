import { expect, test } from "vitest";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { float32 } from "../tensor/tensor.ts";
import { groupOptions, weightSettings } from "./parameters.ts";

function network(): Graph {
  return makeGraph({
    nodes: [
      makeNode("Conv", ["x", "features.weight", "features.bias"], ["c"], {}, "/features/Conv"),
      makeNode("Flatten", ["c"], ["f"]),
      makeNode("Gemm", ["f", "head.weight", "head.bias"], ["y"], { transB: 1 }, "/head/Gemm"),
    ],
    weights: new Map([
      ["features.weight", float32([2, 1, 1, 1], [1, 2])],
      ["features.bias", float32([2], [0, 1])],
      ["head.weight", float32([2, 2], [1, 2, 3, 4])],
      ["head.bias", float32([2], [0, 1])],
    ]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 1, 1, 1] } }],
    outputs: [{ name: "y" }],
  });
}

const settings = (groups: object) => Object.fromEntries(weightSettings(network(), groupOptions.parse(groups)));
const plain = { frozen: false, rateFactor: 1, decay: undefined };

test("patterns fit weights by name, and by the nodes and operators that read them", () => {
  expect(settings({ freeze: ["Conv"] })).toEqual({
    "features.weight": { ...plain, frozen: true },
    "features.bias": { ...plain, frozen: true },
  });
  expect(settings({ rateFactors: { "/head/*": 10 }, decays: { "/\\.bias$/": 0.5 } })).toEqual({
    "head.weight": { ...plain, rateFactor: 10 },
    "head.bias": { ...plain, rateFactor: 10, decay: 0.5 },
    "features.bias": { ...plain, decay: 0.5 },
  });
});

test("the last factor that fits counts, and a factor of 0 freezes", () => {
  expect(settings({ rateFactors: { "*": 0.5, "head.*": 2, "features.bias": 0 } })).toEqual({
    "features.weight": { ...plain, rateFactor: 0.5 },
    "features.bias": { frozen: true, rateFactor: 0.5, decay: undefined },
    "head.weight": { ...plain, rateFactor: 2 },
    "head.bias": { ...plain, rateFactor: 2 },
  });
});

test("a pattern that fits nothing is an error with the nearest name", () => {
  expect(() => settings({ decays: { "head.weigth": 0 } })).toThrow(/nothing fits --decays 'head.weigth'.*head.weight/);
});
