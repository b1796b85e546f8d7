import { differentiate } from "../autodiff/gradient.ts";
import { inBlocks } from "../autodiff/lower/blocked.ts";
import { type InBlocks, productsInBlocks } from "../autodiff/lower/blocked-products.ts";
import { lowered } from "../autodiff/lower/plain.ts";
import { attentionInSlices } from "../autodiff/lower/sliced-attention.ts";
import { elementwiseInStrips } from "../autodiff/lower/strips.ts";
import { fail } from "../errors.ts";
import { withoutDefaultInputs } from "../graph/defaults.ts";
import { edit } from "../graph/edit.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { channelBlock } from "../platform/channel-block.ts";
import type { ObservedType } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { float32, sizeOf, type Tensor } from "../tensor/tensor.ts";
import { type Arithmetic, arithmetic } from "./emit.ts";
import type { OptimizerOptions } from "./optimizers.ts";
import { observeOwnTypes } from "./own-operators.ts";
import { type Parameter, parametersOf, type WeightSettings } from "./parameters.ts";
import { type Prepared, prepare } from "./prepare.ts";
import { inputLike, withUpdate } from "./update.ts";

/** Writes the loss of a training step and returns its name, with further values to report. */
export type Objective = (
  a: Arithmetic,
  model: { readonly logits: (output: string) => string; readonly type: (value: string) => ObservedType },
) => { readonly loss: string; readonly report?: Readonly<Record<string, string>> };

/** What a training step consists of. */
export interface StepOptions {
  readonly objective: Objective;
  readonly optimizer: OptimizerOptions;
  /** Inputs that only the objective reads: labels, a teacher's logits, weights of samples. */
  readonly extraInputs?: readonly string[];
  /** The weights that learn, whatever reads them; those that a network of its kind would have learned by default. */
  readonly parameters?: readonly Parameter[];
  /** Nodes whose weights may learn and whose batch statistics move; all by default. */
  readonly trains?: (node: Node) => boolean;
  /** Weights that learn otherwise than the rest, by name. */
  readonly settings?: ReadonlyMap<string, WeightSettings>;
  /** Batch normalization by batch statistics (default) or frozen. */
  readonly batchStatistics?: boolean;
  /** Largest norm of all gradients together; unlimited by default. */
  readonly clipNorm?: number;
  /** Share of the old value that an average of the weights keeps at each update; no average by default. */
  readonly average?: number;
  /** Batches whose gradients are summed for one update; 1 by default. */
  readonly accumulate?: number;
}

/** A training step as one graph: forward, backward and update. */
export interface TrainingStep {
  /** Inputs: the model's, the extra ones, hyper scalars, masks and the state. Outputs: loss, reports, the new state. */
  readonly graph: Graph;
  readonly loss: string;
  readonly report: Readonly<Record<string, string>>;
  readonly parameters: readonly Parameter[];
  /** The state at the start: parameters, optimizer slots, running statistics, by input name. */
  readonly state: ReadonlyMap<string, Tensor>;
  /** Which output is the next value of which state input. */
  readonly next: ReadonlyMap<string, string>;
  /** State inputs that are weights of the model, by the weight's name; averages where they are kept. */
  readonly weights: ReadonlyMap<string, string>;
  readonly masks: Prepared["masks"];
  /** Scalars to feed at a step, counted from 0, by input name; the last one updates by what is summed up so far. */
  hyper(step: number, rate: number, last?: boolean): Tensors;
}

/**
 * Builds the training step of a model for batches of the sizes of `feeds`.
 *
 * @param feeds one batch: the model's inputs and the extra ones
 * @throws PareError where nothing can be trained, or an operator on the way has no gradient
 */
