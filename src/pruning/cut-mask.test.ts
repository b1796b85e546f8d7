import { expect, test } from "vitest";
import { edit } from "../graph/edit.ts";
import { makeGraph, type PlainAttribute } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { floatToHalf } from "../tensor/half.ts";
import { type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { couplings } from "./couplings.ts";
import { cutUnits } from "./cut.ts";
import { maskUnits } from "./cut-mask.ts";

const ort = await runtime({ threads: 1 });

function normal(shape: readonly number[], seed: number): Float32Array {
  const source = random(seed);
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => source.normal());
}
const half = (shape: readonly number[], seed: number): Tensor =>
  tensor("float16", shape, floatToHalf(normal(shape, seed), "float16"));

const kinds: readonly (readonly [op: string, inputs: number, attributes: Record<string, PlainAttribute>])[] = [
  ["LayerNormalization", 2, { axis: 1 }],
  ["RMSNormalization", 1, { axis: 1 }],
  ["GroupNormalization", 2, { num_groups: 2 }],
];

test.each(kinds)("a mask of %s in half precision is in half precision", async (op, count, attributes) => {
  const border = (name: string, shape: readonly (number | string)[]) => ({
    name,
    type: { kind: "tensor", dtype: "float16", shape } as const,
  });
  const empty = makeGraph({
    nodes: [],
    inputs: [border("x", [2, 6])],
    outputs: [border("y", [2, 3])],
    opsets: { "": 23 },
  });
  const graph = edit(empty, (draft) => {
    const hidden = draft.emit("Gemm", ["x", draft.constant("w", half([6, 8], 1)), draft.constant("b", half([8], 2))]);
    const scales = Array.from({ length: count }, (_, i) => draft.constant("scale", half([8], 3 + i)));
    const normalized = draft.emit(op, [hidden, ...scales], attributes);
    draft.emit("MatMul", [normalized, draft.constant("v", half([8, 3], 5))], {}, ["y"]);
  });
  const feeds = { x: half([2, 6], 6) };
  const found = couplings(graph, await observeTypes(graph, ort, feeds));
  // of two groups of channels the same places
  const group = found.groups.find(({ frozen, units }) => frozen === undefined && units >= 4)!;
  const cuts = new Map([[group, [1, 3]]]);
  const run = async (model: typeof graph): Promise<Float32Array> => {
    const session = await ort.open(model);
    try {
      return toFloat32((await session.run(feeds)).y!).slice();
    } finally {
      await session.release();
    }
  };
  const masked = await run(maskUnits(found, cuts));
  for (const [i, v] of (await run(cutUnits(found, cuts))).entries()) expect(masked[i]).toBeCloseTo(v, 2);
});
