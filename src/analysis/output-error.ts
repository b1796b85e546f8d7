import type { Graph } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";

/** What a model gave for some feeds, to measure others against. */
export interface Reference {
  readonly feeds: readonly Tensors[];
  /** For each of the feeds the outputs in the graph's order. */
  readonly outputs: readonly (readonly Tensor[])[];
}

/** Functions that flatten what they are sure of: errors before them say more, of every sample. */
const squashing = new Set(["Softmax", "LogSoftmax", "Sigmoid"]);

/** The graph with what goes into final Softmax and Sigmoid nodes as its outputs, in place of theirs. */
export function beforeSquashing(graph: Graph): Graph {
  const { producer } = links(graph);
  const weights = new Set(graph.weights.keys());
  const outputs = graph.outputs.map((output) => {
    const maker = producer.get(output.name);
    const input = maker?.inputs[0];
    const swap = maker && input && maker.domain === "" && squashing.has(maker.op) && !weights.has(input);
    return swap && producer.has(input) ? { name: input } : output;
  });
  const distinct = new Set(outputs.map(({ name }) => name)).size === outputs.length;
  return distinct ? { ...graph, outputs } : graph;
}

/**
 * Runs a model on some feeds and keeps its outputs, those of a final Softmax or Sigmoid before it.
 *
 * @throws PareError where the runtime refuses the model or the feeds
 */
export async function reference(graph: Graph, runtime: Runtime, feeds: readonly Tensors[]): Promise<Reference> {
  const judged = beforeSquashing(graph);
  const session = await runtime.open(judged);
  try {
    const outputs: Tensor[][] = [];
    for (const feed of feeds) {
      const all = await session.run(feed);
      outputs.push(judged.outputs.map(({ name }) => all[name]!));
    }
    return { feeds, outputs };
  } finally {
    await session.release();
  }
}

/** No ratio is counted as better than this, in decibels: float arithmetic itself is no more exact. */
const ceiling = 100;

/**
 * Signal-to-noise ratio of a changed model's outputs, in decibels: the noise sum (y - y')^2 / sum y^2 of each
 * floating-point output over all feeds, averaged over the outputs, so that the worst one counts most. Higher is better;
 * -Infinity where an output is not finite.
 *
 * @throws PareError where the runtime refuses the model
 */
export async function signalToNoise(graph: Graph, runtime: Runtime, wanted: Reference): Promise<number> {
  const signal: number[] = [];
  const noise: number[] = [];
  await visitOutputs(graph, runtime, wanted, (at, a, b) => {
    let s = 0;
    let n = 0;
    for (let k = 0; k < a.length; k++) {
      // a mask of minus infinity on both sides is no error
      if (a[k] === b[k] && !Number.isFinite(a[k]!)) continue;
      const d = a[k]! - b[k]!;
      s += a[k]! * a[k]!;
      n += d * d;
    }
    signal[at] = (signal[at] ?? 0) + s;
    noise[at] = (noise[at] ?? 0) + n;
  });
  const ratios = Object.entries(signal).map(([at, s]) => noise[Number(at)]! / Math.max(s, 1e-30));
  if (!ratios.every(Number.isFinite)) return Number.NEGATIVE_INFINITY;
  const mean = ratios.reduce((a, b) => a + b, 0) / ratios.length;
  return mean > 0 ? Math.min(ceiling, -10 * Math.log10(mean)) : ceiling;
}

/**
 * Kullback-Leibler divergence of a changed model's class probabilities from the original's, in nats: the mean of
 * sum p log(p / p') over the rows of the first floating-point output, p = softmax over its last axis; of a single score, one
 * class against another of score 0. Infinity where an output is not finite, but for what both mask with minus infinity.
 *
 * @throws PareError where the runtime refuses the model
 */
export async function classDivergence(graph: Graph, runtime: Runtime, wanted: Reference): Promise<number> {
  let [sum, rows] = [0, 0];
  let first: number | undefined;
  await visitOutputs(graph, runtime, wanted, (at, a, b, classes) => {
    first ??= at;
    if (at !== first) return;
    for (let row = 0; row < a.length; row += classes, rows++) {
      const [p, q] = [a.subarray(row, row + classes), b.subarray(row, row + classes)];
      const [lp, lq] = [logSum(p), logSum(q)];
      for (let k = 0; k < classes; k++) {
        const share = Math.exp(p[k]! - lp);
        if (share !== 0) sum += share * (p[k]! - lp - (q[k]! - lq));
      }
      if (classes === 1) sum += Math.exp(-lp) * (lq - lp);
    }
  });
  return rows === 0 ? 0 : Number.isFinite(sum) ? Math.max(0, sum / rows) : Number.POSITIVE_INFINITY;
}

/** The logarithm of the sum of exponentials; of a single score, with that of 0. */
function logSum(logits: Float32Array): number {
  const alone = logits.length === 1;
  const top = logits.reduce((a, b) => Math.max(a, b), alone ? 0 : Number.NEGATIVE_INFINITY);
  return top + Math.log(logits.reduce((sum, v) => sum + Math.exp(v - top), alone ? Math.exp(-top) : 0));
}

/** Hands every floating-point output, by its place, to `visit`: as wanted, as it is, and the length of its last axis. */
async function visitOutputs(
  graph: Graph,
  runtime: Runtime,
  wanted: Reference,
  visit: (at: number, wanted: Float32Array, found: Float32Array, last: number) => void,
): Promise<void> {
  const judged = beforeSquashing(graph);
  const session = await runtime.open(judged);
  try {
    for (const [i, feed] of wanted.feeds.entries()) {
      const got = await session.run(feed);
      for (const [at, { name }] of judged.outputs.entries()) {
        const y = wanted.outputs[i]![at]!;
        if (dtypes[y.dtype].kind === "float") visit(at, toFloat32(y), toFloat32(got[name]!), y.shape.at(-1) ?? 1);
      }
    }
  } finally {
    await session.release();
  }
}
