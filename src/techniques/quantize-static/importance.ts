import type { Calibration } from "../../analysis/calibrate.ts";
import type { Node } from "../../graph/graph.ts";
import { channelsRead } from "./input-channels.ts";
import type { Weight } from "./rules.ts";

/**
 * How much the error of each weight counts in the output, in the weight's layout: the mean square of the input that it
 * multiplies. Undefined where that is not known.
 */
export function importanceOf(node: Node, weight: Weight, calibration: Calibration): Float32Array | undefined {
  const squares = channelsRead(node, calibration)?.square;
  const { shape, size } = weight.tensor;
  if (!squares || size === 0) return undefined;
  const importance = new Float32Array(size);
  if (node.op !== "Conv") {
    // [inputs, outputs], or the other way round with its outputs first; leading axes are batches
    const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
    const inputsFirst = weight.axis !== 0;
    if (squares.length !== (inputsFirst ? rows : columns)) return undefined;
    for (let i = 0; i < size; i++) importance[i] = squares[inputsFirst ? Math.floor(i / columns) % rows : i % columns]!;
    return importance;
  }
  const [outs, perGroup] = [shape[0]!, shape[1]!];
  const taps = size / (outs * perGroup);
  const groupOuts = outs / (squares.length / perGroup);
  for (let o = 0, at = 0; o < outs; o++) {
    const from = Math.floor(o / groupOuts) * perGroup;
    for (let i = 0; i < perGroup; i++) for (const end = at + taps; at < end; at++) importance[at] = squares[from + i]!;
  }
  return importance;
}
