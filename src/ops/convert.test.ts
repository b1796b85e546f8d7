import { describe, expect, test } from "vitest";
import {
  float,
  type Graph,
  type GraphInit,
  makeGraph,
  makeNode,
  type Node,
  type Subgraph,
  type Value,
} from "../graph/graph.ts";
import { assertValid } from "../graph/validate.ts";
import { runtime } from "../platform/node.ts";
import type { DType } from "../tensor/dtype.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, type Tensor, tensor, toNumbers } from "../tensor/tensor.ts";
import { convertOpset, withIrVersion } from "./convert.ts";

const value = (name: string, shape: readonly (number | string)[], dtype: DType = "float32"): Value => ({
  name,
  type: { kind: "tensor", dtype, shape },
});
const x = value("x", [2, 3, 4]);
const y: Value = { name: "y" };
const data = float32(
  [2, 3, 4],
  Float32Array.from({ length: 24 }, (_, i) => Math.sin(i * 1.7) * 3),
);
const image = float32(
  [1, 2, 4, 4],
  Float32Array.from({ length: 32 }, (_, i) => Math.cos(i) * 2),
);

const old = (opset: number, nodes: readonly Node[], init: Partial<GraphInit> = {}): Graph =>
  makeGraph({ inputs: [x], outputs: [y], nodes, opsets: { "": opset }, irVersion: 4, ...init });

async function run(graph: Graph, feed: Tensor): Promise<{ shape: readonly number[]; data: number[] }> {
  const session = await (await runtime({ threads: 1 })).open(graph);
  try {
    const out = (await session.run({ x: feed })).y!;
    return { shape: out.shape, data: toNumbers(out) };
  } finally {
    await session.release();
  }
}

