import type { Batch } from "../../data/dataset.ts";
import type { Graph } from "../../graph/graph.ts";
import { weightGradients } from "../../training/weight-gradients.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import type { Layer } from "./layers.ts";

/** Samples a batch, where the model leaves that free. */
const usualBatch = 16;

/**
 * Gradients to the weights of layers over the data, in each weight's own order: sums of those of the loss, or roots of the
 * sums of squares of those of the outputs in random directions, for which labels do not matter. Weights that are rewritten
 * for differentiation are absent.
 *
 * @throws PareError where an operator on the way has no gradient
 */
export async function weightSlopes(
  graph: Graph,
  layers: readonly Layer[],
  kind: "sums" | "squares",
  samples: number,
  context: Context,
): Promise<ReadonlyMap<Layer, Float32Array>> {
  const batches = calibrationBatches(graph, context, samples, usualBatch, "prune-weights");
  const names = layers.map(({ target }) => target.name);
  const stream = kind === "sums" ? batches : withoutLabels(batches);
  const found = new Map<string, Float32Array>();
  for await (const gradients of weightGradients(graph, names, stream, context.runtime, context.signal)) {
    for (const [name, gradient] of gradients) {
      const sums = found.get(name) ?? new Float32Array(gradient.length);
      found.set(name, sums);
      if (kind === "sums") for (let i = 0; i < sums.length; i++) sums[i]! += gradient[i]!;
      else for (let i = 0; i < sums.length; i++) sums[i]! += gradient[i]! ** 2;
    }
  }
  if (kind === "squares")
    for (const sums of found.values()) for (let i = 0; i < sums.length; i++) sums[i] = Math.sqrt(sums[i]!);
  return new Map(
    layers.flatMap((layer): [Layer, Float32Array][] => {
      const sums = found.get(layer.target.name);
      return sums ? [[layer, sums]] : [];
    }),
  );
}

async function* withoutLabels(batches: AsyncIterable<Batch>): AsyncGenerator<Batch> {
  for await (const { labels: _, ...rest } of batches) yield rest;
}
