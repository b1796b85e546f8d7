import { edit } from "../../graph/edit.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { ScalableChannels } from "./places.ts";

/** Numbers for the channels of a value. */
export interface Scaling {
  readonly at: ScalableChannels;
  /** [channels], positive where a source says so: the value is divided by them, the weights that read it are multiplied. */
  readonly scales: Float64Array;
}

/** Divides channels where they are made and multiplies them where they are read; the outputs stay the same but for rounding. */
export function scaleChannels(graph: Graph, scalings: readonly Scaling[]): Graph {
  if (scalings.length === 0) return graph;
  /** Of each matrix the factors of either axis. */
  const factors = new Map<string, (Float64Array | undefined)[]>();
  const inputs = new Map<Node, string[]>();
  const multiply = (weight: string, axis: number, by: Float64Array): void => {
    const both = factors.get(weight) ?? [undefined, undefined];
    const known = both[axis];
    both[axis] = known ? known.map((v, i) => v * by[i]!) : by;
    factors.set(weight, both);
  };
  return edit(graph, (draft) => {
    for (const { at, scales } of scalings) {
      const inverse = scales.map((s) => 1 / s);
      // the same weight may be read by several of the readers
      for (const [weight, axis] of new Map(at.readers.map((reader) => [reader.weight, reader.axis]))) {
        multiply(weight, axis, scales);
      }
      for (const { node, input, name, axis } of at.sources) {
        if (axis !== "last") {
          multiply(name, axis, inverse);
          continue;
        }
        const own = inputs.get(node) ?? [...node.inputs];
        own[input] = draft.constant(`${name}_scaled`, scaledVector(graph.weights.get(name)!, inverse));
        inputs.set(node, own);
      }
    }
    for (const [node, own] of inputs) draft.replace(node, { ...node, inputs: own });
    for (const [name, [rows, columns]] of factors) {
      draft.weights.set(name, scaledMatrix(graph.weights.get(name)!, rows, columns));
    }
  });
}

/** A constant times numbers along its last axis, to which it is spread where it is a single number. */
function scaledVector(constant: Tensor, by: Float64Array): Tensor {
  const values = toFloat32(constant);
  const single = constant.size === 1 && by.length > 1;
  const made = Float32Array.from({ length: single ? by.length : values.length }, (_, i) => {
    return values[single ? 0 : i]! * by[i % by.length]!;
  });
  return like(constant, single ? [...constant.shape.slice(0, -1), by.length] : constant.shape, made);
}

function scaledMatrix(matrix: Tensor, rows?: Float64Array, columns?: Float64Array): Tensor {
  const width = matrix.shape[1]!;
  const made = toFloat32(matrix).map(
    (v, at) => v * (rows?.[Math.floor(at / width)] ?? 1) * (columns?.[at % width] ?? 1),
  );
  return like(matrix, matrix.shape, made);
}

function like({ dtype }: Tensor, shape: readonly number[], values: Float32Array): Tensor {
  return tensor(dtype, shape, dtype === "float16" ? floatToHalf(values, dtype) : values);
}
