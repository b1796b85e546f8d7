import type { Calibration, ChannelObservation } from "../../analysis/calibrate.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import type { ObservedType } from "../../platform/observe.ts";
import type { Plan } from "./plan.ts";
import { weightOf } from "./rules.ts";

/** Channel axis of what a compute node multiplies with its weight: nodes may read one value along different axes. */
function channelAxis(node: Node): number {
  return node.op === "Conv" ? 1 : -1;
}

/** The tensors whose channels' means and mean squares are of use: inputs of compute nodes, with their channel axes. */
export function inputChannels(
  graph: Graph,
  plan: Plan,
  types: ReadonlyMap<string, ObservedType>,
): ReadonlyMap<string, ReadonlySet<number>> {
  const axes = new Map<string, Set<number>>();
  for (const node of plan.compute) {
    const x = node.inputs[0]!;
    const rank = types.get(x)?.shape.length ?? 0;
    if (weightOf(node, graph) && rank > 0) axes.set(x, (axes.get(x) ?? new Set()).add(channelAxis(node)));
  }
  return axes;
}

/** What was seen of the channels that a compute node sums over; undefined where nothing was. */
export function channelsRead(node: Node, { tensors }: Calibration): ChannelObservation | undefined {
  return tensors.get(node.inputs[0]!)?.channels?.get(channelAxis(node));
}
