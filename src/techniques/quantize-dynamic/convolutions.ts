import type { Draft } from "../../graph/edit.ts";
import { makeNode, type Node } from "../../graph/graph.ts";
import { quantizeWeight } from "../../tensor/affine.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { float32, int64, reshape, tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { WeightTarget } from "../quantize-weights/targets.ts";
import type { QuantizeDynamicOptions } from "./options.ts";
import type { DynamicInput } from "./products.ts";

/**
 * Lets convolutions compute in integers:
 *
 *     Conv -> DynamicQuantizeLinear -> ConvInteger -> Cast -> Mul scales (-> Add bias)
 *
 * The kernel takes one zero point for all channels, so weights are uint8 around 128 with a scale a channel; it is 3 to 11
 * times slower with int8 weights. The weight is quantized at once, the nodes are changed by the function returned.
 */
export function integerConvolution(
  { name, weight, uses }: WeightTarget,
  options: QuantizeDynamicOptions,
): (draft: Draft, input: (activation: string) => DynamicInput) => void {
  const { values, scale } = quantizeWeight(weight, {
    dtype: "uint8",
    axis: options.perChannel ? 0 : null,
    symmetric: true,
    reduceRange: options.portable,
    name: `weight '${name}'`,
  });
  const middle = options.portable ? 64 : 128;
  const taps = weight.shape.slice(2).map(() => 1);
  return (draft, input) => {
    const codes = draft.constant(`${name}_quantized`, values);
    const zero = draft.constant(`${name}_zero_point`, tensor("uint8", [], Uint8Array.of(middle)));
    const scaleShape = scale.size === 1 ? [] : [scale.size, ...taps];
    const weightScale = draft.constant(`${name}_scale`, reshape(scale, scaleShape));
    for (const { node } of uses) replaceConvolution(draft, node, input, codes, weightScale, zero);
  };
}

function replaceConvolution(
  draft: Draft,
  node: Node,
  input: (activation: string) => DynamicInput,
  codes: string,
  weightScale: string,
  zero: string,
): void {
  const stem = node.outputs[0]!;
  const x = input(node.inputs[0]!);
  const product = draft.fresh(`${stem}_integer`);
  draft.add({
    ...makeNode("ConvInteger", [x.codes, codes, x.zero, zero], [product]),
    attributes: node.attributes,
  });
  const real = draft.emit("Cast", [product], { to: dtypes.float32.code }, 1, `${stem}_cast`);
  const scale = draft.emit("Mul", [x.scale, weightScale], {}, 1, `${stem}_scale`);
  const bias = node.inputs[2];
  if (!bias) {
    draft.replace(node, makeNode("Mul", [real, scale], node.outputs, {}, node.name));
    return;
  }
  const scaled = draft.emit("Mul", [real, scale], {}, 1, `${stem}_scaled`);
  const shaped = biasColumn(draft, bias, draft.weights.get(codes)!.shape.length);
  draft.replace(node, makeNode("Add", [scaled, shaped], node.outputs, {}, node.name));
}

/** A bias `[O]` as `[1, O, 1, ...]`. */
function biasColumn(draft: Draft, bias: string, rank: number): string {
  const shape = Array.from({ length: rank }, (_, i) => (i === 1 ? -1 : 1));
  const value = draft.weights.get(bias);
  if (!value) return draft.emit("Reshape", [bias, draft.constant("shape", int64(shape))], {}, 1, `${bias}_column`);
  return draft.constant(
    `${bias}_column`,
    float32(
      shape.map((dim) => (dim < 0 ? value.size : dim)),
      toFloat32(value),
    ),
  );
}
