import { makeNode, type Node, type PlainAttribute, type Value } from "../../graph/graph.ts";
import type { DType } from "../../tensor/dtype.ts";
import { float32, int64, type Tensor } from "../../tensor/tensor.ts";

/** Sizes as Keras gives them, batch first; null where a size is free. */
export type Shape = readonly (number | null)[];

/**
 * A Keras tensor and the ONNX value that holds it. The value's axes may be in another order than Keras': convolutional
 * networks keep their channels on axis 1, whatever Keras says, from the first layer that wants them there.
 */
export interface KerasTensor {
  /** Name of the ONNX value. */
  readonly value: string;
  /** In Keras' order. */
  readonly shape: Shape;
  readonly dtype: DType;
  /** "channels-first": Keras' last axis is the value's axis 1. */
  readonly order: "keras" | "channels-first";
  /**
   * The shape (Keras' order) before a Flatten that has not been written yet: a Dense layer behind it sorts the rows of
   * its weights instead of having the activations transposed.
   */
  readonly unflattened?: Shape;
  /** Whether Keras carries a mask of valid time steps along. */
  readonly masked?: boolean;
}

/** Attributes of a node in plain form. */
export type Attributes = Readonly<Record<string, PlainAttribute>>;

/** Writes nodes and weights of the graph. Conversions between axis orders are written once for each value. */
export interface Builder {
  readonly nodes: Node[];
  readonly weights: Map<string, Tensor>;
  readonly inputs: Value[];
  /** Adds a node named `name` (or the next free name after it); returns its output. */
  op(name: string, op: string, inputs: readonly string[], attributes?: Attributes): string;
  /** As `op`, with several outputs. */
  ops(name: string, op: string, inputs: readonly string[], attributes: Attributes, count: number): readonly string[];
  /**
   * A weight. Layers that are called several times ask for theirs several times and get the same one.
   *
   * @param form tells apart different arrangements of a weight
   */
  weight(name: string, value: Tensor, form?: string): string;
  scalar(value: number): string;
  ints(values: readonly number[]): string;
  floats(values: readonly number[]): string;
  /** An int64 scalar. */
  index(value: number): string;
  input(name: string, value: Omit<Value, "name">): string;
  /** The tensor with the axes as Keras has them. */
  plain(t: KerasTensor): KerasTensor;
  /** The tensor with Keras' last axis at 1. */
  channelsFirst(t: KerasTensor): KerasTensor;
  /** The value of a tensor whose Flatten is not written yet, flattened in the value's own order. */
  flattened(t: KerasTensor): string;
}

/** An empty builder. */
export function builder(): Builder {
  const nodes: Node[] = [];
  const weights = new Map<string, Tensor>();
  const inputs: Value[] = [];
  const taken = new Set<string>();
  const converted = new Map<string, string>();
  const constants = new Map<string, string>();
  const unique = (stem: string): string => {
    let name = stem;
    for (let i = 1; taken.has(name); i++) name = `${stem}_${i}`;
    taken.add(name);
    return name;
  };
  const constant = (stem: string, make: () => Tensor, key = stem): string => {
    const known = constants.get(key);
    if (known !== undefined) return known;
    const name = unique(stem);
    constants.set(key, name);
    weights.set(name, make());
    return name;
  };
  const once = (value: string, what: string, make: (name: string) => string): string => {
    const key = `${value.replace(/:\d+$/, "")}/${what}`;
    const known = converted.get(`${value} ${what}`) ?? make(key);
    converted.set(`${value} ${what}`, known);
    return known;
  };
  const b: Builder = {
    nodes,
    weights,
    inputs,
    op: (name, op, values, attributes = {}) => b.ops(name, op, values, attributes, 1)[0]!,
    ops(name, op, values, attributes, count) {
      const node = unique(name);
      const outputs = Array.from({ length: count }, (_, i) => `${node}:${i}`);
      nodes.push(makeNode(op, values, outputs, attributes, node));
      return outputs;
    },
    weight: (name, value, form = "") => constant(name, () => value, `${name} ${value.shape.join()} ${form}`),
    scalar: (value) => constant(`scalar/${value}`, () => float32([], [value])),
    index: (value) => constant(`index/${value}`, () => int64([value], [])),
    floats: (values) => constant(`floats/${values.join("_")}`, () => float32([values.length], values)),
    ints: (values) => constant(`ints/${values.join("_")}`, () => int64(values)),
    input(name, value) {
      const made = unique(name);
      inputs.push({ ...value, name: made });
      return made;
    },
    plain(t) {
      const { unflattened, ...flat } = t;
      if (unflattened) {
        const inner = b.plain({ ...flat, shape: unflattened });
        return { ...inner, value: b.flattened(inner), shape: t.shape };
      }
      if (t.order === "keras") return t;
      const target = [0, ...t.shape.slice(1)];
      const value = once(t.value, "channels_last", (name) => reorder(b, name, t, target, [0, ...range(2, rank(t)), 1]));
      return { ...t, value, order: "keras" };
    },
    channelsFirst(t) {
      if (t.order === "channels-first" && !t.unflattened) return t;
      const x = b.plain(t);
      const { shape } = x;
      if (shape.length < 3) return x;
      const order = [0, shape.length - 1, ...range(1, shape.length - 1)];
      const target = [0, ...order.slice(1).map((axis) => shape[axis]!)];
      const value = once(x.value, "channels_first", (name) => reorder(b, name, x, target, order));
      return { ...x, value, order: "channels-first" };
    },
    flattened: (t) => once(t.value, "flatten", (name) => b.op(name, "Flatten", [t.value])),
  };
  return b;
}

/** Moves the channel axis; a Reshape does it where all the others but the batch have size 1. */
function reorder(
  b: Builder,
  name: string,
  t: KerasTensor,
  target: readonly (number | null)[],
  order: readonly number[],
): string {
  const movable = t.shape.slice(1, -1).every((size) => size === 1) && t.shape.at(-1) !== null;
  return movable
    ? b.op(name, "Reshape", [t.value, b.ints(target as readonly number[])])
    : b.op(name, "Transpose", [t.value], { perm: [...order] });
}

/** Number of axes. */
export function rank(t: KerasTensor): number {
  return t.shape.length;
}

/** Whole numbers from `start` up to, not including, `end`. */
export function range(start: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
}

/** Where an axis of a Keras tensor lies in its value. */
export function valueAxis({ order, shape }: KerasTensor, axis: number): number {
  if (order === "keras" || axis === 0) return axis;
  return axis === shape.length - 1 ? 1 : axis + 1;
}

/** Something given axis by axis in Keras' order (pads, sizes), in the order of the tensor's value. */
export function inValueOrder<T>({ order }: KerasTensor, axes: readonly T[]): T[] {
  if (order === "keras" || axes.length < 3) return [...axes];
  return [axes[0]!, axes.at(-1)!, ...axes.slice(1, -1)];
}
