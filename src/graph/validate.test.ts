import { describe, expect, test } from "vitest";
import { runtime } from "../platform/node.ts";
import { float32, int64, type Tensor, tensor } from "../tensor/tensor.ts";
import { type Graph, type GraphInit, makeGraph, makeNode, type Node, type Subgraph, type Value } from "./graph.ts";
import { assertValid, validate } from "./validate.ts";

const x: Value = { name: "x", type: { kind: "tensor", dtype: "float32", shape: [2] } };
const y: Value = { ...x, name: "y" };
const c: Value = { name: "c", type: { kind: "tensor", dtype: "bool", shape: [] } };
const relu = makeNode("Relu", ["x"], ["y"]);

const graph = (init: Partial<GraphInit>): Graph => makeGraph({ inputs: [x], outputs: [y], nodes: [relu], ...init });
const branch = (nodes: readonly Node[], output: string, weights: Record<string, Tensor> = {}): Subgraph => ({
  name: "b",
  nodes,
  weights: new Map(Object.entries(weights)),
  sparse: new Map(),
  inputs: [],
  outputs: [{ ...x, name: output }],
  declared: new Map(),
});
const conditional = (then: Subgraph, ...before: Node[]): Graph => {
  const otherwise = branch([makeNode("Abs", ["x"], ["e"])], "e");
  const attributes = {
    then_branch: { type: "graph", value: then },
    else_branch: { type: "graph", value: otherwise },
  } as const;
  return graph({ inputs: [x, c], nodes: [...before, makeNode("If", ["c"], ["y"], attributes, "if")] });
};

/** Graphs that must be refused, with the message, and whether ONNX Runtime refuses them too. */
const refused: Record<string, [Graph, string]> = {
  "an undefined value": [
    graph({ nodes: [makeNode("Add", ["x", "bias"], ["y"])], weights: new Map([["bais", float32([2], [1, 2])]]) }),
    "node 'Add_y': it reads 'bias', which nothing makes",
  ],
  "an undefined output": [graph({ nodes: [] }), "graph: nothing makes its output 'y'"],
  "a value made twice": [
    graph({ nodes: [relu, makeNode("Neg", ["x"], ["y"])] }),
    "node 'Neg_y': it makes 'y', which is defined already",
  ],
  "a node that makes an input": [
    graph({ nodes: [makeNode("Relu", ["x"], ["x"])], outputs: [x] }),
    "node 'Relu_x': it makes 'x', which is defined already",
  ],
  "a node that makes a weight": [
    graph({ weights: new Map([["y", float32([2], [1, 2])]]) }),
    "node 'Relu_y': it makes 'y', which is defined already",
  ],
  "two inputs of a name": [graph({ inputs: [x, x] }), "input 'x': another input has its name"],
  "two nodes of a name": [
    graph({ nodes: [makeNode("Relu", ["x"], ["t"], {}, "n"), makeNode("Neg", ["t"], ["y"], {}, "n")] }),
    "node 'n': another node of the graph has its name",
  ],
  "an input without a type": [graph({ inputs: [{ name: "x" }] }), "input 'x': its type is missing"],
  "no operator set": [graph({ opsets: {} }), "graph: it imports no operator set"],
  "an operator set newer than the runtime": [
    graph({ opsets: { "": 27 }, irVersion: 13 }),
    "graph: operator set 27 is newer than 26, the last that ONNX Runtime 1.30 loads",
  ],
  "an IR version newer than the runtime": [
    graph({ irVersion: 14 }),
    "graph: IR version 14 is newer than 13, the last that ONNX Runtime 1.30 loads",
  ],
  "a cycle": [
    graph({
      nodes: [makeNode("Add", ["x", "b"], ["a"]), makeNode("Neg", ["a"], ["b"]), makeNode("Abs", ["b"], ["y"])],
    }),
    "node 'Add_a': it reads 'b' before node 'Neg_b' makes it",
  ],
  "a name made again in a branch": [
    conditional(branch([makeNode("Relu", ["x"], ["t"])], "t"), makeNode("Neg", ["x"], ["t"])),
    "node 'Relu_t': it makes 't', which is a value of the graph around it",
  ],
  "a branch that hands out a value of the graph around it": [
    conditional(branch([], "t"), makeNode("Neg", ["x"], ["t"])),
    "subgraph 'b' of node 'if': its output 't' is a value of the graph around it",
  ],
  "nodes of a branch out of order": [
    conditional(branch([makeNode("Neg", ["u"], ["t"]), makeNode("Relu", ["x"], ["u"])], "t")),
    "node 'Neg_t': it reads 'u' before node 'Relu_u' makes it",
  ],
};

