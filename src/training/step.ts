import { differentiate } from "../autodiff/gradient.ts";
import { inBlocks } from "../autodiff/lower/blocked.ts";
import { lowered } from "../autodiff/lower/plain.ts";
import { fail } from "../errors.ts";
import { withoutDefaultInputs } from "../graph/defaults.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, isNode, type Node, type Value } from "../graph/graph.ts";
import { type ObservedType, observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { float32, reshape, type Tensor } from "../tensor/tensor.ts";
import { channelBlock } from "./channel-block.ts";
import { type Arithmetic, arithmetic } from "./emit.ts";
import { type OptimizerOptions, optimizers } from "./optimizers.ts";
import { type Parameter, parametersOf, type WeightSettings } from "./parameters.ts";
import { type Prepared, prepare } from "./prepare.ts";

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
  readonly extraInputs?: readonly Value[];
  /** Nodes whose weights may learn and whose batch statistics move; all by default. */
  readonly trains?: (node: Node) => boolean;
  /** Weights that learn otherwise than the rest, by name. */
  readonly settings?: ReadonlyMap<string, WeightSettings>;
  /** Batch normalization by batch statistics (default) or frozen. */
  readonly batchStatistics?: boolean;
  /** Largest norm of all gradients together; unlimited by default. */
  readonly clipNorm?: number;
  /** Share of the old value that an average of the weights keeps at each step; no average by default. */
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
  /** Scalars to feed at a step, by input name; steps and updates counted from 0. */
  hyper(step: number, rate: number): Tensors;
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
  const parameters = parametersOf(prepared.graph, trains).filter(({ name }) => !frozen(name));
  if (parameters.length === 0) {
    const half = [...model.weights.values()].some(({ dtype }) => dtype === "float16" || dtype === "bfloat16");
    const hint = half ? "Convert it to float32 first: convert-float --to float32" : "Check what is frozen";
    fail("train", "the model has no weights that can learn", hint);
  }
  const { graph: scored, loss, report } = await withObjective(prepared, runtime, feeds, options);
  const types = await observeTypes(lowered(scored), runtime, withMasks(feeds, prepared.masks));
  const { gradients, ...backward } = differentiate(
    scored,
    loss,
    parameters.map(({ name }) => name),
    types,
  );
  const wanted = [...gradients.values()].flatMap((name) => (name === undefined ? [] : [{ name }]));
  const block = await channelBlock(runtime);
  const kept = { ...backward.graph, outputs: [...backward.graph.outputs, ...wanted] };
  const laidOut = block === undefined ? kept : inBlocks(kept, backward.types, block);
  const graph = { ...lowered(laidOut), outputs: backward.graph.outputs };
  const learning = parameters.filter(({ name }) => gradients.get(name) !== undefined);
  if (learning.length === 0)
    fail("train", "the loss depends on none of the weights", "Check the loss and what is frozen");
  return assemble({ graph, gradients, loss, report, parameters: learning, prepared, options });
}

function pick(feeds: Tensors, inputs: readonly Value[]): Tensors {
  return Object.fromEntries(inputs.flatMap(({ name }) => (feeds[name] ? [[name, feeds[name]]] : [])));
}

function withMasks(feeds: Tensors, masks: Prepared["masks"]): Tensors {
  const made = [...masks].map(([name, { shape }]) => [
    name,
    float32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1))),
  ]);
  return { ...feeds, ...Object.fromEntries(made) };
}

function input(name: string, { dtype, shape }: Pick<Tensor, "dtype" | "shape">): Value {
  return { name, type: { kind: "tensor", dtype, shape } };
}