const inX = { inputs: [value("x", [1, 2, 4, 4])] };
/** Graphs of an older operator set, and the data to compare them on before and after conversion. */
const cases: Record<string, [Graph, Tensor?]> = {
  "Squeeze, Unsqueeze and ReduceSum axes": [
    old(11, [
      makeNode("Unsqueeze", ["x"], ["u"], { axes: [0, 4] }),
      makeNode("ReduceSum", ["u"], ["s"], { axes: [2] }),
      makeNode("Squeeze", ["s"], ["y"], { axes: [0] }),
    ]),
  ],
  "ReduceMean axes, and none": [
    old(13, [makeNode("ReduceMean", ["x"], ["m"], { axes: [-1], keepdims: 0 }), makeNode("ReduceMax", ["m"], ["y"])]),
  ],
  "Softmax over several axes": [old(11, [makeNode("Softmax", ["x"], ["y"], { axis: 1 })])],
  "LogSoftmax with the default axis": [old(9, [makeNode("LogSoftmax", ["x"], ["y"])])],
  "Softmax of a value of unknown rank": [
    old(11, [makeNode("MatMul", ["x", "w"], ["h"]), makeNode("Softmax", ["h"], ["y"], { axis: 2 })], {
      weights: new Map([["w", float32([4, 2], [1, 2, 3, 4, 5, 6, 7, 8])]]),
    }),
  ],
  "Clip limits": [old(6, [makeNode("Clip", ["x"], ["y"], { min: float(-1), max: float(2) })])],
  "Clip with an upper limit only": [old(6, [makeNode("Clip", ["x"], ["y"], { max: float(0.5) })])],
  "Pad amounts and value": [old(10, [makeNode("Pad", ["x"], ["y"], { pads: [0, 1, 0, 1, 0, 2], value: float(7) })])],
  "Slice to the end": [
    old(9, [
      makeNode("Slice", ["x"], ["y"], {
        axes: [1, 2],
        starts: [1, -3],
        ends: [(2n ** 63n - 1n) as unknown as number, -1],
      }),
    ]),
  ],
  "Split with sizes": [
    old(11, [
      makeNode("Split", ["x"], ["a", "b"], { axis: 2, split: [1, 3] }),
      makeNode("Concat", ["b", "a"], ["y"], { axis: 2 }),
    ]),
  ],
  "Split in equal parts": [
    old(11, [makeNode("Split", ["x"], ["a", "b"], { axis: 2 }), makeNode("Sub", ["a", "b"], ["y"])]),
  ],
  "TopK k": [old(9, [makeNode("TopK", ["x"], ["y", "i"], { k: 2 })])],
  "Dropout with a mask nobody reads": [old(9, [makeNode("Dropout", ["x"], ["y", "mask"], { ratio: float(0.4) })])],
  "BatchNormalization before 9": [
    old(7, [makeNode("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], { spatial: 1 })], {
      ...inX,
      weights: new Map(["s", "b", "m", "v"].map((name, i) => [name, float32([2], [i + 1, i + 0.5])])),
    }),
    image,
  ],
  "Upsample, its scales an attribute": [
    old(7, [makeNode("Upsample", ["x"], ["y"], { scales: { type: "floats", value: [1, 1, 2, 3] } })], inX),
    image,
  ],
  "linear Upsample": [
    old(
      8,
      [makeNode("Upsample", ["x"], ["y"], { mode: "linear", scales: { type: "floats", value: [1, 1, 2, 2] } })],
      inX,
    ),
    image,
  ],
  "Resize that shrinks": [
    old(10, [makeNode("Resize", ["x", "scales"], ["y"])], {
      ...inX,
      weights: new Map([["scales", float32([4], [1, 1, 0.6, 0.6])]]),
    }),
    image,
  ],
  "broadcasting along an axis": [
    old(6, [makeNode("Add", ["x", "b"], ["y"], { broadcast: 1, axis: 1 })], {
      weights: new Map([["b", float32([3], [1, 2, 3])]]),
    }),
  ],
};

describe("convertOpset", () => {
  test.each(Object.entries(cases))("%s", async (_, [graph, feed = data]) => {
    // operator set 6 is not the runtime's any more; the same node without the axis is what it means
    const before = graph.opsets[""] === 6 && graph.nodes[0]!.op === "Add" ? undefined : await run(graph, feed);
    for (const target of [13, 18, 21, 26]) {
      const converted = convertOpset(graph, target);
      assertValid(converted);
      const after = await run(converted, feed);
      const expected = before ?? {
        shape: [2, 3, 4],
        data: toNumbers(data).map((v, i) => Math.fround(v + 1 + (Math.floor(i / 4) % 3))),
      };
      expect(after.shape).toEqual(expected.shape);
      for (const [i, v] of expected.data.entries()) expect(after.data[i]).toBeCloseTo(v, 5);
    }
  });

  test("a softmax over the last axis stays one node where the rank is known", () => {
    const graph = old(11, [makeNode("Softmax", ["x"], ["y"], { axis: 2 })]);
    expect(convertOpset(graph, 13).nodes.map(({ op, attributes }) => [op, attributes.axis])).toEqual([
      ["Softmax", { type: "int", value: -1 }],
    ]);
    const unknown = old(11, [makeNode("Foo", ["x"], ["h"]), makeNode("Softmax", ["h"], ["y"], { axis: 2 })]);
    const renamed = { ...unknown, nodes: [{ ...unknown.nodes[0]!, domain: "my.own" }, unknown.nodes[1]!] };
    expect(convertOpset(renamed, 13).nodes.map(({ op }) => op)).toEqual([
      "Foo",
      "Shape",
      "Flatten",
      "Softmax",
      "Reshape",
    ]);
    const types = new Map([["h", { dtype: "float32", shape: [2, 3, 4] } as const]]);
    expect(convertOpset(renamed, 13, types).nodes.map(({ op }) => op)).toEqual(["Foo", "Softmax"]);
  });

  test("limits take the element type of the data", async () => {
    const half = old(6, [makeNode("Clip", ["x"], ["y"], { min: float(0) })], { inputs: [value("x", [2], "float16")] });
    const converted = convertOpset(half, 13);
    expect(converted.weights.get("min")!.dtype).toBe("float16");
    const feed = tensor("float16", [2], floatToHalf(Float32Array.of(-1, 2), "float16"));
    expect((await run(converted, feed)).data).toEqual([0, 2]);
  });

  test("nested graphs and functions are converted too, equal constants shared", () => {
    const branch = (op: string): Subgraph => ({
      name: "b",
      nodes: [makeNode(op, ["x"], [`${op}_out`], { axes: [1] })],
      weights: new Map(),
      sparse: new Map(),
      inputs: [],
      outputs: [{ name: `${op}_out` }],
      declared: new Map(),
    });
    const attributes = {
      then_branch: { type: "graph", value: branch("Unsqueeze") },
      else_branch: { type: "graph", value: branch("Squeeze") },
    } as const;
    const def = { name: "F", domain: "f", overload: "", inputs: ["a"], outputs: ["b"], attributes: [], defaults: {} };
    const graph = old(11, [makeNode("If", ["c"], ["y"], attributes)], {
      functions: [
        { ...def, nodes: [makeNode("Squeeze", ["a"], ["b"], { axes: [0] })], opsets: { "": 11 }, declared: new Map() },
      ],
    });
    const converted = convertOpset(graph, 13);
    expect([...converted.weights.keys()]).toEqual(["axes"]);
    const inner = Object.values(converted.nodes[0]!.attributes).map((a) =>
      a.type === "graph" ? a.value.nodes[0]!.inputs : [],
    );
    expect(inner).toEqual([
      ["x", "axes"],
      ["x", "axes"],
    ]);
    const [first, second] = converted.functions[0]!.nodes;
    expect([first!.op, second!.inputs, converted.functions[0]!.opsets[""]]).toEqual(["Constant", ["a", "axes"], 13]);
  });

  test("raises the IR version, and weights stop being inputs on the way", () => {
    const weights = new Map([["w", float32([], [1])]]);
    const graph = old(8, [makeNode("Add", ["x", "w"], ["y"])], { inputs: [x, value("w", [])], weights, irVersion: 3 });
    const converted = convertOpset(graph, 21);
    expect([converted.irVersion, converted.opsets[""], converted.inputs.map(({ name }) => name)]).toEqual([
      10,
      21,
      ["x"],
    ]);
    expect(convertOpset(graph, 26).irVersion).toBe(13);
    expect(withIrVersion(converted, 4)).toBe(converted);
    expect(convertOpset(converted, 21)).toBe(converted);
  });

  test("refuses what can't be converted, and says why", () => {
    const refuse =
      (opset: number, node: Node, target = 13) =>
      () =>
        convertOpset(old(opset, [node]), target);
    expect(refuse(9, makeNode("ImageScaler", ["x"], ["y"], {}, "scaler"))).toThrow(
      "convert to operator set 13: node 'scaler': operator 'ImageScaler' was removed in operator set 10",
    );
    expect(refuse(9, makeNode("Dropout", ["x"], ["h", "y"], {}, "d"))).toThrow(
      "can't go from 9 to 10: its mask is read",
    );
    expect(refuse(8, makeNode("Scan", ["", "x"], ["y"], {}, "s"))).toThrow(
      "'s' can't go from 8 to 9: Scan of operator set 8",
    );
    expect(refuse(21, makeNode("RandomUniformLike", ["x"], ["y"], {}, "r"), 22)).toThrow("has no kernel");
    expect(refuse(21, makeNode("Relu", ["x"], ["y"]), 27)).toThrow("loads operator sets up to 26");
  });
});
