import type { Batch, Dataset } from "../src/data/dataset.ts";
import { type Graph, makeGraph, makeNode } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import type { Exhibit } from "../src/techniques/exhibit.ts";
import { pruneWeights } from "../src/techniques/prune-weights/index.ts";
import { normal, type Skip, testContext } from "../src/techniques/testing.ts";
import { float32, type Tensor, toFloat32 } from "../src/tensor/tensor.ts";

export const cpu = await runtime({ threads: 1 });
export const value = (name: string) => ({ name, type: { kind: "tensor", dtype: "float32" } as const });
export const single = (op: string, shape: readonly number[], attributes = {}, inputs = ["x", "w"], seed = 1): Graph =>
  makeGraph({
    nodes: [makeNode(op, inputs, ["y"], attributes, "layer")],
    inputs: [value("x")],
    outputs: [value("y")],
    weights: new Map([["w", normal(shape, seed)]]),
  });

/** Samples that a function makes, each alone in its batch. */
export function dataset(count: number, make: (index: number) => Omit<Batch, "size">): Dataset {
  return {
    name: "made up",
    splits: ["all"],
    size: () => count,
    async *batches({ limit = count }) {
      for (let i = 0; i < Math.min(limit, count); i++) yield { ...make(i), size: 1 };
    },
  };
}

/** Inputs with a mean, and channels of very different size that depend on each other. */
export function uneven(shape: readonly number[], seed: number, channelAxis: number): Tensor {
  const noise = toFloat32(normal(shape, seed));
  const values = new Float32Array(noise.length);
  const inner = shape.slice(channelAxis + 1).reduce((a, b) => a * b, 1);
  const channels = shape[channelAxis]!;
  for (let i = 0; i < values.length; i++) {
    const c = Math.floor(i / inner) % channels;
    values[i] = (noise[i]! + (c % 3 === 0 ? 0.1 : 0) + 0.5 * (noise[i - inner] ?? 0)) * 2 ** (c % 5);
  }
  return float32(shape, values);
}

export async function prune(graph: Graph, options: Parameters<typeof pruneWeights>[0], data?: Dataset) {
  const skips: Skip[] = [];
  const logs: string[] = [];
  const exhibits: Exhibit[] = [];
  const context = {
    ...testContext(cpu, skips, exhibits),
    log: (line: string) => void logs.push(line),
    ...(data && { data }),
  };
  const small = await pruneWeights({ minElements: 1, ...options }).apply(graph, context);
  return { small, skips, logs, exhibits, w: toFloat32(small.weights.get("w") ?? float32([0], [])) };
}

export const zeros = (values: Float32Array): number => values.filter((v) => v === 0).length;
