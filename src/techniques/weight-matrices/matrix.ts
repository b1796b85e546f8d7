import { fail } from "../../errors.ts";
import { intAttribute, nodeLabel } from "../../graph/graph.ts";
import { sizeOf, toFloat32 } from "../../tensor/tensor.ts";
import type { WeightTarget, WeightUse } from "../quantize-weights/targets.ts";

/** A weight as a matrix with a row for each output and a column for each input; inputs of one tap are neighbours. */
export interface WeightMatrix {
  readonly target: WeightTarget;
  readonly use: WeightUse;
  readonly rows: number;
  /** taps x channels */
  readonly columns: number;
  readonly channels: number;
  readonly groups: number;
  /** The weight's shape as these dimensions, which permuted are [rows..., taps, channels]. */
  readonly dims: readonly number[];
  readonly permutation: readonly number[];
}

/** A weight as a matrix, by the use that multiplies with it where there is one. */
export function weightMatrix(target: WeightTarget): WeightMatrix {
  const use = target.uses.find(({ kind }) => kind !== "gather") ?? target.uses[0]!;
  const matrix = dimensionsOf(target, use);
  const size = target.weight.size;
  const channels = matrix.channels;
  const groups = use.kind === "conv" || use.kind === "convTranspose" ? intAttribute(use.node, "group", 1) : 1;
  const columns = channels * (matrix.taps ?? 1);
  const { dims, permutation } = matrix;
  return { target, use, rows: size / columns, columns, channels, groups, dims, permutation };
}

interface Dimensions {
  readonly dims: readonly number[];
  readonly permutation: readonly number[];
  readonly channels: number;
  readonly taps?: number;
}

function dimensionsOf({ weight: { shape, size } }: WeightTarget, { node, kind, transpose }: WeightUse): Dimensions {
  const last = shape.at(-1)!;
  const asStored = (channels: number): Dimensions => ({
    dims: [size / channels, channels],
    permutation: [0, 1],
    channels,
  });
  const turned = (channels: number): Dimensions => {
    const dims = [size / channels / last, channels, last];
    return { dims, permutation: [0, 2, 1], channels };
  };
  switch (kind) {
    case "matmul":
      return transpose ? asStored(last) : turned(shape.at(-2)!);
    case "gemm":
      return intAttribute(node, "transB", 0) ? asStored(last) : turned(shape[0]!);
    case "left":
      return node.op === "Gemm" && intAttribute(node, "transA", 0) ? turned(shape[0]!) : asStored(last);
    case "conv": {
      const [outputs, channels, taps] = [shape[0]!, shape[1]!, sizeOf(shape.slice(2))];
      return { dims: [outputs, channels, taps], permutation: [0, 2, 1], channels, taps };
    }
    case "convTranspose": {
      const groups = intAttribute(node, "group", 1);
      const [channels, outputs, taps] = [shape[0]! / groups, shape[1]!, sizeOf(shape.slice(2))];
      return { dims: [groups, channels, outputs, taps], permutation: [0, 2, 3, 1], channels, taps };
    }
    case "recurrent":
      return asStored(last);
    case "gather":
      return asStored(size / shape[0]!);
  }
}

/** Where each element of the matrix stands in the weight; undefined where the order is the same. */
export function elementOrder({ dims, permutation }: WeightMatrix): Uint32Array | undefined {
  const moving = permutation.filter((axis) => dims[axis]! > 1);
  if (moving.every((axis, i) => i === 0 || moving[i - 1]! < axis)) return undefined;
  const sizes = permutation.map((axis) => dims[axis]!);
  const steps = permutation.map((axis) => sizeOf(dims.slice(axis + 1)));
  const order = new Uint32Array(sizeOf(dims));
  const index = sizes.map(() => 0);
  for (let at = 0, from = 0; at < order.length; at++) {
    order[at] = from;
    for (let d = sizes.length - 1; d >= 0; d--) {
      from += steps[d]!;
      if (++index[d]! < sizes[d]!) break;
      from -= steps[d]! * sizes[d]!;
      index[d] = 0;
    }
  }
  return order;
}

/**
 * A copy of the weight as a matrix, row by row.
 *
 * @throws PareError naming the weight if it holds NaN or infinity
 */
export function matrixValues({ target }: WeightMatrix, order: Uint32Array | undefined): Float32Array {
  const values = toFloat32(target.weight);
  const matrix = new Float32Array(values.length);
  let finite = true;
  for (let i = 0; i < matrix.length; i++) {
    matrix[i] = values[order ? order[i]! : i]!;
    finite &&= Number.isFinite(matrix[i]);
  }
  if (!finite) fail(`weight '${target.name}'`, "holds NaN or infinite values", "Repair the weight");
  return matrix;
}

/** How a weight is called in messages. */
export function matrixLabel({ use }: WeightMatrix): string {
  return nodeLabel(use.node);
}
