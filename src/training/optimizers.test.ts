import { expect, test } from "vitest";
import { edit } from "../graph/edit.ts";
import { makeGraph, type Value } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import type { Tensors } from "../platform/runtime.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import { arithmetic } from "./emit.ts";
import { type OptimizerOptions, optimizerOptions, optimizers } from "./optimizers.ts";

const onnx = await runtime({ threads: 1 });
const rate = 0.1;
const decay = 0.01;
const start = [1, -2];
const gradients = [
  [0.5, -1],
  [0.25, 2],
  [-1.5, 0.1],
];

/** The parameter after each of the updates. */
async function sequence(options: OptimizerOptions): Promise<number[][]> {
  const optimizer = optimizers[options.optimizer];
  const names = Object.keys(optimizer.hyper(0, rate, options));
  const input = (name: string, shape: readonly number[]): Value => ({
    name,
    type: { kind: "tensor", dtype: "float32", shape },
  });
  const empty = makeGraph({
    nodes: [],
    inputs: [
      ...["p", "g", ...optimizer.slots].map((name) => input(name, [2])),
      ...names.map((name) => input(`hyper_${name}`, [])),
    ],
    outputs: ["p", ...optimizer.slots].map((name) => ({ name: `${name}_next` })),
  });
  const graph = edit(empty, (draft) => {
    const hyper = Object.fromEntries(names.map((name) => [name, `hyper_${name}`]));
    const update = { parameter: "p", gradient: "g", slots: optimizer.slots, hyper, decay };
    const made = optimizer.update(arithmetic(draft, "update"), update, options);
    for (const [i, value] of [made.parameter, ...made.slots].entries())
      draft.emit("Identity", [value], {}, [`${["p", ...optimizer.slots][i]}_next`]);
  });
  const session = await onnx.open(graph);
  let state: Tensors = Object.fromEntries(optimizer.slots.map((name) => [name, float32([2], [0, 0])]));
  state = { ...state, p: float32([2], start) };
  const seen: number[][] = [];
  for (const [i, g] of gradients.entries()) {
    const hyper = Object.entries(optimizer.hyper(i, rate, options)).map(([name, value]) => [
      `hyper_${name}`,
      float32([], [value]),
    ]);
    const results = await session.run({ ...state, ...Object.fromEntries(hyper), g: float32([2], g) });
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
  const found = await sequence(optimizerOptions.parse(options));
  for (const [i, row] of expected.entries())
    for (const [k, value] of row.entries()) expect(found[i]![k]).toBeCloseTo(value, 5);
});
