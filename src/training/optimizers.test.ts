import { expect, test } from "vitest";
import { edit } from "../graph/edit.ts";
import { makeGraph, type Value } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import type { Tensors } from "../platform/runtime.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import { arithmetic } from "./emit.ts";
import { type OptimizerOptions, optimizerOf, optimizerOptions } from "./optimizers.ts";
import type { Matrices } from "./parameters.ts";

const onnx = await runtime({ threads: 1 });
const rate = 0.1;
const decay = 0.01;

/** A parameter and its gradients, number by number. */
interface Course {
  readonly start: readonly number[];
  readonly gradients: readonly (readonly number[])[];
  readonly matrices?: Matrices;
}

const vector: Course = {
  start: [1, -2],
  gradients: [
    [0.5, -1],
    [0.25, 2],
    [-1.5, 0.1],
  ],
};

/** The parameter after each of the updates. */
async function sequence(options: OptimizerOptions, course: Course): Promise<number[][]> {
  const { start, gradients, matrices } = course;
  const shape = [start.length];
  const optimizer = optimizerOf(options.optimizer, matrices);
  const names = Object.keys(optimizer.hyper(0, rate, options));
  const input = (name: string, shape: readonly number[]): Value => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape },
  });
  const empty = makeGraph({
    nodes: [],
    inputs: [
      ...["p", "g", ...optimizer.slots].map((name) => input(name, shape)),
      ...names.map((name) => input(`hyper_${name}`, [])),
    ],
    outputs: ["p", ...optimizer.slots].map((name) => ({ name: `${name}_next` })),
  });
  const graph = edit(empty, (draft) => {
    const hyper = Object.fromEntries(names.map((name) => [name, `hyper_${name}`]));
    const update = { parameter: "p", gradient: "g", slots: optimizer.slots, hyper, decay, shape };
    const made = optimizer.update(arithmetic(draft, "update"), { ...update, ...(matrices && { matrices }) }, options);
    for (const [i, value] of [made.parameter, ...made.slots].entries())
      draft.emit("Identity", [value], {}, [`${["p", ...optimizer.slots][i]}_next`]);
  });
  const session = await onnx.open(graph);
  let state: Tensors = Object.fromEntries(
    optimizer.slots.map((name) => [name, float32(shape, new Float32Array(start.length))]),
  );
  state = { ...state, p: float32(shape, start) };
  const seen: number[][] = [];
  for (const [i, g] of gradients.entries()) {
    const hyper = Object.entries(optimizer.hyper(i, rate, options)).map(([name, value]) => [
      `hyper_${name}`,
      float32([], [value]),
    ]);
    const results = await session.run({ ...state, ...Object.fromEntries(hyper), g: float32(shape, g) });
    state = Object.fromEntries(["p", ...optimizer.slots].map((name) => [name, results[`${name}_next`]!]));
    seen.push([...toFloat32(state.p!)]);
  }
  await session.release();
  return seen;
}

// the values of PyTorch 2.15 in double precision: torch.optim with lr 0.1 and weight_decay 0.01
test.each<[object, number[][]]>([
  [
    { optimizer: "sgd", nesterov: false },
    [
      [0.949, -1.898],
      [0.877151, -2.004302],
      [0.96160975, -2.1079695],
    ],
  ],
  [
    { optimizer: "sgd", nesterov: true },
    [
      [0.9031, -1.8062],
      [0.81257411, -2.10014822],
      [1.03786971, -2.20133692],
    ],
  ],
  [
    { optimizer: "adam" },
    [
      [0.9, -1.9],
      [0.80655504, -1.93550442],
      [0.84037153, -1.96524342],
    ],
  ],
  [
    { optimizer: "adamw" },
    [
      [0.899, -1.898],
      [0.80488304, -1.93271235],
      [0.83880051, -1.96190698],
    ],
  ],
])("%j steps as PyTorch does", async (options, expected) => {
  const found = await sequence(optimizerOptions.parse(options), vector);
  for (const [i, row] of expected.entries())
    for (const [k, value] of row.entries()) expect(found[i]![k]).toBeCloseTo(value, 5);
});

const wide: Course = {
  start: [1, -2, 0.5, 0.25, 3, -1],
  gradients: [
    [0.5, -1, 2, 1, 0, -0.5],
    [0.25, 2, -1, -0.5, 1, 1],
    [-1.5, 0.1, 0.3, 0.2, 0.4, -2],
  ],
  matrices: [1, 2, 3],
};

/** The same matrix standing upright. */
function upright({ start, gradients }: Course): Course {
  const turned = (m: readonly number[]): number[] => [0, 3, 1, 4, 2, 5].map((at) => m[at]!);
  return { start: turned(start), gradients: gradients.map(turned), matrices: [1, 3, 2] };
}

/** The formula in double precision. */
const muonCourse = [
  [0.9905531, -1.9873513, 0.479764, 0.2125595, 3.0001226, -0.9874305],
  [0.9775743, -2.0070288, 0.4947405, 0.2219975, 2.9860069, -1.01632],
  [0.9983363, -2.0163676, 0.4842942, 0.2168321, 2.9685845, -0.9864086],
];

test("Muon moves matrices by orthogonal steps, whichever way they stand", async () => {
  const options = optimizerOptions.parse({ optimizer: "muon" });
  const found = await sequence(options, wide);
  for (const [i, row] of muonCourse.entries())
    for (const [k, value] of row.entries()) expect(found[i]![k]).toBeCloseTo(value, 5);
  const turned = await sequence(options, upright(wide));
  for (const [i, row] of turned.entries())
    for (const [k, at] of [0, 3, 1, 4, 2, 5].entries()) expect(row[k]).toBeCloseTo(found[i]![at]!, 5);
});

test("Muon takes each of several matrices on its own, and leaves vectors to AdamW", async () => {
  const both = (m: readonly number[]): number[] => [...m, ...m.map((v) => 3 * v)];
  const pair: Course = { start: both(wide.start), gradients: wide.gradients.map(both), matrices: [2, 2, 3] };
  const options = optimizerOptions.parse({ optimizer: "muon" });
  const [alone, together] = [await sequence(options, wide), await sequence(options, pair)];
  for (const [i, row] of alone.entries())
    for (const [k, value] of row.entries()) expect(together[i]![k]).toBeCloseTo(value, 5);
  // gradients of any size make steps of the same size
  const moved = together[0]!.map((value, k) => value - pair.start[k]! * (1 - rate * decay));
  for (let k = 0; k < 6; k++) expect(moved[k + 6]).toBeCloseTo(moved[k]!, 5);
  expect(await sequence(optimizerOptions.parse({ optimizer: "muon" }), vector)).toEqual(
    await sequence(optimizerOptions.parse({ optimizer: "adamw" }), vector),
  );
});
