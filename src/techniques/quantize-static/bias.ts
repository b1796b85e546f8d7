import type { Calibration } from "../../analysis/calibrate.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { channelsRead } from "./input-channels.ts";
import { type Weight, weightOf } from "./rules.ts";

/**
 * What rounding a weight takes from the mean of each output channel: sum over inputs of (W - W') E[x], to be added to
 * the bias (Nagel et al. 2019, section 4.2). Positions where a kernel reaches into the padding count as full.
 * Undefined where the input's means are not known, and for products that have no bias.
 *
 * @param integers W' as integers, and the numbers they stand for, in the weight's layout
 */
export function biasCorrection(
  node: Node,
  graph: Graph,
  integers: { readonly values: Tensor; readonly rounded: () => Float32Array },
  calibration: Calibration,
): Float64Array | undefined {
  const means = channelsRead(node, calibration)?.mean;
  const weight = weightOf(node, graph);
  if (!means || !weight || node.op === "MatMul") return undefined;
  const perWeight = shifts.get(calibration) ?? new WeakMap<Tensor, Map<Node, Float64Array>>();
  shifts.set(calibration, perWeight);
  const known = perWeight.get(integers.values) ?? new Map<Node, Float64Array>();
  perWeight.set(integers.values, known);
  const shift = known.get(node) ?? meanLoss(node, weight, integers.rounded(), means);
  known.set(node, shift);
  return shift;
}

const shifts = new WeakMap<Calibration, WeakMap<Tensor, Map<Node, Float64Array>>>();

function meanLoss(node: Node, weight: Weight, rounded: Float32Array, means: Float64Array): Float64Array {
  const { shape } = weight.tensor;
  const lost = Float32Array.from(toFloat32(weight.tensor));
  for (let i = 0; i < lost.length; i++) lost[i]! -= rounded[i]!;
  if (node.op === "Conv") return ofConvolution(shape, lost, means);
  const [outStride, inStride, outs] = weight.axis === 0 ? [shape[1]!, 1, shape[0]!] : [1, shape[1]!, shape[1]!];
  const shift = new Float64Array(outs);
  for (let o = 0; o < outs; o++) {
    let sum = 0;
    for (let k = 0; k < means.length; k++) sum += lost[o * outStride + k * inStride]! * means[k]!;
    shift[o] = sum;
  }
  return shift;
}

function ofConvolution(shape: readonly number[], lost: Float32Array, means: Float64Array): Float64Array {
  const [outs, perGroup] = [shape[0]!, shape[1]!];
  const taps = shape.slice(2).reduce((a, b) => a * b, 1);
  const groupOuts = outs / (means.length / perGroup);
  const shift = new Float64Array(outs);
  for (let o = 0, at = 0; o < outs; o++) {
    const from = Math.floor(o / groupOuts) * perGroup;
    let sum = 0;
    for (let i = 0; i < perGroup; i++) {
      let taken = 0;
      for (let k = 0; k < taps; k++) taken += lost[at++]!;
      sum += taken * means[from + i]!;
    }
    shift[o] = sum;
  }
  return shift;
}
