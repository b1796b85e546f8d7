import type { Batch } from "../../data/dataset.ts";
import { unlabelled } from "../../data/feeds.ts";
import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { weightGradients } from "../../training/weight-gradients.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import type { Layer } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";

/** Samples a batch, where the model leaves that free. */
const usualBatch = 16;

/**
 * Sums of gradients to the weights of layers over the data, in each weight's own order. Weights that are rewritten for
 * differentiation are absent.
 * - `loss`: of the loss, for which the data needs labels;
 * - `squares`: squares of those of the outputs in random directions, which are the diagonal of the Gauss-Newton matrix, up
 *   to a factor. The labels are not looked at: where a model has learned its data by heart, nearly all gradient of the
 *   loss comes from the few samples that it has not.
 *
 * @throws PareError where an operator on the way has no gradient, or the loss no labels
 */
export async function gradientSums(
  graph: Graph,
  layers: readonly Layer[],
  of: "loss" | "squares",
  { samples, ignore }: Pick<PruneWeightsOptions, "samples" | "ignore">,
  context: Context,
): Promise<ReadonlyMap<Layer, Float32Array>> {
  const { runtime, signal } = context;
  const batches = calibrationBatches(graph, context, samples, usualBatch, "prune-weights");
  const names = layers.map(({ target }) => target.name);
  const stream = of === "loss" ? withLabels(batches) : unlabelled(batches);
  const found = new Map<string, Float32Array>();
  for await (const gradients of weightGradients(graph, names, stream, runtime, signal, ignore)) {
    for (const [name, gradient] of gradients) {
      const sums = found.get(name) ?? new Float32Array(gradient.length);
      found.set(name, sums);
      if (of === "loss") for (let i = 0; i < sums.length; i++) sums[i]! += gradient[i]!;
      else for (let i = 0; i < sums.length; i++) sums[i]! += gradient[i]! ** 2;
    }
  }
  return new Map(
    layers.flatMap((layer): [Layer, Float32Array][] => {
      const sums = found.get(layer.target.name);
      return sums ? [[layer, sums]] : [];
    }),
  );
}

async function* withLabels(batches: AsyncIterable<Batch>): AsyncGenerator<Batch> {
  for await (const batch of batches) {
    if (!batch.labels) {
      fail("prune-weights", "the gradient of the loss needs data with labels", "Give such data, or another --score");
    }
    yield batch;
  }
}
