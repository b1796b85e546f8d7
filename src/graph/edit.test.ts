import { describe, expect, test } from "vitest";
import { float32 } from "../tensor/tensor.ts";
import { edit } from "./edit.ts";
import { type Graph, makeGraph, makeNode, type Node, type Subgraph, subgraphsOf, type Value } from "./graph.ts";
import { assertValid } from "./validate.ts";
import { captures, links, reads, soleConsumer, topological } from "./walk.ts";

const value = (name: string): Value => ({ name, type: { kind: "tensor", dtype: "float32", shape: [2] } });
const chain = makeGraph({
  inputs: [value("x")],
  outputs: [value("y")],
  nodes: [
    makeNode("Add", ["x", "b"], ["h"], {}, "add"),
    makeNode("Identity", ["h"], ["i"], {}, "pass"),
    makeNode("Relu", ["i"], ["y"], {}, "act"),
  ],
  weights: new Map([["b", float32([2], [1, 2])]]),
  declared: new Map([["i", value("i")]]),
});
const [add, pass, act] = chain.nodes as [Node, Node, Node];
const body = (nodes: readonly Node[], output: string): Subgraph => ({
  name: "body",
  nodes,
  weights: new Map(),
  sparse: new Map(),
  inputs: [value("local")],
  outputs: [value(output)],
  declared: new Map(),
});
const text = (graph: Graph): string[] => graph.nodes.map(({ op, inputs, outputs }) => `${outputs}=${op}(${inputs})`);