export async function trainingStep(
  model: Graph,
  runtime: Runtime,
  feeds: Tensors,
  options: StepOptions,
): Promise<TrainingStep> {
  const trains = options.trains ?? (() => true);
  const imported = withoutDefaultInputs(model);
  const modelFeeds = pick(feeds, imported.inputs);
  const prepared = await prepare(imported, runtime, modelFeeds, {
    batchStatistics: options.batchStatistics ?? true,
    frozen: (node) => !trains(node),
  });
  const frozen = (name: string): boolean => options.settings?.get(name)?.frozen ?? false;
  const candidates = options.parameters ?? parametersOf(prepared.graph, trains);
  const parameters = candidates.filter(({ name }) => !frozen(name));
  if (parameters.length === 0) {
    const half = [...model.weights.values()].some(({ dtype }) => dtype === "float16" || dtype === "bfloat16");
    const hint = half ? "Convert it to float32 first: convert-float --to float32" : "Check what is frozen";
    fail("train", "the model has no weights that can learn", hint);
  }
  const { graph: scored, loss, report } = await withObjective(prepared, runtime, feeds, options);
  const types = await observeOwnTypes(scored, runtime, withMasks(feeds, prepared.masks));
  const { gradients, ...backward } = differentiate(
    scored,
    loss,
    parameters.map(({ name }) => name),
    types,
  );
  const wanted = [...gradients.values()].flatMap((name) => (name === undefined ? [] : [{ name }]));
  const block = await channelBlock(runtime);
  const whole = { ...backward.graph, outputs: [...backward.graph.outputs, ...wanted] };
  const onCpu = runtime.provider === "cpu";
  const kept = onCpu ? attentionInSlices(whole, backward.types, runtime.threads) : whole;
  const laidOut: InBlocks =
    block === undefined
      ? { graph: kept, types: backward.types }
      : productsInBlocks(inBlocks(kept, backward.types, block), backward.types, block);
  const graph = { ...lowered(laidOut.graph), outputs: backward.graph.outputs };
  const learning = parameters.filter(({ name }) => gradients.get(name) !== undefined);
  if (learning.length === 0)
    fail("train", "the loss depends on none of the weights", "Check the loss and what is frozen");
  const { running, masks } = prepared;
  const updated = withUpdate({ graph, gradients, parameters: learning, running }, options);
  const step = onCpu ? elementwiseInStrips(updated.graph, laidOut.types, runtime.threads) : updated.graph;
  return { ...updated, graph: step, loss, report, parameters: learning, masks };
}

function pick(feeds: Tensors, inputs: readonly Value[]): Tensors {
  return Object.fromEntries(inputs.flatMap(({ name }) => (feeds[name] ? [[name, feeds[name]]] : [])));
}

function withMasks(feeds: Tensors, masks: Prepared["masks"]): Tensors {
  const made = [...masks].map(([name, { shape }]) => [name, float32(shape, new Float32Array(sizeOf(shape)))]);
  return { ...feeds, ...Object.fromEntries(made) };
}

async function withObjective(
  prepared: Prepared,
  runtime: Runtime,
  feeds: Tensors,
  { objective, extraInputs = [] }: StepOptions,
): Promise<{ graph: Graph; loss: string; report: Readonly<Record<string, string>> }> {
  const masks = [...prepared.masks].map(([name, { shape }]) => inputLike(name, { dtype: "float32", shape }));
  const fixed = prepared.graph.inputs.map((value) =>
    feeds[value.name] ? inputLike(value.name, feeds[value.name]!) : value,
  );
  const base = {
    ...prepared.graph,
    inputs: [...fixed, ...masks, ...extraInputs.map((name) => inputLike(name, feeds[name]!))],
  };
  const types = await observeOwnTypes(base, runtime, withMasks(feeds, prepared.masks));
  let result: ReturnType<Objective> | undefined;
  const graph = edit(base, (draft) => {
    result = objective(arithmetic(draft, "loss"), {
      logits: (output) => prepared.logits.get(output) ?? output,
      type: (value) => types.get(value) ?? fail("loss", `nothing is known of the value '${value}'`),
    });
    draft.outputs = [result.loss, ...Object.values(result.report ?? {})].map((name) => ({ name }));
  });
  return { graph, loss: result!.loss, report: result!.report ?? {} };
}
