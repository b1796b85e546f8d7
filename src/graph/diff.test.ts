import { describe, expect, test } from "vitest";
import { float32 } from "../tensor/tensor.ts";
import { diff, isUnchanged, summarize } from "./diff.ts";
import { edit } from "./edit.ts";
import { makeGraph, makeNode, type Value } from "./graph.ts";

const value = (name: string): Value => ({ name, type: { kind: "tensor", dtype: "float32", shape: [2] } });
const before = makeGraph({
  inputs: [value("x")],
  outputs: [value("y")],
  nodes: [
    makeNode("Add", ["x", "b"], ["h"], {}, "add"),
    makeNode("Identity", ["h"], ["i"], {}, "pass"),
    makeNode("Relu", ["i"], ["y"], {}, "act"),
  ],
  weights: new Map([["b", float32([2], [1, 2])]]),
});

describe("diff", () => {
  test("finds nothing between a graph and its unchanged copy", () => {
    const d = diff(
      before,
      edit(before, () => {}),
    );
    expect(isUnchanged(d)).toBe(true);
    expect(summarize(d)).toBe("nothing changed");
  });

  test("tells nodes and weights removed, added and changed", () => {
    const after = edit(before, (draft) => {
      draft.replace(before.nodes[1]!);
      draft.rewire("i", "h");
      draft.weights.set("b", float32([4], [1, 2, 3, 4]));
      draft.add(makeNode("Neg", ["x"], ["z"], {}, "neg"));
      draft.outputs.push(value("z"));
      draft.opsets[""] = 22;
    });
    const d = diff(before, after);
    const names = (nodes: readonly { name: string }[]) => nodes.map(({ name }) => name);
    expect([names(d.removed), names(d.added)]).toEqual([["pass"], ["neg"]]);
    expect(d.changed.map((c) => [c.before.inputs, c.after.inputs])).toEqual([[["i"], ["h"]]]);
    expect(d.weights.map(({ name }) => name)).toEqual(["b"]);
    expect([d.inputs, d.outputs, d.opsets, d.bytes]).toEqual([[], ["z"], [""], [8, 16]]);
    expect(summarize(d)).toBe(
      "1 node removed (pass); 1 node added (neg); 1 node changed (act); 1 weight changed (8 B more); " +
        "1 output changed ('z'); 1 operator set changed ('')",
    );
  });

  test("a replaced node counts as changed while it makes the same value", () => {
    const after = edit(before, (draft) => draft.replace(before.nodes[2]!, makeNode("Sigmoid", ["i"], ["y"])));
    const d = diff(before, after);
    expect([d.added, d.removed, d.changed.map((c) => c.after.op)]).toEqual([[], [], ["Sigmoid"]]);
  });

  test("an input whose type changed is named", () => {
    const type = { kind: "tensor", dtype: "float16", shape: [2] } as const;
    expect(diff(before, { ...before, inputs: [{ name: "x", type }] }).inputs).toEqual(["x"]);
  });
});
