import { requiredInputs, syntheticFeeds } from "../../data/synthetic.ts";
import { fail, messageOf } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { observeTypes, observeValues } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import type { Context } from "../technique.ts";
import { largestHalf, magnitudes } from "./cast.ts";
import { isMask } from "./operators.ts";

/** Feeds to observe and verify with: samples of the user's data, or made-up ones; undefined where neither is possible. */
export async function feedsFor(
  graph: Graph,
  { data, random, runtime, log }: Context,
  samples: number,
): Promise<readonly Tensors[] | undefined> {
  if (!data) {
    try {
      const feeds = syntheticFeeds(graph, random.fork("convert-float"));
      await observeTypes(graph, runtime, feeds);
      return [feeds];
    } catch (error) {
      log(`activations are not checked: ${messageOf(error)}`);
      return undefined;
    }
  }
  const [first] = requiredInputs(graph);
  const rows = first?.type?.kind === "tensor" ? first.type.shape?.[0] : undefined;
  const feeds: Tensors[] = [];
  const batch = typeof rows === "number" && rows > 0 ? rows : Math.min(samples, 8);
  for await (const { inputs } of data.batches({ batch, limit: samples })) feeds.push(inputs);
  if (feeds.length === 0) fail(data.name, "holds no samples");
  return feeds;
}

/** The largest finite magnitude of every float32 value over the feeds, constants that stand for infinity left out. */
export async function observedMagnitudes(
  graph: Graph,
  { runtime, signal }: Context,
  feeds: readonly Tensors[],
): Promise<Map<string, number>> {
  const types = await observeTypes(graph, runtime, feeds[0]!);
  const names = graph.nodes
    .flatMap(({ outputs }) => outputs)
    .filter((name) => types.get(name)?.dtype === "float32" && types.get(name)!.shape.every((dim) => dim > 0));
  const largest = new Map<string, number>();
  const masks = maskMagnitudes(graph);
  const note = (name: string, max: number): void => void largest.set(name, Math.max(largest.get(name) ?? 0, max));
  for (const feed of feeds) {
    for (const [name, value] of Object.entries(feed)) {
      if (value.dtype === "float32") note(name, magnitudes(value, masks).max);
    }
  }
  if (names.length === 0) return largest;
  await observeValues(graph, runtime, names, feeds, (name, value) => note(name, magnitudes(value, masks).max), {
    signal,
  });
  return largest;
}

function maskMagnitudes(graph: Graph): number[] {
  const found = graph.nodes.flatMap(({ op, inputs }) =>
    inputs.flatMap((name) => {
      const weight = graph.weights.get(name);
      if (weight?.dtype !== "float32") return [];
      const { max } = magnitudes(weight);
      return max > largestHalf && isMask(op, max) ? [max] : [];
    }),
  );
  return [...new Set(found)];
}

/** How far one model's outputs are from another's. */
export interface Difference {
  /** Largest |a - b| over the largest |a|, over all float outputs. */
  readonly relative: number;
  /** An output that is infinite or not a number where the first model's is finite. */
  readonly broken?: string;
}

/**
 * Runs both models on the same feeds.
 *
 * @throws PareError where the runtime refuses the second model
 */
export async function compareRuns(
  before: Graph,
  after: Graph,
  { runtime }: Context,
  feeds: Tensors,
  feedsAfter: Tensors = feeds,
): Promise<Difference> {
  const reference = await outputsOf(before, feeds);
  const results = await outputsOf(after, feedsAfter);
  let relative = 0;
  for (const [name, t] of Object.entries(reference)) {
    const other = results[name];
    if (!/float/.test(t.dtype) || !other) continue;
    const [a, b] = [toFloat32(t), toFloat32(other)];
    let [most, apart] = [0, 0];
    for (let i = 0; i < a.length; i++) {
      if (!Number.isFinite(a[i]!)) continue;
      if (!Number.isFinite(b[i]!)) return { relative: Number.POSITIVE_INFINITY, broken: name };
      most = Math.max(most, Math.abs(a[i]!));
      apart = Math.max(apart, Math.abs(a[i]! - b[i]!));
    }
    relative = Math.max(relative, most > 0 ? apart / most : apart);
  }
  return { relative };

  async function outputsOf(graph: Graph, given: Tensors): Promise<Tensors> {
    const session = await runtime.open(graph);
    try {
      return await session.run(given);
    } finally {
      await session.release();
    }
  }
}
