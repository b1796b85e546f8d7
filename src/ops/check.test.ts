import { describe, expect, test } from "vitest";
import { makeGraph, makeNode, type Node } from "../graph/graph.ts";
import { operatorNames, signatureOf, signaturesOf, sinceVersion } from "./catalog.ts";
import { checkOperators } from "./check.ts";

const said = (node: Node, opset = 21): string[] => {
  const graph = makeGraph({ nodes: [node], inputs: [], outputs: [], opsets: { "": opset, "com.microsoft": 1 } });
  return checkOperators(graph).map(({ where, what, hint }) => `${where}: ${what}${hint ? ` (${hint})` : ""}`);
};

describe("the catalogue", () => {
  test("knows which definition holds in a version", () => {
    expect([6, 12, 13, 25].map((version) => sinceVersion("", "Softmax", version))).toEqual([1, 11, 13, 13]);
    expect(sinceVersion("", "Gelu", 19)).toBeUndefined();
    expect(sinceVersion("com.microsoft", "MatMulNBits", 1)).toBe(1);
  });

  test("holds formals and attributes with their defaults", () => {
    const gemm = signatureOf("", "Gemm", 13)!;
    expect(gemm.inputs.map(({ name, count }) => `${name} ${count}`)).toEqual(["A one", "B one", "C optional"]);
    expect(gemm.attributes.get("alpha")).toEqual({ type: "float", required: false, default: 1 });
    expect(signatureOf("", "Concat", 13)!.inputs.map(({ count }) => count)).toEqual(["some"]);
    expect(signatureOf("", "Concat", 13)!.attributes.get("axis")).toEqual({ type: "int", required: true });
    expect(signatureOf("", "Conv", 22)!.attributes.get("auto_pad")!.default).toBe("NOTSET");
    const shrunk = signatureOf("", "LSTM", 22)!.attributes;
    expect(shrunk.get("activations")).toEqual({ type: "strings", required: false });
  });

  test("every row parses, its versions rising", () => {
    for (const domain of ["", "com.microsoft", "com.microsoft.nchwc"]) {
      for (const name of operatorNames(domain)!) {
        const versions = signaturesOf(domain, name)!.flatMap((signature) => signature.versions);
        expect(versions.every((version, i) => version > (versions[i - 1] ?? 0))).toBe(true);
      }
    }
  });

  test("is not fooled by names that every object has", () => {
    expect(signaturesOf("", "constructor")).toBeUndefined();
    expect(signaturesOf("__proto__", "toString")).toBeUndefined();
  });
});

describe("checkOperators", () => {
  test.each<[string, Node, number, string[]]>([
    ["nothing in a sound node", makeNode("Conv", ["x", "w"], ["y"], { group: 1 }), 21, []],
    [
      "an unknown operator",
      makeNode("Rellu", ["x"], ["y"]),
      21,
      ["there is no operator 'Rellu' (Did you mean 'Relu', 'Celu' or 'Elu'?)"],
    ],
    [
      "one too new",
      makeNode("Gelu", ["x"], ["y"]),
      17,
      ["operator 'Gelu' came with operator set 20, the model imports 17"],
    ],
    [
      "one removed",
      makeNode("Upsample", ["x"], ["y"]),
      11,
      ["operator 'Upsample' was removed in operator set 10, the model imports 11"],
    ],
    [
      "an unknown attribute",
      makeNode("Conv", ["x", "w"], ["y"], { groups: 1 }),
      21,
      ["operator 'Conv' has no attribute 'groups' (Did you mean 'group'?)"],
    ],
    [
      "an attribute's type",
      makeNode("Conv", ["x", "w"], ["y"], { group: 1.5 }),
      21,
      ["its attribute 'group' is of type float, the operator wants int"],
    ],
    ["a missing attribute", makeNode("Concat", ["x"], ["y"]), 21, ["its attribute 'axis' is missing"]],
    ["a missing input", makeNode("Conv", ["x", ""], ["y"]), 21, ["its input 'W' is missing"]],
    ["surplus inputs", makeNode("Relu", ["x", "x"], ["y"]), 21, ["it has 2 inputs, the operator has at most 1"]],
    [
      "contrib operators",
      makeNode("com.microsoft:MatMulNBits", ["x", "b", "s"], ["y"], { N: 1, K: 1 }),
      21,
      ["its attribute 'block_size' is missing"],
    ],
    ["nothing in other domains", makeNode("my.own:Op", [], []), 21, []],
  ])("finds %s", (_, node, opset, expected) => {
    expect(said({ ...node, name: "n" }, opset)).toEqual(expected.map((what) => `node 'n': ${what}`));
  });

  test("looks into nested graphs, and by their own imports into functions", () => {
    const inner = makeGraph({ nodes: [makeNode("Foo", [], ["t"], {}, "deep")], inputs: [], outputs: [] });
    const node = makeNode("If", ["c"], ["y"], {
      then_branch: { type: "graph", value: inner },
      else_branch: { type: "graph", value: inner },
    });
    expect(said(node).map((text) => text.slice(0, 11))).toEqual(["node 'deep'", "node 'deep'"]);
    const def = { name: "F", domain: "", overload: "", inputs: [], outputs: [], attributes: [], defaults: {} };
    const graph = makeGraph({
      nodes: [makeNode("F", [], ["y"])],
      inputs: [],
      outputs: [],
      functions: [
        { ...def, nodes: [makeNode("Gelu", ["x"], ["y"], {}, "g")], opsets: { "": 17 }, declared: new Map() },
      ],
    });
    expect(checkOperators(graph).map(({ where }) => where)).toEqual(["node 'g'"]);
  });
});
