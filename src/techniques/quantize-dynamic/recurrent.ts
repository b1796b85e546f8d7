import type { Draft } from "../../graph/edit.ts";
import { intAttribute, isNode, makeNode, type Node } from "../../graph/graph.ts";
import { quantizeWeight } from "../../tensor/affine.ts";
import { reshape, type Tensor, tensor, typed } from "../../tensor/tensor.ts";
import type { QuantizeDynamicOptions } from "./options.ts";

/** Why a recurrent layer can't compute in integers; undefined if it can. */
export function recurrentRefusal(node: Node): string | undefined {
  if (!isNode(node, "LSTM")) return `${node.op} has no integer kernel`;
  if (intAttribute(node, "layout", 0) !== 0) return "DynamicQuantizeLSTM takes sequences time first (layout 0)";
  return undefined;
}

/** An LSTM weight `[directions, 4 h, k]` as DynamicQuantizeLSTM takes it: int8 `[directions, k, 4 h]`. */
export interface RecurrentWeight {
  readonly codes: Tensor;
  /** `[directions, 4 h]`, or `[directions]` with one scale a direction. */
  readonly scale: Tensor;
  readonly zero: Tensor;
}

/** Quantizes a weight of an LSTM, symmetric, one scale for each row of each direction or for each direction. */
export function recurrentWeight(weight: Tensor, name: string, options: QuantizeDynamicOptions): RecurrentWeight {
  const [directions, rows, columns] = weight.shape as [number, number, number];
  const quantized = quantizeWeight(
    options.perChannel ? reshape(weight, [directions * rows, columns]) : reshape(weight, [directions, rows * columns]),
    { dtype: "int8", axis: 0, symmetric: true, reduceRange: options.portable, name: `weight '${name}'` },
  );
  const from = typed(quantized.values) as Int8Array;
  const to = new Int8Array(from.length);
  for (let d = 0; d < directions; d++) {
    const base = d * rows * columns;
    for (let c = 0; c < columns; c++) {
      for (let r = 0; r < rows; r++) to[base + c * rows + r] = from[base + r * columns + c]!;
    }
  }
  const shape = options.perChannel ? [directions, rows] : [directions];
  return {
    codes: tensor("int8", [directions, columns, rows], to),
    scale: reshape(quantized.scale, shape),
    zero: tensor("int8", shape, new Int8Array(quantized.scale.size)),
  };
}

/** Replaces an LSTM by DynamicQuantizeLSTM, whose activations are quantized inside the kernel. */
export function replaceLstm(draft: Draft, node: Node, w: RecurrentNames, r: RecurrentNames): void {
  const [x, , , b = "", lengths = "", h = "", c = "", p = ""] = node.inputs as readonly [string, ...string[]];
  const inputs = [x, w.codes, r.codes, b, lengths, h, c, p, w.scale, w.zero, r.scale, r.zero];
  const { layout: _, ...attributes } = node.attributes;
  draft.opsets["com.microsoft"] ??= 1;
  draft.replace(node, {
    ...makeNode("com.microsoft:DynamicQuantizeLSTM", inputs, node.outputs, {}, node.name),
    attributes,
  });
}

/** Names of the constants of a quantized weight. */
export interface RecurrentNames {
  readonly codes: string;
  readonly scale: string;
  readonly zero: string;
}
