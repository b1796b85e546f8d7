import type { Dataset } from "../../data/dataset.ts";
import { type Graph, type GraphInit, makeGraph, makeNode, type Node } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { random } from "../../random.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { Exhibit } from "../exhibit.ts";
import type { Context } from "../technique.ts";
import { quantizeStatic } from "./index.ts";

/** A runtime for tests of this folder. */
export const engine = await runtime({ threads: 1 });

const generator = random(5);

/** Normal numbers. */
export function noise(shape: readonly number[], scale = 1): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => generator.normal() * scale),
  );
}

/** A graph of the input x [n, 3, 12, 12]. */
export function network(
  init: Pick<GraphInit, "nodes"> & { weights: Record<string, Tensor>; outputs?: string[] },
): Graph {
  return makeGraph({
    nodes: init.nodes,
    weights: new Map(Object.entries(init.weights)),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [null, 3, 12, 12] } }],
    outputs: (init.outputs ?? ["y"]).map((name) => ({ name, type: { kind: "tensor", dtype: "float32" } })),
  });
}

/** Residual network: convolutions, depthwise, addition, pooling, classifier. */
export function classifier(): Graph {
  return network({
    nodes: [
      makeNode("Conv", ["x", "w1", "b1"], ["c1"], { pads: [1, 1, 1, 1] }, "first"),
      makeNode("Relu", ["c1"], ["r1"]),
      makeNode("Conv", ["r1", "wd", "bd"], ["d"], { group: 32, pads: [1, 1, 1, 1] }, "depthwise"),
      makeNode("Clip", ["d", "zero", "six"], ["rd"]),
      makeNode("Conv", ["rd", "w2", "b2"], ["c2"], {}, "pointwise"),
      makeNode("Add", ["c2", "r1"], ["a"]),
      makeNode("Relu", ["a"], ["ra"]),
      makeNode("MaxPool", ["ra"], ["p"], { kernel_shape: [2, 2], strides: [2, 2] }),
      makeNode("GlobalAveragePool", ["p"], ["g"]),
      makeNode("Flatten", ["g"], ["f"]),
      makeNode("Gemm", ["f", "wf", "bf"], ["y"], { transB: 1 }, "classify"),
    ],
    weights: {
      w1: noise([32, 3, 3, 3], 0.3),
      b1: noise([32], 0.1),
      // one filter a hundred times the others: a single scale would erase these
      wd: float32(
        [32, 1, 3, 3],
        toFloat32(noise([32, 1, 3, 3], 0.3)).map((w, i) => (i < 9 ? 100 * w : w)),
      ),
      bd: noise([32], 0.1),
      w2: noise([32, 32, 1, 1], 0.2),
      b2: noise([32], 0.1),
      wf: noise([10, 32], 0.3),
      bf: noise([10]),
      zero: float32([], [0]),
      six: float32([], [6]),
    },
  });
}

/** What the network is fed. */
export const samples: Tensors[] = Array.from({ length: 24 }, () => ({ x: noise([1, 3, 12, 12]) }));

/** Feeds as a dataset. */
export function dataset(feeds: readonly Tensors[] = samples): Dataset {
  return {
    name: "noise",
    splits: ["train"],
    size: () => feeds.length,
    async *batches({ limit, skip = 0 }) {
      for (const inputs of feeds.slice(skip, skip + (limit ?? feeds.length))) yield { inputs, size: 1 };
    },
  };
}

/** What quantizing gave. */
export interface Result {
  readonly graph: Graph;
  readonly skips: ReadonlyMap<string, string>;
  readonly log: readonly string[];
  readonly exhibits: readonly Exhibit[];
}

/** Quantizes with 16 samples. */
export async function quantize(graph: Graph, settings: Record<string, unknown> = {}, feeds = samples): Promise<Result> {
  const skips = new Map<string, string>();
  const log: string[] = [];
  const exhibits: Exhibit[] = [];
  const context = { ...contextOf(dataset(feeds), skips, log), show: (exhibit: Exhibit) => void exhibits.push(exhibit) };
  return { graph: await quantizeStatic({ samples: 16, ...settings }).apply(graph, context), skips, log, exhibits };
}

/** A context that collects what is said. */
export function contextOf(data: Dataset, skips = new Map<string, string>(), log: string[] = []): Context {
  return {
    runtime: engine,
    data,
    random: random(1),
    log: (message) => log.push(message),
    progress: () => {},
    skip: (node, reason) => skips.set(node, reason),
    show: () => {},
    signal: new AbortController().signal,
  };
}

/** The first output for each of some feeds. */
export async function outputs(graph: Graph, feeds = samples): Promise<Float32Array[]> {
  const session = await engine.open(graph);
  const results: Float32Array[] = [];
  for (const feed of feeds) results.push(toFloat32(Object.values(await session.run(feed))[0]!));
  await session.release();
  return results;
}

/** Signal to noise of the first output, in decibels. */
export async function ratio(graph: Graph, changed: Graph, feeds = samples): Promise<number> {
  const [a, b] = [await outputs(graph, feeds), await outputs(changed, feeds)];
  let signal = 0;
  let error = 0;
  a.forEach((y, i) => {
    y.forEach((v, k) => {
      signal += v * v;
      error += (v - b[i]![k]!) ** 2;
    });
  });
  return 10 * Math.log10(signal / error);
}

/** Kernels that ran, by operator. */
export async function kernels(graph: Graph, feed = samples[0]!): Promise<Record<string, number>> {
  const session = await engine.open(graph, { profile: true });
  await session.run(feed);
  const counts: Record<string, number> = {};
  for (const { op } of await session.profile()) counts[op] = (counts[op] ?? 0) + 1;
  await session.release();
  return counts;
}

/** The node of a name. */
export const named = (graph: Graph, name: string): Node => graph.nodes.find((node) => node.name === name)!;
