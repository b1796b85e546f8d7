import { describe, expect, test } from "vitest";
import { edit } from "../graph/edit.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { float32, int64, lazyTensor, type Tensor } from "../tensor/tensor.ts";
import { inferTypes } from "./infer.ts";
import { inspect } from "./inspect.ts";

const onnx = await runtime({ threads: 1 });
const ramp = (...shape: number[]): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, (_, i) => ((i * 37) % 101) / 500),
  );
};

const network: Graph = makeGraph({
  name: "small",
  nodes: [
    makeNode("Conv", ["x", "w1", "b1"], ["c1"], { pads: [1, 1, 1, 1] }, "first"),
    makeNode("Relu", ["c1"], ["r1"]),
    makeNode("Conv", ["r1", "w2"], ["c2"], { pads: [1, 1, 1, 1] }, "second"),
    makeNode("Identity", ["c2"], ["i"]),
    makeNode("Add", ["i", "r1"], ["s"]),
    makeNode("GlobalAveragePool", ["s"], ["p"]),
    makeNode("Reshape", ["p", "to"], ["f"]),
    makeNode("Transpose", ["w3t"], ["w3"], { perm: [1, 0] }, "turn"),
    makeNode("MatMul", ["f", "w3"], ["y"], {}, "last"),
  ],
  weights: new Map([
    ["w1", ramp(8, 3, 3, 3)],
    ["b1", ramp(8)],
    ["w2", ramp(8, 8, 3, 3)],
    ["w3t", ramp(16, 8)],
    ["to", int64([0, -1])],
  ]),
  inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["batch", 3, 16, 16] } }],
  outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32", shape: ["batch", 16] } }],
});
const macs = 16 * 16 * 8 * (27 + 72) + 8 * 16;

describe("inference", () => {
  test("proves shapes with free sizes, whatever the file declares", async () => {
    const declared = new Map([["c1", { name: "c1", type: { kind: "tensor", dtype: "float32", shape: [9] } } as const]]);
    const types = await inferTypes({ ...network, declared }, onnx);
    expect(types.get("c1")).toEqual({ dtype: "float32", shape: ["batch", 8, 16, 16] });
    expect(types.get("w3")).toEqual({ dtype: "float32", shape: [8, 16] });
    expect((await inferTypes(network, onnx, { batch: 5 })).get("y")).toEqual({ dtype: "float32", shape: [5, 16] });
  });

  test("reads no large weight", async () => {
    const unread = lazyTensor("float32", [3000, 4000], () => expect.unreachable("the weight was read"));
    const graph = makeGraph({
      nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
      weights: new Map([["w", unread]]),
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["n", 3000] } }],
      outputs: [{ name: "y" }],
    });
    expect((await inferTypes(graph, onnx)).get("y")).toEqual({ dtype: "float32", shape: ["n", 4000] });
    const { totals, shapes, untimed } = await inspect(graph, { runtime: onnx, limit: 1e6 });
    expect(totals).toMatchObject({ parameters: 12e6, bytes: 48e6, macs: 12e6, unknownNodes: 0 });
    expect(shapes).toEqual({ source: "inference", inputs: { x: [1, 3000] } });
    expect(untimed).toBe("its weights are larger than the limit");
  });
});

describe("inspection", () => {
  test("measures nodes and layers; what is fused goes to the convolution", async () => {
    const found = await inspect(network, { runtime: onnx });
    expect(found.shapes).toEqual({ source: "run", inputs: { x: [1, 3, 16, 16] } });
    expect(found.totals).toMatchObject({ nodes: 9, parameters: 216 + 8 + 576 + 128, macs, unknownNodes: 0 });
    expect(found.totals.byType).toEqual({ float32: 4 * 928, int64: 16 });
    expect(found.totals.peak.bytes).toBe(4 * 256 * 8 * 3);
    expect(found.layers.map(({ name, nodes }) => [name, nodes.length])).toEqual([
      ["first", 2],
      ["second", 5],
      ["last", 2],
    ]);
    expect(found.layers.reduce((sum, layer) => sum + layer.macs, 0)).toBe(macs);
    expect(found.timing!.kernels).toBeGreaterThan(0);
    for (const name of ["first", "second", "last"]) {
      expect(found.nodes.find((node) => node.name === name)!.ms).toBeGreaterThan(0);
    }
    const sum = found.nodes.reduce((total, { ms = 0 }) => total + ms, 0);
    const added = Object.values(found.timing!.added).reduce((a, b) => a + b, 0);
    expect(sum + added).toBeCloseTo(found.timing!.kernels, 6);
    expect(JSON.parse(JSON.stringify(found))).toEqual(found);
  });

  test("says the same without running, and less without a runtime", async () => {
    const still = await inspect(network, { runtime: onnx, time: false });
    expect(still.totals).toMatchObject({ macs, unknownNodes: 0 });
    expect([still.timing, still.untimed, still.shapes.source]).toEqual([undefined, "not asked for", "inference"]);
    const blind = await inspect(network);
    expect(blind.totals.parameters).toBe(928);
    expect(blind.totals.unknownNodes).toBeGreaterThan(0);
    expect(blind.nodes.find(({ name }) => name === "second")!.unknown).toBe("the shape of 'c2' is unknown");
  });

  test("lists duplicates, shared and transposed weights", async () => {
    const graph = edit(network, (draft) => {
      const turned = float32(
        [8, 16],
        Float32Array.from({ length: 128 }, (_, i) => ((((i % 16) * 8 + Math.floor(i / 16)) * 37) % 101) / 500),
      );
      draft.weights.set("w4", turned);
      draft.weights.set("w5", ramp(16, 8));
      draft.emit("MatMul", ["y", "w5"], {}, ["a"]);
      draft.emit("MatMul", ["a", "w4"], {}, ["b"]);
      draft.emit("MatMul", ["f", "w4"], {}, ["c"]);
      draft.outputs = [...draft.outputs, { name: "b" }, { name: "c" }];
    });
    const { duplicates, transposed, shared } = await inspect(graph);
    expect(duplicates).toEqual([{ weights: ["w3t", "w5"], bytes: 512 }]);
    expect(transposed).toEqual([{ weights: ["w3t", "w4"], bytes: 512 }]);
    expect(shared).toEqual([{ weight: "w4", nodes: ["MatMul_b", "MatMul_c"], bytes: 512 }]);
  });

  test("asks techniques where they apply, and what can be removed", async () => {
    const { techniques, removable } = await inspect(network, {
      techniques: [
        { name: "folding", summary: "Folds.", applies: ({ op }) => op === "Conv" || "not a convolution" },
        { name: "silent", summary: "Says nothing." },
      ],
      simplified: async (graph) =>
        edit(graph, (draft) => {
          draft.replace(graph.nodes[3]!);
          draft.rewire("i", "c2");
        }),
    });
    expect(techniques).toHaveLength(1);
    expect(techniques[0]).toMatchObject({ technique: "folding", nodes: ["first", "second"] });
    expect(techniques[0]!.left.map(({ reason, nodes }) => [reason, nodes.length])).toEqual([["not a convolution", 7]]);
    expect(removable).toEqual({ nodes: 1, bytes: 0 });
  });

  test("a model that can't run is still inspected, with the reason", async () => {
    const feeds = { x: float32([1, 3, 4], new Float32Array(12)) };
    const { shapes, untimed, totals } = await inspect(network, { runtime: onnx, feeds });
    expect(untimed).toMatch(/can't run the model/);
    expect(shapes.source).toBe("none");
    expect(totals.parameters).toBe(928);
  });
});
