import { describe, expect, test } from "vitest";
import { float32, int64, stringTensor, tensor } from "../tensor/tensor.ts";
import { float, floats, makeGraph, makeNode, type Subgraph } from "./graph.ts";
import { print, printNode, printType } from "./print.ts";

const body: Subgraph = {
  name: "then",
  nodes: [makeNode("Relu", ["x"], ["t"], {}, "inner")],
  weights: new Map(),
  sparse: new Map(),
  inputs: [],
  outputs: [{ name: "t", type: { kind: "tensor", dtype: "float32", shape: [] } }],
  declared: new Map(),
};

describe("print", () => {
  test("a graph in ONNX's textual syntax", () => {
    const graph = makeGraph({
      name: "net",
      inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["batch", 2, null] } }],
      outputs: [{ name: "y.1", type: { kind: "tensor", dtype: "float32" } }],
      nodes: [
        makeNode("MatMul", ["x", "w"], ["h"], {}, "fc"),
        makeNode("com.microsoft:Gelu", ["h"], ["y.1"], { alpha: float(1), axes: [1, -1], mode: 'a"b' }, "act"),
      ],
      weights: new Map([
        ["w", float32([2, 5], [0.1, -0, 1e-8, 1, 2, 3, 4, 5, 6, 7])],
        ["shape", int64([1, -1])],
      ]),
      declared: new Map([["h", { name: "h", type: { kind: "tensor", dtype: "float16", shape: [1] } }]]),
      opsets: { "": 21, "com.microsoft": 1 },
      metadata: { author: "me" },
    });
    expect(print(graph)).toBe(`<
  ir_version: 10,
  opset_import: ["" : 21, "com.microsoft" : 1],
  metadata_props: ["author": "me"]
>
net (float[batch,2,?] x) => (float[] "y.1")
<
  float[2,5] w = {0.1, -0, 1e-8, 1, 2, 3, 4, 5, ...},
  int64[2] shape = {1, -1},
  float16[1] h
>
{
  [fc] h = MatMul (x, w)
  [act] "y.1" = com.microsoft.Gelu <alpha: float = 1, axes: ints = [1, -1], mode: string = "a\\"b"> (h)
}
`);
  });

  test("functions, references to their attributes, and nested graphs behind the inputs", () => {
    const graph = makeGraph({
      name: "g",
      inputs: [],
      outputs: [],
      nodes: [makeNode("If", ["c", ""], ["y"], { then_branch: { type: "graph", value: body } }, "if")],
      functions: [
        {
          name: "Leaky",
          domain: "my.own",
          overload: "v2",
          inputs: ["x"],
          outputs: ["y"],
          attributes: ["slope"],
          defaults: { beta: float(0.5) },
          nodes: [makeNode("LeakyRelu", ["x"], ["y"], { alpha: { type: "ref", value: "slope", of: "FLOAT" } }, "n")],
          opsets: { "": 16 },
          declared: new Map(),
        },
      ],
    });
    expect(print(graph)).toBe(`<
  ir_version: 10,
  opset_import: ["" : 21]
>
g () => ()
{
  [if] y = If (c, "") <then_branch: graph = then () => (float t)
    {
      [inner] t = Relu (x)
    }>
}

<
  domain: "my.own",
  opset_import: ["" : 16],
  overload: "v2"
>
Leaky <slope, beta: float = 0.5> (x) => (y)
{
  [n] y = LeakyRelu <alpha: float = @slope> (x)
}
`);
  });

  test("reads no more of a constant than it shows", () => {
    const big = float32([1000], new Float32Array(1000));
    let most = 0;
    const bytes = (at = 0, length = 4000): Uint8Array => {
      most = Math.max(most, length);
      return big.bytes(at, length);
    };
    const watched = { ...big, bytes };
    const text = print(makeGraph({ nodes: [], inputs: [], outputs: [], weights: new Map([["w", watched]]) }), {
      limit: 3,
    });
    expect(text).toContain("float[1000] w = {0, 0, 0, ...}");
    expect(most).toBe(12);
  });

  test("constants of every kind of type", () => {
    const constant = (value: Parameters<typeof makeNode>[3]) => printNode(makeNode("Constant", [], ["c"], value, "n"));
    const values = [
      tensor("int4", [3], Uint8Array.of(0x7f, 0x08)),
      tensor("uint2", [3], Uint8Array.of(0b110110)),
      tensor("float16", [1], Uint16Array.of(0x3c00)),
      tensor("bool", [2], Uint8Array.of(1, 0)),
      tensor("uint64", [1], BigUint64Array.of(2n ** 64n - 1n)),
      tensor("float64", [3], Float64Array.of(0.1, Number.NaN, -Infinity)),
      tensor("complex64", [1], Float32Array.of(1, 2)),
      stringTensor([2], ["a", Uint8Array.of(255)]),
      float32([], [3]),
    ].map((value) => constant({ value }).replace("[n] c = Constant <value: tensor = ", "").replace("> ()", ""));
    expect(values).toEqual([
      "int4[3] {-1, 7, -8}",
      "uint2[3] {2, 1, 3}",
      "float16[1] {15360}",
      "bool[2] {1, 0}",
      "uint64[1] {18446744073709551615}",
      "double[3] {0.1, nan, -inf}",
      "complex64[1] {1, 2}",
      'string[2] {"a", "\\xff"}',
      "float {3}",
    ]);
    expect(constant({ value_floats: floats([0.1, 1]) })).toBe("[n] c = Constant <value_floats: floats = [0.1, 1]> ()");
  });

  test("types that are not tensors", () => {
    const element = { kind: "tensor", dtype: "int64", shape: [2] } as const;
    expect(printType({ kind: "optional", element: { kind: "sequence", element } })).toBe("optional(seq(int64[2]))");
    expect(printType({ kind: "map", key: "string", value: element })).toBe("map(string, int64[2])");
    expect(printType({ kind: "sparse", dtype: "float32", shape: [2, 3] })).toBe("sparse_tensor(float[2,3])");
  });
});
