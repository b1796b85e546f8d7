import { fail } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import type { Random } from "../random.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { CapturedSamples } from "./captured.ts";
import type { Arithmetic } from "./emit.ts";
import { optimizerOptions } from "./optimizers.ts";
import { StateBuffers } from "./state.ts";
import { trainingStep } from "./step.ts";

/** Input that holds what the output of a reconstruction should be. */
export const wantedName = "pare_wanted";

/** Part of a network that is to give what it gave before it was changed. */
export interface Reconstruction {
  /** Its inputs are those of the samples, and what {@link Reconstruction.fed} feeds. */
  readonly graph: Graph;
  /** The value that is compared with {@link wantedName}. */
  readonly output: string;
  /** Weights of the graph that learn, each with a factor on the rate. */
  readonly parameters: ReadonlyMap<string, number>;
  /** Added to the loss, in its unit. May read values of the graph, and what is fed. */
  penalty?(a: Arithmetic): string;
  /** Fed beside the samples at a step: numbers of a schedule, random choices. */
  fed?(step: number, steps: number): Tensors;
  /** Squared error that counts as 1 in the loss, so that the rate and the penalty suit layers of any magnitude. */
  readonly unit: number;
}

/** How to learn a {@link Reconstruction}. */
export interface ReconstructOptions {
  readonly runtime: Runtime;
  readonly steps: number;
  /** Samples a step; all of them where there are fewer. */
  readonly batch: number;
  /** Adam's. */
  readonly rate: number;
  /** Whether the rate falls to 0 in equal steps. */
  readonly decays?: boolean;
  readonly random: Random;
  readonly signal: AbortSignal;
}

/**
 * Learns weights of a part of a network so that, given the inputs of the samples, it gives their outputs:
 * min over p of mean((f(x; p) - y)^2) / unit + penalty(p), by Adam. Rounding, clipping and step sizes are whatever the
 * graph says; rules of its operators that pass gradients straight through do so here.
 *
 * @param samples the graph's inputs, and {@link wantedName}
 * @returns the learned weights by name
 * @throws PareError where the loss depends on none of the weights, an operator on the way has no gradient, or the error
 *   is not a number
 */
export async function reconstruct(
  task: Reconstruction,
  samples: CapturedSamples,
  options: ReconstructOptions,
): Promise<ReadonlyMap<string, Tensor>> {
  const { runtime, steps, rate, random, signal } = options;
  const batch = Math.min(options.batch, samples.count);
  const order = indices(samples.count, batch, random);
  const fedAt = (step: number): Tensors => task.fed?.(step, steps) ?? {};
  const first = { ...samples.stack(order.next().value), ...fedAt(0) };
  const own = new Set(task.graph.inputs.map(({ name }) => name));
  const training = await trainingStep(task.graph, runtime, first, {
    objective: (a) => ({ loss: loss(a, task) }),
    optimizer: optimizerOptions.parse({ optimizer: "adam", rate, decay: 0 }),
    extraInputs: Object.keys(first).filter((name) => !own.has(name)),
    parameters: [...task.parameters.keys()].map((name) => ({ name, nodes: [], decays: false })),
    settings: new Map(
      [...task.parameters].map(([name, rateFactor]) => [name, { frozen: false, rateFactor, decay: undefined }]),
    ),
    batchStatistics: false,
  });
  const session = await runtime.open(training.graph, { memoryPattern: false });
  try {
    const state = new StateBuffers(training);
    for (let step = 0; step < steps; step++) {
      signal.throwIfAborted();
      const now = options.decays ? rate * (1 - step / steps) : rate;
      const feeds = { ...samples.stack(order.next().value), ...fedAt(step), ...training.hyper(step, now) };
      const { loss } = await state.run(session, feeds);
      if (!Number.isFinite(loss)) fail("reconstruction", `the error is ${loss} at step ${step + 1}`, "Lower the rate");
    }
    return state.weights();
  } finally {
    await session.release();
  }
}

function loss(a: Arithmetic, { output, unit, penalty }: Reconstruction): string {
  const error = a.sub(output, wantedName);
  const squared = a.op("ReduceMean", [a.mul(error, error)], { keepdims: 0 });
  const distance = a.mul(squared, a.scalar(1 / unit));
  return penalty ? a.add(distance, a.op("Reshape", [penalty(a), a.ints([])])) : distance;
}

/** Batches of indices without end, every index once before any comes again. */
function* indices(count: number, batch: number, random: Random): Generator<readonly number[], never> {
  const order = random.shuffle(Array.from({ length: count }, (_, i) => i));
  for (let at = 0; ; at += batch) {
    if (at + batch > count) {
      random.shuffle(order);
      at = 0;
    }
    yield order.slice(at, at + batch);
  }
}

/**
 * The mean squared error of a reconstruction's output with some weights in place of its own.
 *
 * @throws PareError where the runtime refuses the graph
 */
export async function reconstructionError(
  { graph, output, fed }: Pick<Reconstruction, "graph" | "output" | "fed">,
  weights: ReadonlyMap<string, Tensor>,
  samples: CapturedSamples,
  { runtime, batch, signal }: Pick<ReconstructOptions, "runtime" | "batch" | "signal">,
): Promise<number> {
  const judged = edit(graph, (draft) => {
    for (const [name, weight] of weights) if (draft.weights.has(name)) draft.weights.set(name, weight);
    draft.outputs = [{ name: output }];
  });
  const session = await runtime.open(judged, { memoryPattern: false });
  try {
    let [sum, count] = [0, 0];
    const names = new Set(judged.inputs.map(({ name }) => name));
    for (let at = 0; at < samples.count; at += batch) {
      signal.throwIfAborted();
      const part = Array.from({ length: Math.min(batch, samples.count - at) }, (_, i) => at + i);
      const { [wantedName]: wanted, ...inputs } = { ...samples.stack(part), ...fed?.(0, 1) };
      const given = Object.fromEntries(Object.entries(inputs).filter(([name]) => names.has(name)));
      const got = toFloat32((await session.run(given))[output]!);
      const y = toFloat32(wanted!);
      for (let i = 0; i < y.length; i++) sum += (got[i]! - y[i]!) ** 2;
      count += y.length;
    }
    return sum / count;
  } finally {
    await session.release();
  }
}
