import type { Calibration } from "../../analysis/calibrate.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { convolutionPairs, type Pair } from "../equalization/pairs.ts";
import { rescaled, visitWeight } from "../equalization/rescale.ts";
import { channelsRead } from "./input-channels.ts";
import type { Plan } from "./plan.ts";
import { isDepthwise } from "./rules.ts";

/** Share of a Clip's bound that scaled channels may reach on the calibration data: unseen data reaches further. */
const margin = 0.5;

/** No channel is scaled by more than this: far beyond, a channel was nearly dead on the calibration data. */
const mostScale = 32;

/**
 * Cross-layer equalization (Nagel et al. 2019, section 4.1), with activation ranges measured: each channel between two
 * convolutions is multiplied by k and divided again, f(k x) = k f(x), so that all channels fill the range that they
 * share. Producer rows have a scale each, so k costs nothing there. In the consumers' rows k competes with the other
 * channels: k = sqrt((w / W) (R / r)), r and w a channel's largest activation and largest weight relative to its row, R
 * and W the largest over channels. A depthwise consumer has a scale for each channel: k = R / r. Under Clip only channels
 * that stay well below its bound are raised, and no further than that they still do.
 * Undefined where there is nothing to equalize.
 */
export function equalize(graph: Graph, plan: Plan, calibration: Calibration): Graph | undefined {
  const { pairs } = convolutionPairs(graph, (node) => plan.compute.has(node));
  const scales = new Map(
    pairs.flatMap((pair): [Pair, Float64Array][] => {
      const own = channelScales(pair, graph, calibration);
      return own ? [[pair, own]] : [];
    }),
  );
  return scales.size > 0 ? rescaled(graph, scales) : undefined;
}

function channelScales({ consumers, clips }: Pair, graph: Graph, calibration: Calibration): Float64Array | undefined {
  const bound = Math.min(...clips.values());
  const first = channelsRead(consumers[0]!, calibration)?.absMax;
  if (!first) return undefined;
  const reach = Float64Array.from(first);
  for (const node of consumers.slice(1)) {
    const absMax = channelsRead(node, calibration)?.absMax;
    if (absMax?.length !== reach.length) return undefined;
    for (const [c, r] of absMax.entries()) reach[c] = Math.max(reach[c]!, r);
  }
  const largest = reach.reduce((a, b) => Math.max(a, b), 0);
  const free = consumers.every((node) => isDepthwise(node, graph));
  const share = free ? undefined : weightShare(consumers, graph, reach.length);
  return reach.map((r, c) => {
    if (r === 0 || r > 0.99 * bound) return 1;
    const k = share ? Math.sqrt((share[c]! * largest) / r) : largest / r;
    const limited = Math.min(mostScale, Math.max(1 / mostScale, k));
    return Number.isFinite(bound) ? Math.max(1, Math.min(limited, (margin * bound) / r)) : limited;
  });
}

/** Largest weight of each input channel relative to the largest of its row, over all rows; the largest share is 1. */
function weightShare(consumers: readonly Node[], graph: Graph, channels: number): Float64Array {
  const share = new Float64Array(channels);
  for (const node of consumers) {
    const weight = graph.weights.get(node.inputs[1]!)!;
    const values = toFloat32(weight);
    const largest = new Float64Array(weight.shape[0]!).fill(Number.MIN_VALUE);
    visitWeight(node, weight, (at, o) => {
      largest[o] = Math.max(largest[o]!, Math.abs(values[at]!));
    });
    visitWeight(node, weight, (at, o, i) => {
      share[i] = Math.max(share[i]!, Math.abs(values[at]!) / largest[o]!);
    });
  }
  return share;
}