describe("edit", () => {
  test("untouched nodes and weights are the same objects, and the graph before stays as it was", () => {
    const after = edit(chain, (draft) => draft.replace(act, { ...act, op: "Sigmoid" }));
    expect([
      after.nodes[0] === add,
      after.nodes[1] === pass,
      after.weights.get("b") === chain.weights.get("b"),
    ]).toEqual([true, true, true]);
    expect([chain.nodes[2]!.op, after.nodes[2]!.op]).toEqual(["Relu", "Sigmoid"]);
  });

  test("a bypassed node goes, and so do the declared type and the weight that nothing reads any more", () => {
    const after = edit(chain, (draft) => {
      draft.replace(pass);
      draft.rewire("i", "h");
    });
    expect([text(after), [...after.declared.keys()]]).toEqual([["h=Add(x,b)", "y=Relu(h)"], []]);
    const alone = edit(chain, (draft) => {
      draft.replace(add);
      draft.rewire("h", "x");
    });
    expect([text(alone), [...alone.weights.keys()]]).toEqual([["i=Identity(x)", "y=Relu(i)"], []]);
  });

  test("two graph outputs can become one value", () => {
    const two = makeGraph({
      ...chain,
      nodes: [...chain.nodes, makeNode("Sigmoid", ["h"], ["z"], {}, "other")],
      outputs: [value("y"), value("z")],
    });
    const after = edit(two, (draft) => {
      draft.rewire("y", "h");
      draft.rewire("z", "h");
    });
    assertValid(after);
    expect(text(after)).toContain("y=Add(x,b)");
    expect(text(after)).toContain("z=Identity(y)");
  });

  test("new nodes get names of their own", () => {
    const after = edit(chain, (draft) => {
      draft.replace(pass, makeNode("Abs", ["h"], ["j"], {}, "add"), makeNode("Neg", ["j"], ["i"], {}, "add"));
    });
    assertValid(after);
    expect(after.nodes.map(({ name }) => name)).toEqual(["add", "add_1", "add_2", "act"]);
  });

  test("a rewired graph output keeps its name: the node that makes the value takes it", () => {
    const after = edit(chain, (draft) => {
      draft.replace(act);
      draft.rewire("y", "i");
    });
    expect(text(after)).toEqual(["h=Add(x,b)", "y=Identity(h)"]);
    assertValid(after);
  });

  test("an output rewired to an input becomes an Identity of it", () => {
    const after = edit(chain, (draft) => {
      for (const node of chain.nodes) draft.replace(node);
      draft.rewire("y", "x");
    });
    expect(text(after)).toEqual(["y=Identity(x)"]);
    assertValid(after);
  });

  test("inserting behind an output: the old maker gets another name, the exception keeps reading it", () => {
    const after = edit(chain, (draft) => {
      const neg = draft.add(makeNode("Neg", ["y"], ["q"]));
      draft.rewire("y", "q", [neg]);
    });
    assertValid(after);
    expect(after.outputs.map(({ name }) => name)).toEqual(["y"]);
    expect(text(after).slice(-2)).toEqual(["y_before=Relu(i)", "y=Neg(y_before)"]);
  });

  test("readers in nested graphs are rewired, local names that only look alike are not", () => {
    const attributes = { body: { type: "graph", value: body([makeNode("Add", ["i", "local"], ["t"])], "t") } } as const;
    const shadow = {
      body: { type: "graph", value: body([makeNode("Neg", ["local"], ["i"]), makeNode("Abs", ["i"], ["t"])], "t") },
    } as const;
    const nested = makeGraph({
      ...chain,
      nodes: [
        add,
        pass,
        makeNode("Loop", ["", "", "i"], ["y"], attributes, "loop"),
        makeNode("Loop", ["", "", "h"], ["z"], shadow, "other"),
      ],
    });
    const after = edit(nested, (draft) => {
      draft.replace(pass);
      draft.rewire("i", "h");
    });
    const inner = after.nodes.map((node) => subgraphsOf(node)[0]?.nodes.map(({ inputs }) => inputs.join()));
    expect(inner).toEqual([undefined, ["h,local"], ["local", "i"]]);
    expect(after.nodes[2]).toBe(nested.nodes[3]);
  });

  test("replacements of replacements, and chains of rewirings, resolve to the end", () => {
    const first = makeNode("Abs", ["i"], ["y"], {}, "first");
    const after = edit(chain, (draft) => {
      draft.replace(act, first);
      draft.replace(first, makeNode("Exp", ["i"], ["y"], {}, "second"));
      draft.replace(pass);
      draft.rewire("i", "h");
      draft.rewire("h", "x");
    });
    expect(text(after)).toEqual(["h=Add(x,b)", "y=Exp(x)"]);
  });

  test("fresh names avoid every name of the graph, nodes' own and those given out before", () => {
    edit(chain, (draft) => {
      expect([draft.fresh("h"), draft.fresh("h"), draft.fresh("add"), draft.fresh("free")]).toEqual([
        "h_1",
        "h_2",
        "add_1",
        "free",
      ]);
      expect([draft.constant("b", float32([], [1])), draft.emit("Neg", ["x"], {}, 1, "y")]).toEqual(["b_1", "y_1"]);
    });
  });

  test("a rewiring in a circle, and a cycle of nodes, are refused", () => {
    expect(() => edit(chain, (draft) => draft.rewire("i", "i"))).toThrow("'i' onto itself");
    expect(() =>
      edit(chain, (d) => {
        d.rewire("i", "h");
        d.rewire("h", "i");
      }),
    ).toThrow("rewired in a circle");
    expect(() => edit(chain, (d) => d.replace(add, makeNode("Add", ["y", "b"], ["h"])))).toThrow("(a cycle)");
  });
});

describe("walking", () => {
  test("captures are what a nested graph takes from around it", () => {
    const inner = body([makeNode("Add", ["outer", "local"], ["t"]), makeNode("Mul", ["t", "scale"], ["u"])], "w");
    expect([...captures(inner)]).toEqual(["outer", "scale", "w"]);
    const loop = makeNode("Loop", ["n", "", "v"], ["y"], { body: { type: "graph", value: inner } });
    expect([...reads(loop)]).toEqual(["n", "v", "outer", "scale", "w"]);
  });

  test("nodes are sorted by what they read, captures included, and stay where they are if they may", () => {
    const inner = body([makeNode("Neg", ["b"], ["t"])], "t");
    const nodes = [
      makeNode("Loop", ["", ""], ["c"], { body: { type: "graph", value: inner } }, "3"),
      makeNode("Relu", ["a"], ["b"], {}, "2"),
      makeNode("Abs", ["x"], ["a"], {}, "1"),
    ];
    expect(topological(nodes).map(({ name }) => name)).toEqual(["1", "2", "3"]);
    expect(topological(chain.nodes)).toEqual(chain.nodes);
  });

  test("links count nested reads, and outputs forbid a sole consumer", () => {
    expect(soleConsumer(chain, "h")).toBe(pass);
    expect(soleConsumer(makeGraph({ ...chain, outputs: [value("h")] }), "h")).toBeUndefined();
    expect(links(chain).producer.get("y")).toBe(act);
  });
});
