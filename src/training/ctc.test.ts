import { expect, test } from "vitest";
import { gradient } from "../autodiff/gradient.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, makeGraph } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { observeTypes } from "../platform/observe.ts";
import { random } from "../random.ts";
import { float32, int64, toFloat32 } from "../tensor/tensor.ts";
import { ctc } from "./ctc.ts";
import { arithmetic } from "./emit.ts";
import { lossOptions } from "./losses.ts";

const onnx = await runtime({ threads: 1 });
const [n, steps, classes] = [5, 4, 3];
const r = random(8);
const logits = Float32Array.from({ length: n * steps * classes }, () => 2 * r.normal());

/** Every sequence that fits, for the blank 0 and for the blank 2: repeated, short, empty and as long as can be. */
const sequences: readonly (readonly [blank: number, labels: readonly (readonly number[])[]])[] = [
  [0, [[1, 2], [1, 1], [2], [], [1, 2, 1, 2]]],
  [2, [[0, 1, 0], [0, 0], [1], [], [1, 0]]],
];

function lossGraph(blank: number, longest: number): Graph {
  const empty = makeGraph({
    nodes: [],
    inputs: [
      { name: "z", type: { kind: "tensor", dtype: "float32", shape: [n, steps, classes] } },
      { name: "t", type: { kind: "tensor", dtype: "int64", shape: [n, longest] } },
    ],
    outputs: [{ name: "loss" }],
  });
  const parts = { prediction: "z", shape: [n, steps, classes], classAxis: 2, target: "t", soft: false };
  return edit(empty, (draft) => {
    const loss = ctc(arithmetic(draft, "ctc"), parts, lossOptions.parse({ blank }));
    draft.emit("Identity", [loss], {}, ["loss"]);
  });
}

/** What remains of a path: repetitions merged, then blanks dropped. */
function collapsed(path: readonly number[], blank: number): string {
  return path.filter((c, t) => c !== blank && c !== path[t - 1]).join();
}

/** The loss by summing up the probabilities of every path there is. */
function byAllPaths(z: Float32Array, labels: readonly (readonly number[])[], blank: number): number {
  let total = 0;
  for (const [i, sequence] of labels.entries()) {
    const rows = Array.from({ length: steps }, (_, t) => {
      const row = [...z.subarray((i * steps + t) * classes, (i * steps + t + 1) * classes)].map(Math.exp);
      const sum = row.reduce((a, b) => a + b);
      return row.map((value) => value / sum);
    });
    let probability = 0;
    for (let code = 0; code < classes ** steps; code++) {
      const path = rows.map((_, t) => Math.floor(code / classes ** t) % classes);
      if (collapsed(path, blank) === sequence.join()) probability += path.reduce((p, c, t) => p * rows[t]![c]!, 1);
    }
    total -= Math.log(probability) / Math.max(1, sequence.length) / n;
  }
  return total;
}

test.each(sequences)("with blank %d, loss and gradient are those of all paths", async (blank, labels) => {
  const longest = Math.max(...labels.map(({ length }) => length));
  const padded = labels.flatMap((row) => [...row, ...new Array<number>(longest - row.length).fill(-100)]);
  const feeds = { z: float32([n, steps, classes], logits), t: int64(padded, [n, longest]) };
  const graph = lossGraph(blank, longest);
  const { graph: whole, gradients } = gradient(graph, "loss", ["z"], await observeTypes(graph, onnx, feeds));
  const slopeName = gradients.get("z")!;
  const session = await onnx.open({ ...whole, outputs: [{ name: "loss" }, { name: slopeName }] });
  const results = await session.run(feeds);
  await session.release();
  expect(toFloat32(results.loss!)[0]).toBeCloseTo(byAllPaths(logits, labels, blank), 5);
  const slope = toFloat32(results[slopeName]!);
  for (let i = 0; i < logits.length; i++) {
    const moved = (by: number): number => {
      const z = logits.slice();
      z[i]! += by;
      return byAllPaths(z, labels, blank);
    };
    expect(slope[i], `element ${i}`).toBeCloseTo((moved(1e-2) - moved(-1e-2)) / 2e-2, 3);
  }
});

test("outputs that are sure of something else still have a slope", async () => {
  const z = new Float32Array(n * steps * classes);
  for (let i = 0; i < n * steps; i++) z[i * classes] = 300;
  const graph = lossGraph(0, 1);
  const feeds = { z: float32([n, steps, classes], z), t: int64([1, 1, 1, 1, 1], [n, 1]) };
  const { graph: whole, gradients } = gradient(graph, "loss", ["z"], await observeTypes(graph, onnx, feeds));
  const session = await onnx.open({ ...whole, outputs: [{ name: "loss" }, { name: gradients.get("z")! }] });
  const results = await session.run(feeds);
  await session.release();
  // one label at any of four places: 4 paths of probability exp(-300)
  expect(toFloat32(results.loss!)[0]).toBeCloseTo(300 - Math.log(4), 3);
  const slope = toFloat32(results[gradients.get("z")!]!);
  expect(slope[1]).toBeCloseTo(-1 / 4 / n, 5);
});
