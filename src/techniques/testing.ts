import type { Graph, Node } from "../graph/graph.ts";
import type { Runtime, SessionOptions, Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { Exhibit } from "./exhibit.ts";
import type { Context } from "./technique.ts";

/** What a technique left alone, for tests. */
export interface Skip {
  readonly node: string;
  readonly reason: string;
}

/** A context for tests, collecting skips and exhibits. */
export function testContext(runtime: Runtime, skips: Skip[] = [], exhibits: Exhibit[] = []): Context {
  return {
    runtime,
    random: random(1),
    log: () => {},
    progress: () => {},
    skip: (node, reason) => skips.push({ node, reason }),
    show: (exhibit) => exhibits.push(exhibit),
    signal: new AbortController().signal,
  };
}

/** Normal numbers of deviation 0.1, another stream for every seed. */
export function normal(shape: readonly number[], seed = 1): Tensor {
  const source = random(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => 0.1 * source.normal()),
  );
}

/** The output `y` of one run. */
export async function outputOf(
  runtime: Runtime,
  graph: Graph,
  feeds: Tensors,
  options?: SessionOptions,
): Promise<Float32Array> {
  const session = await runtime.open(graph, options);
  try {
    return toFloat32((await session.run(feeds)).y!).slice();
  } finally {
    await session.release();
  }
}

/** Signal to quantization noise ratio in dB. */
export function sqnr(reference: Float32Array, value: Float32Array): number {
  let signal = 0;
  let error = 0;
  for (let i = 0; i < reference.length; i++) {
    signal += reference[i]! ** 2;
    error += (reference[i]! - value[i]!) ** 2;
  }
  return 10 * Math.log10(signal / error);
}

/** Operators of a graph with their counts, sorted: "Add 1, MatMul 2". */
export function operators(nodes: readonly Node[]): string {
  const counts = new Map<string, number>();
  for (const { op } of nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([op, count]) => `${op} ${count}`)
    .join(", ");
}
