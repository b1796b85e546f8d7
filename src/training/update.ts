import { type Draft, edit, renameReads } from "../graph/edit.ts";
import { type Graph, isNode, type Value } from "../graph/graph.ts";
import type { Tensors } from "../platform/runtime.ts";
import { float32, lazyTensor, sizeOf, type Tensor } from "../tensor/tensor.ts";
import { type Arithmetic, arithmetic } from "./emit.ts";
import { optimizerOf, optimizers } from "./optimizers.ts";
import type { Parameter } from "./parameters.ts";
import type { Running } from "./prepare.ts";
import type { StepOptions } from "./step.ts";

/** A graph with its gradients, and what of it learns. */
export interface Learner {
  readonly graph: Graph;
  /** The value that holds each parameter's gradient. */
  readonly gradients: ReadonlyMap<string, string | undefined>;
  /** Those that have a gradient. */
  readonly parameters: readonly Parameter[];
  readonly running: readonly Running[];
}

/** What the update adds to a step; see TrainingStep. */
export interface Updated {
  readonly graph: Graph;
  readonly state: ReadonlyMap<string, Tensor>;
  readonly next: ReadonlyMap<string, string>;
  readonly weights: ReadonlyMap<string, string>;
  hyper(step: number, rate: number, last?: boolean): Tensors;
}

type UpdateOptions = Pick<StepOptions, "optimizer" | "settings" | "clipNorm" | "average" | "accumulate">;

/** An input of a step with the type of a tensor. */
export function inputLike(name: string, { dtype, shape }: Pick<Tensor, "dtype" | "shape">): Value {
  return { name, type: { kind: "tensor", dtype, shape } };
}

/** The graph with the update of its parameters and running statistics behind it; these become inputs and outputs. */
export function withUpdate(learner: Learner, options: UpdateOptions): Updated {
  const { graph, gradients, parameters, running } = learner;
  const hyper = hyperInputs(options);
  const weights = new Map<string, string>();
  const own = new Set([...graph.weights.keys(), ...running.map(({ name }) => name)]);
  const state = new Map<string, Tensor>();
  const next = new Map<string, string>();
  const built = edit(graph, (draft) => {
    const a = arithmetic(draft, "update");
    const writing: Writing = { a, hyper: hyper.names, options, weights, ...stateIn(draft, own, state, next) };
    for (const name of Object.values(hyper.names)) draft.inputs.push(inputLike(name, { dtype: "float32", shape: [] }));
    let moves: readonly Move[] = parameters.map((parameter) => {
      const { name } = parameter;
      const start = graph.weights.get(name)!;
      writing.hold(name, start);
      weights.set(name, name);
      return { parameter, start, gradient: inRow(a, gradients.get(name)!, start.shape) };
    });
    if (hyper.names.apply !== undefined) moves = accumulated(writing, moves);
    if (options.clipNorm !== undefined) moves = clipped(a, moves, options.clipNorm);
    const rateOf = factors(a, hyper.names.rate!);
    const due = hyper.names.apply && a.op("Greater", [hyper.names.apply, a.scalar(0)]);
    const applied = (old: string, after: string): string => (due ? a.op("Where", [due, after, old]) : after);
    for (const move of moves) writeMove(writing, move, rateOf, applied);
    for (const { name, batch, momentum, start } of running) {
      // a statistic that two layers share moves once
      if (state.has(name)) continue;
      writing.hold(name, start);
      writing.advance(name, mixed(a, name, batch, momentum));
      weights.set(name, name);
    }
  });
  return { graph: withoutForwarding(built), state, next, weights, hyper: hyper.values };
}

/** What the parts of an update write with. */
interface Writing extends StateWriter {
  readonly a: Arithmetic;
  /** Inputs of the scalars that are fed. */
  readonly hyper: Readonly<Record<string, string>>;
  readonly options: UpdateOptions;
  /** State inputs that are weights of the model. */
  readonly weights: Map<string, string>;
}

/** One parameter's way through an update. */
interface Move {
  readonly parameter: Parameter;
  readonly start: Tensor;
  /** In a row where the parameter is, see {@link inRow}. */
  readonly gradient: string;
}

/** Adds state to a step. */
interface StateWriter {
  /** Makes a value an input of the step, and gives its name. */
  hold(name: string, start: Tensor): string;
  /** States the next value of a held one. */
  advance(name: string, value: string): void;
}

/** @param own names that the graph gives to its weights, which the state keeps */
function stateIn(
  draft: Draft,
  own: ReadonlySet<string>,
  state: Map<string, Tensor>,
  next: Map<string, string>,
): StateWriter {
  return {
    hold(name, start) {
      const made = own.has(name) ? name : draft.fresh(name);
      draft.weights.delete(name);
      draft.inputs.push(inputLike(made, start));
      state.set(made, start);
      return made;
    },
    advance(name, value) {
      const output = draft.fresh(`${name}_next`);
      draft.emit("Identity", [value], {}, [output]);
      draft.outputs.push({ name: output });
      next.set(name, output);
    },
  };
}

/**
 * The scalars fed at every step: those of the optimizer, and with accumulation `apply`, 1 where an update is due, and
 * `share`, one over the batches summed up by then.
 */
