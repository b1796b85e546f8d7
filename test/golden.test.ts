import { describe, expect, test } from "vitest";
import { float, type Graph, makeGraph, makeNode, type Value } from "../src/graph/graph.ts";
import { print } from "../src/graph/print.ts";
import { convertOpset } from "../src/ops/convert.ts";
import { float32 } from "../src/tensor/tensor.ts";

const value = (name: string, shape: readonly (number | string)[]): Value => ({
  name,
  type: { kind: "tensor", dtype: "float32", shape },
});

/** A network of the year 2018: every node of it changed its definition since. */
const legacy = makeGraph({
  name: "legacy",
  inputs: [value("x", ["n", 2, 4, 4]), value("scale", [2])],
  outputs: [value("y", ["n", "k"])],
  nodes: [
    makeNode("BatchNormalization", ["x", "scale", "scale", "scale", "scale"], ["norm"], { spatial: 1 }, "norm"),
    makeNode("Clip", ["norm"], ["clip"], { min: float(0), max: float(6) }, "relu6"),
    makeNode("Upsample", ["clip"], ["up"], { scales: { type: "floats", value: [1, 1, 2, 2] } }, "up"),
    makeNode("Pad", ["up"], ["pad"], { pads: [0, 0, 1, 1, 0, 0, 1, 1] }, "pad"),
    makeNode("Slice", ["pad"], ["slice"], { axes: [2], starts: [1], ends: [5] }, "slice"),
    makeNode("ReduceMean", ["slice"], ["mean"], { axes: [2, 3], keepdims: 0 }, "mean"),
    makeNode("Dropout", ["mean"], ["drop", "mask"], { ratio: float(0.5) }, "drop"),
    makeNode("Unsqueeze", ["drop"], ["wide"], { axes: [1] }, "wide"),
    makeNode("Softmax", ["wide"], ["y"], { axis: 1 }, "softmax"),
  ],
  weights: new Map([["scale", float32([2], [1, 2])]]),
  opsets: { "": 8 },
  irVersion: 3,
});

/** Graphs that must come out as the files of test/golden show them, in ONNX's textual syntax. */
const golden: Readonly<Record<string, () => Graph>> = {
  "convert-opset-8-to-13": () => convertOpset(legacy, 13),
  "convert-opset-8-to-21": () => convertOpset(legacy, 21),
};

describe("golden graphs", () => {
  test.each(Object.entries(golden))("%s", async (name, make) => {
    await expect(`${print(make())}\n`).toMatchFileSnapshot(`golden/${name}.txt`);
  });
});
