import { expect, test } from "vitest";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { float32, tensor } from "../tensor/tensor.ts";
import { runtime } from "./node.ts";

test("an output of a type below 8 bits is refused by name, not handed to the binding", async () => {
  const graph = makeGraph({
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [4] } }],
    outputs: [{ name: "q", type: { kind: "tensor", dtype: "int4", shape: [4] } }, { name: "y" }],
    nodes: [makeNode("QuantizeLinear", ["x", "s", "z"], ["q"]), makeNode("DequantizeLinear", ["q", "s"], ["y"])],
    weights: new Map([
      ["s", float32([], [0.5])],
      ["z", tensor("int4", [], Uint8Array.of(0))],
    ]),
  });
  const session = await (await runtime({ threads: 1 })).open(graph);
  try {
    const x = float32([4], [1, -1, 0.5, 3]);
    await expect(session.run({ x })).rejects.toThrow("the output 'q' is int4");
    expect((await session.run({ x }, ["y"])).y!.size).toBe(4);
  } finally {
    await session.release();
  }
});