describe("validate", () => {
  test.each(Object.entries(refused))("refuses %s, as the runtime does", async (_, [bad, message]) => {
    const said = validate(bad)
      .filter(({ level }) => level === "error")
      .map(({ where, what }) => `${where}: ${what}`);
    expect(said).toContain(message);
    const ort = await runtime({ threads: 1 });
    await expect(ort.open(bad)).rejects.toThrow("ONNX Runtime");
  });

  test("finds nothing in sound graphs, nested ones included", () => {
    expect(validate(graph({}))).toEqual([]);
    expect(validate(graph({ inputs: [x], outputs: [x], nodes: [] }))).toEqual([]);
    const captured = branch([makeNode("Add", ["x", "w"], ["t"])], "t", { w: float32([2], [1, 2]) });
    expect(validate(conditional(captured, makeNode("Neg", ["x"], ["unused"])))).toEqual([]);
  });

  test("weights must be as long as they say", () => {
    const wrong = { ...float32([2], [1, 2]), shape: [3] };
    const short = { ...int64([1]), byteLength: 4 };
    const said = validate(
      graph({
        weights: new Map([
          ["a", wrong],
          ["b", short],
        ]),
      }),
    ).map(({ where, what }) => `${where}: ${what}`);
    expect(said).toEqual([
      "weight 'a': shape [3] has 3 elements, it holds 2",
      "weight 'b': 1 elements of int64 take 8 bytes, it has 4",
    ]);
  });

  test("warns of what runtimes overlook", () => {
    const said = (g: Graph) => validate(g).map(({ level, where, what }) => `${level}: ${where}: ${what}`);
    expect(said(graph({ nodes: [makeNode("com.microsoft:Gelu", ["x"], ["y"], {}, "n")] }))).toEqual([
      "warning: graph: operator set 'com.microsoft' is not imported, node 'n' needs it",
    ]);
    expect(said(graph({ outputs: [y, y] }))).toEqual(["warning: output 'y': it is listed twice"]);
    const int4 = new Map([["w", tensor("int4", [2], Uint8Array.of(0))]]);
    expect(said(graph({ weights: int4, irVersion: 9 }))).toEqual([
      "warning: graph: it uses int4, which IR version 9 does not know",
    ]);
    const hidden = conditional(branch([makeNode("Add", ["x", "w"], ["t"])], "t", { w: float32([2], [1, 2]) }));
    expect(said({ ...hidden, weights: new Map([["w", float32([2], [5, 5])]]) })).toEqual([
      "warning: weight 'w': it hides a value of the graph around it",
    ]);
  });

  test("looks into functions", () => {
    const def = { name: "F", domain: "f", overload: "", inputs: ["a"], outputs: ["b"], attributes: [], defaults: {} };
    const bad = { ...def, nodes: [makeNode("Relu", ["z"], ["b"], {}, "n")], opsets: {}, declared: new Map() };
    expect(validate(graph({ functions: [bad, bad] })).map(({ where, what }) => `${where}: ${what}`)).toEqual([
      "node 'n': it reads 'z', which nothing makes",
      "function 'f:F': operator set '' is not imported, node 'n' needs it",
      "function 'f:F': it is defined twice",
      "node 'n': it reads 'z', which nothing makes",
      "function 'f:F': operator set '' is not imported, node 'n' needs it",
    ]);
  });

  test("assertValid says the first errors in one message, and lets warnings pass", () => {
    const bad = graph({
      nodes: [makeNode("Add", ["x", "biass"], ["y"], {}, "add")],
      weights: new Map([["bias", float32([2], [1, 2])]]),
    });
    expect(() => assertValid(bad, "model.onnx")).toThrow(
      "model.onnx: the graph is not valid: node 'add': it reads 'biass', which nothing makes (Did you mean 'bias'?).",
    );
    assertValid(graph({ outputs: [y, y] }));
  });
});
