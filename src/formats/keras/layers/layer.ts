import { fail } from "../../../errors.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import { asFloat32 } from "../arrange.ts";
import { type Attributes, type Builder, inValueOrder, type KerasTensor, range, type Shape } from "../builder.ts";
import type { Settings } from "../settings.ts";
import type { WeightSource } from "../weights.ts";

/** One call of a layer, to be written as nodes. */
export interface LayerCall {
  /** Name for its nodes: the layer's, with the names of the models around it. */
  readonly name: string;
  /** Name for its weights: the layer's, whichever call it is. */
  readonly weightName: string;
  readonly className: string;
  readonly settings: Settings;
  /** Its tensors, those among lists included. */
  readonly inputs: readonly KerasTensor[];
  /** Its tensors and numbers, for functions such as `x + 3`. */
  readonly operands: readonly (KerasTensor | number)[];
  /** Arguments given by name: tensors, or JSON. */
  readonly named: Readonly<Record<string, unknown>>;
  readonly weights: WeightSource;
  /** Major version of the Keras that wrote the file. */
  readonly keras: number;
  readonly b: Builder;
  /** Writes another layer in the place of this one, for layers that wrap one. */
  wrapped(layer: unknown, part: string, inputs: readonly KerasTensor[]): readonly KerasTensor[];
}

/** Writes a call of a layer of one class. */
export type LayerRule = (c: LayerCall) => KerasTensor | readonly KerasTensor[];

/**
 * The call's one input.
 *
 * @throws PareError if it has none or several
 */
export function input(c: LayerCall): KerasTensor {
  const [first] = c.inputs;
  if (!first || c.inputs.length > 1) return fail(c.settings.who, `it takes one input, got ${c.inputs.length}`);
  return first;
}

/** Says that something about a layer is not supported, and what to do. */
export function unsupported(c: LayerCall, what: string, hint = "Replace the layer, or export the model with tf2onnx") {
  return fail(c.settings.who, what, hint);
}

/**
 * Weights of the layer, as float32, in the order of their names; `false` stands for one the layer is configured not to
 * have.
 *
 * @param ranks how many axes each has
 * @throws PareError where one is missing or has another number of axes
 */
export function weightsOf(
  c: LayerCall,
  names: readonly (string | false)[],
  ranks: readonly number[],
): readonly (Tensor | undefined)[] {
  const wanted = names.filter((name) => name !== false);
  const found = c.weights.read(c.settings.who, wanted).map(asFloat32);
  return names.map((name, i) => {
    if (name === false) return undefined;
    const weight = found[wanted.indexOf(name)]!;
    if (weight.shape.length === ranks[i]) return weight;
    return fail(c.settings.who, `its weight '${name}' has shape [${weight.shape.join(", ")}]`, "The file is damaged");
  });
}

/** Checks that a weight fits the tensor it is applied to. */
export function expectChannels(c: LayerCall, weight: number, tensor: number | null | undefined): void {
  if (tensor === null || tensor === weight) return;
  fail(c.settings.who, `its weights are for ${weight} channels, its input has ${tensor}`, "The file is damaged");
}

/** Adds a weight to the graph under the layer's name. */
export function addWeight(c: LayerCall, name: string, value: Tensor, form = ""): string {
  return c.b.weight(`${c.weightName}/${name}`, value, form);
}

/** Writes an operator over one tensor that looks at every element by itself: the axes' order stays. */
export function elementwise(c: LayerCall, t: KerasTensor, op: string, attributes: Attributes = {}): KerasTensor {
  return { ...t, value: c.b.op(c.name, op, [t.value], attributes) };
}

/** An axis counted from 0, of a tensor of `rank` axes; Keras counts some from the end. */
export function axisOf(c: LayerCall, axis: number, rank: number): number {
  const found = axis < 0 ? axis + rank : axis;
  if (found >= 0 && found < rank) return found;
  return fail(c.settings.who, `its axis ${axis} does not exist in a tensor of ${rank} axes`, "The file is damaged");
}

/** A tensor of images, signals or volumes, as an ONNX operator over its spatial axes wants it: [n, channels, ...]. */
export interface Spatial {
  readonly value: string;
  readonly channels: number | null;
  readonly sizes: Shape;
  /** The result of an operator as a Keras tensor. */
  result(value: string, channels: number | null, sizes: Shape): KerasTensor;
}

/**
 * The call's input with its channels on axis 1, by its setting `data_format`.
 *
 * @param axes number of spatial axes
 * @throws PareError where the input has another number of axes
 */
export function spatial(c: LayerCall, axes: number, t = input(c)): Spatial {
  if (t.shape.length !== axes + 2) {
    return fail(c.settings.who, `it takes tensors of ${axes + 2} axes, got ${t.shape.length}`, "The file is damaged");
  }
  const batch = t.shape[0]!;
  if (c.settings.text("data_format", "channels_last") === "channels_first") {
    const { value, shape, dtype } = c.b.plain(t);
    const result: Spatial["result"] = (made, channels, sizes) => {
      return { value: made, shape: [batch, channels, ...sizes], dtype, order: "keras" };
    };
    return { value, channels: shape[1]!, sizes: shape.slice(2), result };
  }
  const { value, shape, dtype } = c.b.channelsFirst(t);
  const result: Spatial["result"] = (made, channels, sizes) => {
    return { value: made, shape: [batch, ...sizes, channels], dtype, order: "channels-first" };
  };
  return { value, channels: shape.at(-1)!, sizes: shape.slice(1, -1), result };
}

/** A constant over some axes of a tensor, shaped so that it broadcasts against the tensor's value. */
export function broadcastShape(t: KerasTensor, sizes: ReadonlyMap<number, number>): number[] {
  const shape = range(0, t.shape.length).map((axis) => sizes.get(axis) ?? 1);
  return inValueOrder(t, shape).slice(1);
}