function hyperInputs({ optimizer: options, accumulate = 1 }: UpdateOptions) {
  const optimizer = optimizers[options.optimizer];
  const scalars = (step: number, rate: number, last: boolean): Readonly<Record<string, number>> => {
    const summed = (step % accumulate) + 1;
    return {
      ...optimizer.hyper(Math.floor(step / accumulate), rate, options),
      ...(accumulate > 1 && { apply: last || summed === accumulate ? 1 : 0, share: 1 / summed }),
    };
  };
  const names = Object.fromEntries(Object.keys(scalars(0, 1, false)).map((name) => [name, `hyper_${name}`]));
  const values = (step: number, rate: number, last = false): Tensors =>
    Object.fromEntries(
      Object.entries(scalars(step, rate, last)).map(([name, value]) => [names[name]!, float32([], [value])]),
    );
  return { names, values };
}

/** The learning rate times a factor, written once for each. */
function factors(a: Arithmetic, rate: string): (factor: number) => string {
  const rates = new Map([[1, rate]]);
  return (factor) => {
    const scaled = rates.get(factor) ?? a.mul(rate, a.scalar(factor));
    rates.set(factor, scaled);
    return scaled;
  };
}

/** Moves one parameter, its slots and its average. */
function writeMove(
  { a, hyper, options, weights, hold, advance }: Writing,
  { parameter: { name, decays, matrices }, start, gradient }: Move,
  rateOf: (factor: number) => string,
  applied: (old: string, after: string) => string,
): void {
  const { shape } = start;
  const optimizer = optimizerOf(options.optimizer.optimizer, matrices);
  const slots = optimizer.slots.map((slot) => hold(`${name}/${slot}`, zerosLike(start)));
  const settings = options.settings?.get(name);
  const before = inRow(a, name, shape);
  const update = {
    parameter: before,
    gradient,
    slots,
    hyper: { ...hyper, rate: rateOf(settings?.rateFactor ?? 1) },
    decay: settings?.decay ?? (decays ? options.optimizer.decay : 0),
    shape: rowShape(shape),
    ...(matrices && { matrices }),
  };
  const result = optimizer.update(a, update, options.optimizer);
  const after = applied(before, result.parameter);
  const shaped = (row: string): string => (endsInOne(shape) ? a.op("Reshape", [row, a.ints(shape)]) : row);
  advance(name, shaped(after));
  for (const [i, slot] of slots.entries()) advance(slot, applied(slot, result.slots[i]!));
  if (options.average === undefined) return;
  const average = hold(`${name}/average`, start);
  const kept = inRow(a, average, shape);
  advance(average, shaped(applied(kept, mixed(a, kept, after, options.average))));
  weights.set(name, average);
}

/** The runtime's CPU kernels crawl where a scalar meets a shape that ends in 1: such weights are updated as rows. */
const endsInOne = (shape: readonly number[]): boolean => shape.length > 1 && shape.at(-1) === 1;

const rowShape = (shape: readonly number[]): readonly number[] => (endsInOne(shape) ? [sizeOf(shape)] : shape);

function inRow(a: Arithmetic, value: string, shape: readonly number[]): string {
  return endsInOne(shape) ? a.op("Reshape", [value, a.ints([-1])]) : value;
}

/** Zeros of the shape in which a parameter is updated; made when they are read, since a run keeps its state elsewhere. */
function zerosLike(t: Tensor): Tensor {
  return lazyTensor("float32", rowShape(t.shape), (_, length, scratch) => scratch?.fill(0) ?? new Uint8Array(length));
}

/** keep * old + (1 - keep) * value. */
function mixed(a: Arithmetic, old: string, value: string, keep: number): string {
  return a.add(a.mul(old, a.scalar(keep)), a.mul(value, a.scalar(1 - keep)));
}

/** Gradients scaled down together where their common norm passes the limit (Pascanu et al. 2013). */
function clipped(a: Arithmetic, moves: readonly Move[], limit: number): readonly Move[] {
  const squares = moves.map(({ gradient }) => a.op("ReduceSumSquare", [gradient], { keepdims: 0 }));
  const norm = a.op("Sqrt", [squares.length === 1 ? squares[0]! : a.op("Sum", squares)]);
  const factor = a.op("Min", [a.scalar(1), a.div(a.scalar(limit), a.add(norm, a.scalar(1e-6)))]);
  return moves.map((move) => ({ ...move, gradient: a.mul(move.gradient, factor) }));
}

/** Mean gradients of several batches; the sum starts anew after each update. */
function accumulated({ a, hyper, hold, advance }: Writing, moves: readonly Move[]): readonly Move[] {
  return moves.map((move) => {
    const sum = hold(`${move.parameter.name}/sum`, zerosLike(move.start));
    const total = a.add(sum, move.gradient);
    advance(sum, a.mul(total, a.sub(a.scalar(1), hyper.apply!)));
    return { ...move, gradient: a.mul(total, hyper.share!) };
  });
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
  const named = nodes.map((node) => {
    const reader = renameReads(node, name);
    if (!node.outputs.some((value) => renamed.has(value))) return reader;
    return { ...reader, outputs: node.outputs.map(name) };
  });
  return { ...graph, nodes: named };
}