async function withObjective(
  prepared: Prepared,
  runtime: Runtime,
  feeds: Tensors,
  { objective, extraInputs = [] }: StepOptions,
): Promise<{ graph: Graph; loss: string; report: Readonly<Record<string, string>> }> {
  const masks = [...prepared.masks].map(([name, { shape }]) => input(name, { dtype: "float32", shape }));
  const fixed = prepared.graph.inputs.map((value) =>
    feeds[value.name] ? input(value.name, feeds[value.name]!) : value,
  );
  const base = {
    ...prepared.graph,
    inputs: [...fixed, ...masks, ...extraInputs.map(({ name }) => input(name, feeds[name]!))],
  };
  const types = await observeTypes(lowered(base), runtime, withMasks(feeds, prepared.masks));
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

interface Parts {
  readonly graph: Graph;
  readonly gradients: ReadonlyMap<string, string | undefined>;
  readonly loss: string;
  readonly report: Readonly<Record<string, string>>;
  readonly parameters: readonly Parameter[];
  readonly prepared: Prepared;
  readonly options: StepOptions;
}

function assemble({ graph, gradients, loss, report, parameters, prepared, options }: Parts): TrainingStep {
  const optimizer = optimizers[options.optimizer.optimizer];
  const accumulate = options.accumulate ?? 1;
  const state = new Map<string, Tensor>();
  const next = new Map<string, string>();
  const weights = new Map<string, string>();
  const hyperNames = Object.keys(optimizer.hyper(0, 1, options.optimizer));
  if (accumulate > 1) hyperNames.push("apply");
  const hyper = Object.fromEntries(hyperNames.map((name) => [name, `hyper_${name}`]));
  const built = edit(graph, (draft) => {
    const a = arithmetic(draft, "update");
    const held = (name: string, start: Tensor): string => {
      const made = graph.weights.has(name) || prepared.running.some((r) => r.name === name) ? name : draft.fresh(name);
      draft.weights.delete(name);
      draft.inputs.push(input(made, start));
      state.set(made, start);
      return made;
    };
    const advance = (name: string, value: string): void => {
      const output = draft.fresh(`${name}_next`);
      draft.emit("Identity", [value], {}, [output]);
      draft.outputs.push({ name: output });
      next.set(name, output);
    };
    for (const name of Object.values(hyper)) draft.inputs.push(input(name, { dtype: "float32", shape: [] }));
    const slotsOf = new Map<string, { gradient: string; hold?: string; start: Tensor }>();
    for (const { name } of parameters) {
      const start = graph.weights.get(name)!;
      held(name, start);
      weights.set(name, name);
      slotsOf.set(name, { gradient: inRow(a, gradients.get(name)!, start.shape), start: rowOf(start) });
    }
    let found = new Map([...slotsOf].map(([name, { gradient }]) => [name, gradient]));
    if (accumulate > 1)
      found = accumulated(a, found, slotsOf, { held, advance, apply: hyper.apply!, batches: accumulate });
    if (options.clipNorm !== undefined) found = clipped(a, found, options.clipNorm);
    const rates = new Map([[1, hyper.rate!]]);
    const rateOf = (factor: number): string => {
      const rate = rates.get(factor) ?? a.mul(hyper.rate!, a.scalar(factor));
      rates.set(factor, rate);
      return rate;
    };
    for (const { name, decays } of parameters) {
      const zero = zerosLike(slotsOf.get(name)!.start);
      const slots = optimizer.slots.map((slot) => held(`${name}/${slot}`, zero));
      const settings = options.settings?.get(name);
      const decay = settings?.decay ?? (decays ? options.optimizer.decay : 0);
      const scaled = { ...hyper, rate: rateOf(settings?.rateFactor ?? 1) };
      const { shape } = graph.weights.get(name)!;
      const before = inRow(a, name, shape);
      const update = { parameter: before, gradient: found.get(name)!, slots, hyper: scaled, decay };
      const result = optimizer.update(a, update, options.optimizer);
      const applied = (old: string, after: string): string =>
        accumulate > 1 ? a.op("Where", [a.op("Greater", [hyper.apply!, a.scalar(0)]), after, old]) : after;
      const parameter = applied(before, result.parameter);
      const shaped = (row: string): string => (endsInOne(shape) ? a.op("Reshape", [row, a.ints(shape)]) : row);
      advance(name, shaped(parameter));
      for (const [i, slot] of slots.entries()) advance(slot, applied(slot, result.slots[i]!));
      if (options.average !== undefined) {
        const average = held(`${name}/average`, graph.weights.get(name)!);
        advance(average, shaped(mixed(a, inRow(a, average, shape), parameter, options.average)));
        weights.set(name, average);
      }
    }
    for (const { name, batch, momentum, start } of prepared.running) {
      // a statistic that two layers share moves once
      if (state.has(name)) continue;
      held(name, start);
      advance(name, mixed(a, name, batch, momentum));
      weights.set(name, name);
    }
  });
  return {
    graph: withoutForwarding(built),
    loss,
    report,
    parameters,
    state,
    next,
    weights,
    masks: prepared.masks,
    hyper: (step, rate) => {
      const update = Math.floor(step / accumulate);
      const values: Record<string, number> = { ...optimizer.hyper(update, rate, options.optimizer) };
      if (accumulate > 1) values.apply = (step + 1) % accumulate === 0 ? 1 : 0;
      return Object.fromEntries(Object.entries(values).map(([name, value]) => [hyper[name]!, float32([], [value])]));
    },
  };
}

/** The runtime's CPU kernels crawl where a scalar meets a shape that ends in 1: such weights are updated as rows. */
const endsInOne = (shape: readonly number[]): boolean => shape.length > 1 && shape.at(-1) === 1;

function inRow(a: Arithmetic, value: string, shape: readonly number[]): string {
  return endsInOne(shape) ? a.op("Reshape", [value, a.ints([-1])]) : value;
}

function rowOf(t: Tensor): Tensor {
  return endsInOne(t.shape) ? reshape(t, [t.size]) : t;
}

function zerosLike({ shape, size }: Tensor): Tensor {
  return float32(shape, new Float32Array(size));
}

/** keep * old + (1 - keep) * value. */
function mixed(a: Arithmetic, old: string, value: string, keep: number): string {
  return a.add(a.mul(old, a.scalar(keep)), a.mul(value, a.scalar(1 - keep)));
}

/** Gradients scaled down together where their common norm passes the limit (Pascanu et al. 2013). */
function clipped(a: Arithmetic, gradients: ReadonlyMap<string, string>, limit: number): Map<string, string> {
  const squares = [...gradients.values()].map((g) => a.op("ReduceSumSquare", [g], { keepdims: 0 }));
  const norm = a.op("Sqrt", [squares.length === 1 ? squares[0]! : a.op("Sum", squares)]);
  const factor = a.op("Min", [a.scalar(1), a.div(a.scalar(limit), a.add(norm, a.scalar(1e-6)))]);
  return new Map([...gradients].map(([name, g]) => [name, a.mul(g, factor)]));
}

interface Accumulation {
  held(name: string, start: Tensor): string;
  advance(name: string, value: string): void;
  readonly apply: string;
  readonly batches: number;
}

/** Mean gradients of several batches; the sum starts anew after each update. */
function accumulated(
  a: Arithmetic,
  gradients: ReadonlyMap<string, string>,
  slots: ReadonlyMap<string, { readonly start: Tensor }>,
  { held, advance, apply, batches }: Accumulation,
): Map<string, string> {
  return new Map(
    [...gradients].map(([name, gradient]) => {
      const sum = held(`${name}/sum`, zerosLike(slots.get(name)!.start));
      const total = a.add(sum, gradient);
      advance(sum, a.mul(total, a.sub(a.scalar(1), apply)));
      return [name, a.mul(total, a.scalar(1 / batches))];
    }),
  );
}

/** Lets the maker of each new state value write the output itself: the Identities in front are for naming only. */
function withoutForwarding(graph: Graph): Graph {
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const renamed = new Map<string, string>();
  const made = new Set(graph.nodes.flatMap((node) => node.outputs));
  const nodes = graph.nodes.filter((node) => {
    const [from, to] = [node.inputs[0]!, node.outputs[0]!];
    if (!isNode(node, "Identity") || !outputs.has(to) || outputs.has(from) || !made.has(from) || renamed.has(from))
      return true;
    renamed.set(from, to);
    return false;
  });
  const name = (value: string): string => renamed.get(value) ?? value;
  const plain = nodes.map((node) => {
    if (![...node.inputs, ...node.outputs].some((value) => renamed.has(value))) return node;
    return { ...node, inputs: node.inputs.map(name), outputs: node.outputs.map(name) };
  });
  return { ...graph, nodes: plain };
}
