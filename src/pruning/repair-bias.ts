import { edit } from "../graph/edit.ts";
import { type Graph, intAttribute, makeNode, type Node } from "../graph/graph.ts";
import { consumersOf, links } from "../graph/walk.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, sizeOf, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import type { Couplings } from "./couplings.ts";
import { type Cuts, keptIndices } from "./cut.ts";
import { axisMoments } from "./moments.ts";
import { type Product, productsOf } from "./products.ts";
import { isFloat } from "./unit-weights.ts";

/**
 * Puts what cut channels gave on average into the biases of the layers that read them: b' = b + sum over the cut channels
 * of W E[x] (He et al. 2017, section 3; Nagel et al. 2019, section 4.2 for rounding). Where a kernel reaches into padding
 * that is too much; borders count as full.
 *
 * @param cut the graph that `cutUnits(found, cuts)` gave
 * @param stream calibration feeds of the graph before the cut
 * @returns the graph, and how many layers were changed
 */
export async function foldMeans(
  found: Couplings,
  cuts: Cuts,
  cut: Graph,
  stream: AsyncIterable<Tensors>,
  runtime: Runtime,
  signal: AbortSignal,
): Promise<{ readonly graph: Graph; readonly layers: number }> {
  const kept = keptIndices(found, cuts);
  const products = productsOf(found).filter(({ x, channels }) => kept.of(x, channels) !== undefined);
  const axes = products.map(({ x, channels }) => ({ name: x, axis: channels }));
  const momentsOf = await axisMoments(found.graph, runtime, axes, stream, signal);
  const { producer } = links(cut);
  const shifts = new Map<Node, Float32Array>();
  for (const product of products) {
    const node = producer.get(product.node.outputs[0]!);
    const moments = momentsOf({ name: product.x, axis: product.channels });
    const weight = found.structure.constantOf(product.weight)!;
    if (!node || !moments || !isFloat(weight.dtype)) continue;
    const cutChannels = new Uint8Array(moments.sum.length).fill(1);
    for (const i of kept.of(product.x, product.channels)!) cutChannels[i] = 0;
    const lost = moments.sum.map((sum, i) => (cutChannels[i] ? sum / moments.count : 0));
    const shift = throughWeight(product, weight, lost);
    const left = kept.of(product.node.outputs[0]!, product.outputs);
    shifts.set(
      node,
      Float32Array.from(left ?? shift.keys(), (o) => shift[o]!),
    );
  }
  const graph = edit(cut, (draft) => {
    for (const [node, shift] of shifts) {
      const weight = cut.weights.get(node.inputs[1]!)!;
      if (node.op === "MatMul") {
        const sum = draft.fresh(`${node.outputs[0]}_product`);
        const bias = draft.constant(`${node.outputs[0]}_bias`, asType(shift, [shift.length], weight.dtype));
        const product = { ...node, outputs: [sum] };
        draft.replace(node, product, makeNode("Add", [sum, bias], [node.outputs[0]!]));
        continue;
      }
      const bias = node.inputs[2] ? cut.weights.get(node.inputs[2]) : undefined;
      if (node.inputs[2] && (!bias || bias.size !== shift.length)) continue;
      const values = Float32Array.from(shift, (v, i) => v + (bias ? toFloat32(bias)[i]! : 0));
      const changed = asType(values, bias?.shape ?? [shift.length], weight.dtype);
      const own = bias && consumersOf(cut, node.inputs[2]!).length === 1;
      if (own) draft.weights.set(node.inputs[2]!, changed);
      else {
        const name = draft.constant(`${node.outputs[0]}_bias`, changed);
        draft.replace(node, { ...node, inputs: [node.inputs[0]!, node.inputs[1]!, name] });
      }
    }
  });
  return { graph, layers: shifts.size };
}

/** W x for one value of x a channel, summed over the taps of kernels. */
function throughWeight({ node, inputs }: Product, weight: Tensor, x: Float64Array): Float64Array {
  const values = toFloat32(weight);
  const { shape } = weight;
  const taps = sizeOf(shape.slice(2));
  const groups = node.op.startsWith("Conv") ? intAttribute(node, "group", 1) : 1;
  const [perGroup, outsPerGroup] =
    node.op === "ConvTranspose"
      ? [shape[0]! / groups, shape[1]!]
      : node.op === "Conv"
        ? [shape[1]!, shape[0]! / groups]
        : [shape[inputs]!, shape[1 - inputs]!];
  const y = new Float64Array(groups * outsPerGroup);
  for (let o = 0; o < y.length; o++) {
    const group = Math.floor(o / outsPerGroup);
    for (let i = 0; i < perGroup; i++) {
      const channel = group * perGroup + i;
      if (x[channel] === 0) continue;
      const start =
        node.op === "ConvTranspose"
          ? (channel * outsPerGroup + (o % outsPerGroup)) * taps
          : inputs === 1
            ? (o * perGroup + i) * taps
            : i * outsPerGroup + o;
      let sum = 0;
      for (let t = 0; t < taps; t++) sum += values[start + t]!;
      y[o]! += sum * x[channel]!;
    }
  }
  return y;
}

function asType(values: Float32Array, shape: readonly number[], dtype: Tensor["dtype"]): Tensor {
  if (dtype === "float16" || dtype === "bfloat16") return tensor(dtype, shape, floatToHalf(values, dtype));
  if (dtype === "float64") return tensor(dtype, shape, Float64Array.from(values));
  return float32(shape, values);
}
