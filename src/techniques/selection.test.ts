import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { checkSelection, selector } from "./selection.ts";

const conv = makeNode("Conv", ["x", "w"], ["y"], {}, "/features/0/Conv");
const head = makeNode("Gemm", ["x", "w"], ["z"], {}, "head");
const attention = makeNode("com.microsoft:Attention", ["x"], ["a"], {}, "att");

test.each([
  [[], [], [true, true, true]],
  [["Conv"], [], [true, false, false]],
  [[], ["head"], [true, false, true]],
  [["/features*"], [], [true, false, false]],
  [["/^(head|att)$/"], [], [false, true, true]],
  [["com.microsoft:Attention"], [], [false, false, true]],
  [["Attention", "Gemm"], ["head"], [false, false, true]],
])("include %j, exclude %j", (include, exclude, chosen) => {
  const chosenBy = selector({ include, exclude });
  expect([conv, head, attention].map(chosenBy)).toEqual(chosen);
});

test("a node without a name goes by what messages call it", () => {
  const [first, second] = [makeNode("Conv", ["x", "w"], ["1"]), makeNode("Conv", ["1", "w"], ["2"])].map((node) => ({
    ...node,
    name: "",
  }));
  expect([first!, second!].map(selector({ include: [], exclude: ["Conv(2)"] }))).toEqual([true, false]);
  const graph = makeGraph({ nodes: [first!, second!], inputs: [], outputs: [] });
  expect(() => checkSelection({ exclude: ["Conv(3)"] }, graph, "pare x")).toThrow("Did you mean 'Conv(1)'");
});

test("a dot in a glob is a dot", () => {
  const dotted = makeNode("Relu", ["x"], ["y"], {}, "layer.1");
  const other = makeNode("Relu", ["x"], ["y"], {}, "layerX1");
  expect([dotted, other].map(selector({ include: ["layer.*"], exclude: [] }))).toEqual([true, false]);
});

test("a broken regular expression is a user error", () => {
  expect(() => selector({ include: ["/(/"], exclude: [] })).toThrow(/'\/\(\/' is not a regular expression/);
});

test("a pattern that no node fits is refused, with the nearest name", () => {
  const graph = makeGraph({ nodes: [conv, head, attention], inputs: [], outputs: [] });
  checkSelection({ include: ["Conv", "/features*"], exclude: ["/^att$/"], bits: 4 }, graph, "pare x");
  expect(() => checkSelection({ include: [], exclude: ["haed"] }, graph, "pare x")).toThrow(
    "pare x: no node fits --exclude 'haed'. Did you mean 'head'?",
  );
  expect(() => checkSelection({ include: ["nowhere/*"] }, graph, "pare x")).toThrow("See the names with `pare print`.");
});
