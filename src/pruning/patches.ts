import type { Draft } from "../graph/edit.ts";
import { intAttribute, intsAttribute, stringAttribute } from "../graph/graph.ts";
import type { ObservedType } from "../platform/observe.ts";
import { float32, int64, sizeOf } from "../tensor/tensor.ts";
import type { Product } from "./products.ts";

/** A layer as matrix products, one for each of its groups: y[group] = W[group] x[group]. */
export interface LayerMatrix {
  readonly groups: number;
  /** Inputs of a group: input channels by taps of the kernel. */
  readonly inputs: number;
  /** Outputs of a group. */
  readonly outputs: number;
}

/** What a layer reads and gives, as matrices. */
export interface LayerColumns {
  /** Name of the inputs [groups, inputs, positions]. */
  readonly x: string;
  /** Name of the outputs [groups, outputs, positions]. */
  readonly y: string;
}

/** Positions of one sample, and numbers in its columns, beyond which only some are used: neighbours tell much the same. */
const mostPositions = 1024;
const mostNumbers = 2 ** 20;

/** The matrices of a layer whose weight has this shape; undefined for transposed convolutions. */
export function matrixOf({ node, inputs }: Product, shape: readonly number[]): LayerMatrix | undefined {
  if (node.op === "ConvTranspose") return undefined;
  if (node.op !== "Conv") return { groups: 1, inputs: shape[inputs]!, outputs: shape[1 - inputs]! };
  const groups = intAttribute(node, "group", 1);
  return { groups, inputs: sizeOf(shape.slice(1)), outputs: shape[0]! / groups };
}

/** Weights as rows [groups, outputs, inputs] of its matrices, or back: products keep their inputs first. */
export function transposed(values: Float32Array, { outputs, inputs }: LayerMatrix): Float32Array {
  const rows = new Float32Array(values.length);
  for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) rows[o * inputs + i] = values[i * outputs + o]!;
  return rows;
}

/**
 * Adds nodes that lay out what a layer reads and gives as columns. A patch of a convolution is copied by kernels of a
 * single one each; of large pictures every few positions are taken.
 *
 * @param x name and type of the input
 * @param y name and type of the output
 */
export function layerColumns(
  draft: Draft,
  { node, channels }: Product,
  matrix: LayerMatrix,
  kernel: readonly number[],
  x: { readonly name: string; readonly type: ObservedType },
  y: { readonly name: string; readonly type: ObservedType },
): LayerColumns {
  const op = (operator: string, inputs: readonly string[], attributes = {}): string =>
    draft.emit(operator, inputs, attributes, 1, "columns");
  const single = ({ name, type }: typeof x): string =>
    type.dtype === "float32" ? name : op("Cast", [name], { to: 1 });
  const shaped = (name: string, shape: readonly number[]): string =>
    op("Reshape", [name, draft.constant("shape", int64(shape))]);
  const { groups, inputs, outputs } = matrix;
  if (node.op !== "Conv") {
    // rows of any number of axes; of a transposed input the columns stand there already
    const rows = (name: string, size: number): string => op("Transpose", [shaped(name, [-1, size])], { perm: [1, 0] });
    const flat = channels === 0 && x.type.shape.length === 2 ? single(x) : rows(single(x), inputs);
    return { x: shaped(flat, [1, inputs, -1]), y: shaped(rows(single(y), outputs), [1, outputs, -1]) };
  }
  const spatial = kernel.map(() => 1);
  const space = y.type.shape.slice(2);
  const fixed = ["NOTSET", "VALID"].includes(stringAttribute(node, "auto_pad", "NOTSET"));
  const most = Math.min(mostPositions, mostNumbers / (groups * inputs));
  const skip = fixed ? Math.max(1, Math.ceil((sizeOf(space) / most) ** (1 / space.length))) : 1;
  const wide = x.type.shape[1]!;
  const taps = sizeOf(kernel);
  const copies = new Float32Array(wide * taps * taps);
  for (let row = 0; row < wide * taps; row++) copies[row * taps + (row % taps)] = 1;
  const picks = draft.constant("copies", float32([wide * taps, 1, ...kernel], copies));
  const strides = (intsAttribute(node, "strides") ?? spatial).map((stride) => stride * skip);
  const { kernel_shape: _, ...attributes } = node.attributes;
  const patches = draft.fresh("columns");
  draft.add({
    ...node,
    name: "",
    inputs: [single(x), picks],
    outputs: [patches],
    attributes: {
      ...attributes,
      group: { type: "int", value: wide },
      strides: { type: "ints", value: strides },
    },
  });
  const some =
    skip === 1
      ? single(y)
      : op("MaxPool", [single(y)], {
          kernel_shape: spatial,
          strides: spatial.map(() => skip),
          pads: [...spatial, ...spatial].map(() => 0),
        });
  const apart = (name: string, size: number): string =>
    shaped(op("Transpose", [shaped(name, [0, groups, size, -1])], { perm: [1, 2, 0, 3] }), [groups, size, -1]);
  return { x: apart(patches, inputs), y: apart(some, outputs) };
}
