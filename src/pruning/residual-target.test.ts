import { describe, expect, test } from "vitest";
import { edit } from "../graph/edit.ts";
import { type Graph, makeGraph, makeNode, type Node } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import { residualSum, residualTarget } from "./residual-target.ts";

const ort = await runtime({ threads: 1 });

function normal(shape: readonly number[], seed: number): Tensor {
  const source = random(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => source.normal()),
  );
}

const norms: [string, Tensor][] = [
  ["scale", float32([3], [2, -0.5, 1])],
  ["shift", float32([3], [1, 2, 3])],
  ["mean", float32([3], [0.5, 0, -1])],
  ["variance", float32([3], [4, 1, 0.25])],
];
const norm = (x: string, y: string): Node =>
  makeNode("BatchNormalization", [x, "scale", "shift", "mean", "variance"], [y]);

function graphOf(nodes: readonly Node[], weights: readonly [string, Tensor][] = []): Graph {
  const inputs = ["x", "s"].map((name) => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape: [2, 3, 4, 4] } as const,
  }));
  const all = new Map([["w", normal([3, 3, 1, 1], 1)] as [string, Tensor], ...weights]);
  return makeGraph({ nodes, weights: all, inputs, outputs: [{ name: "y" }] });
}

describe("the sum at the end of a branch", () => {
  const conv = makeNode("Conv", ["x", "w"], ["h"]);

  test("is found right behind the layer, behind its bias, and behind a batch normalization", () => {
    const plain = graphOf([conv, makeNode("Add", ["s", "h"], ["y"])]);
    expect(residualSum(plain, conv)).toEqual({ other: "s" });
    const product = makeNode("MatMul", ["x", "m"], ["h"]);
    const nodes = [product, makeNode("Add", ["b", "h"], ["t"]), makeNode("Add", ["t", "s"], ["y"])];
    const biased = graphOf(nodes, [
      ["m", normal([4, 4], 2)],
      ["b", normal([4], 3)],
    ]);
    expect(residualSum(biased, product)).toEqual({ other: "s" });
    const normed = graphOf([conv, norm("h", "n"), makeNode("Add", ["n", "s"], ["y"])], norms);
    const { other, factors } = residualSum(normed, conv)!;
    expect(other).toBe("s");
    for (const [i, f] of [1, -0.5, 2].entries()) expect(factors![i]).toBeCloseTo(f, 4);
  });

  test("is none behind an activation, where others read the branch, or where it is added to itself", () => {
    const relu = graphOf([conv, makeNode("Relu", ["h"], ["r"]), makeNode("Add", ["r", "s"], ["y"])]);
    expect(residualSum(relu, conv)).toBeUndefined();
    const read = graphOf([conv, makeNode("Add", ["h", "s"], ["t"]), makeNode("Mul", ["t", "h"], ["y"])]);
    expect(residualSum(read, conv)).toBeUndefined();
    expect(residualSum(graphOf([conv, makeNode("Add", ["h", "h"], ["y"])]), conv)).toBeUndefined();
  });

  test.each([true, false])(
    "is what it was where the layer gives the target (batch normalization: %s)",
    async (normed) => {
      const [h, before, now] = [5, 6, 7].map((seed) => normal([2, 3, 4, 4], seed)) as [Tensor, Tensor, Tensor];
      const nodes = [conv, ...(normed ? [norm("h", "n")] : []), makeNode("Add", [normed ? "n" : "h", "s"], ["y"])];
      const graph = graphOf(nodes, norms);
      const sum = residualSum(graph, conv)!;
      const target = edit(graphOf([]), (draft) => {
        draft.outputs = [{ name: residualTarget(draft, "x", "before", { ...sum, other: "s" }, 4, 1) }];
        draft.inputs.push({ name: "before", type: { kind: "tensor", dtype: "float32", shape: [2, 3, 4, 4] } });
      });
      const run = async (model: Graph, feeds: Record<string, Tensor>): Promise<Tensor> => {
        const session = await ort.open(model);
        try {
          return Object.values(await session.run(feeds))[0]!;
        } finally {
          await session.release();
        }
      };
      const after = graphOf(
        [...(normed ? [norm("x", "n")] : []), makeNode("Add", [normed ? "n" : "x", "s"], ["y"])],
        norms,
      );
      const wanted = toFloat32(await run(after, { x: h, s: before }));
      const given = await run(target, { x: h, before, s: now });
      for (const [i, v] of toFloat32(await run(after, { x: given, s: now })).entries()) {
        expect(v).toBeCloseTo(wanted[i]!, 4);
      }
    },
  );
});
