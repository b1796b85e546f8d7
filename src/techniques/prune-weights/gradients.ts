import { gradient } from "../../autodiff/gradient.ts";
import type { Batch, Dataset } from "../../data/dataset.ts";
import { fail } from "../../errors.ts";
import { edit } from "../../graph/edit.ts";
import type { Graph } from "../../graph/graph.ts";
import { observeTypes } from "../../platform/observe.ts";
import type { Session, Tensors } from "../../platform/runtime.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { arithmetic } from "../../training/emit.ts";
import { objectiveFor, objectiveOptions } from "../../training/objective.ts";
import { prepare } from "../../training/prepare.ts";
import type { Context } from "../technique.ts";
import { batchesOf } from "./inputs.ts";
import type { Layer } from "./layers.ts";

/** Samples a batch, where the model leaves that free. */
const usualBatch = 16;

/**
 * Gradients of the loss to the weights of layers, over labelled data: their sum over the batches, or the root of the sum
 * of their squares. In each weight's own order; weights that are rewritten for differentiation are absent.
 *
 * @throws PareError where there are no labels, or an operator on the way has no gradient
 */
export async function weightGradients(
  graph: Graph,
  layers: readonly Layer[],
  kind: "sum" | "squares",
  samples: number,
  context: Context & { readonly data: Dataset },
): Promise<ReadonlyMap<Layer, Float64Array>> {
  const found = new Map<Layer, Float64Array>();
  let made: Backward | undefined;
  try {
    for await (const batch of batchesOf(graph, context.data, samples, usualBatch)) {
      context.signal.throwIfAborted();
      made ??= await backward(graph, layers, batch, context);
      // the backward pass is written for one length
      const feeds = made.feeds(batch);
      if (shapesOf(feeds) !== made.shapes) continue;
      const values = await made.session.run(feeds);
      for (const [layer, name] of made.gradients) {
        const data = toFloat32(values[name]!);
        const sums = found.get(layer) ?? new Float64Array(data.length);
        found.set(layer, sums);
        if (kind === "sum") for (let i = 0; i < data.length; i++) sums[i]! += data[i]!;
        else for (let i = 0; i < data.length; i++) sums[i]! += data[i]! ** 2;
      }
    }
  } finally {
    await made?.session.release();
  }
  if (kind === "squares")
    for (const sums of found.values()) for (let i = 0; i < sums.length; i++) sums[i] = Math.sqrt(sums[i]!);
  return found;
}

interface Backward {
  readonly session: Session;
  readonly feeds: (batch: Batch) => Tensors;
  readonly shapes: string;
  readonly gradients: ReadonlyMap<Layer, string>;
}

function shapesOf(feeds: Tensors): string {
  return Object.entries(feeds)
    .map(([name, { shape }]) => `${name}:${shape.join("x")}`)
    .join();
}

async function backward(graph: Graph, layers: readonly Layer[], batch: Batch, { runtime }: Context): Promise<Backward> {
  const objective = await objectiveFor(graph, runtime, batch, objectiveOptions.parse({}));
  const prepared = await prepare(objective.model, runtime, batch.inputs, {
    batchStatistics: false,
    frozen: () => true,
  });
  const feeds = objective.feeds(batch);
  const inputs = prepared.graph.inputs.filter(({ name }) => !prepared.graph.weights.has(name) && !(name in feeds));
  if (inputs.length > 0) fail("prune-weights", `the data has no values for the input '${inputs[0]!.name}'`);
  const typed = Object.entries(feeds).map(([name, { dtype, shape }]) => ({
    name,
    type: { kind: "tensor" as const, dtype, shape },
  }));
  const base = { ...prepared.graph, inputs: typed };
  const known = await observeTypes(base, runtime, feeds);
  let loss = "";
  const scored = edit(base, (draft) => {
    const written = objective.objective(arithmetic(draft, "loss"), {
      logits: (output) => prepared.logits.get(output) ?? output,
      type: (value) => known.get(value) ?? fail("loss", `nothing is known of the value '${value}'`),
    });
    loss = written.loss;
    draft.outputs = [{ name: loss }];
  });
  const own = layers.filter(({ target }) => scored.weights.has(target.name));
  const wanted = own.map(({ target }) => target.name);
  const { graph: whole, gradients } = gradient(scored, loss, wanted, await observeTypes(scored, runtime, feeds));
  const names = new Map(
    own.flatMap((layer): [Layer, string][] => {
      const name = gradients.get(layer.target.name);
      return name === undefined ? [] : [[layer, name]];
    }),
  );
  const outputs = [...new Set(names.values())].map((name) => ({ name }));
  const session = await runtime.open({ ...whole, outputs });
  return { session, feeds: objective.feeds, shapes: shapesOf(feeds), gradients: names };
}
