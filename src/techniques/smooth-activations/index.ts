import { feedsOf } from "../../data/feeds.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { observeTypes, observeValues } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import { productReader, type ScalableChannels, scalableChannels } from "../channel-scaling/places.ts";
import { type Scaling, scaleChannels } from "../channel-scaling/scale.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { selector } from "../selection.ts";
import { type Context, technique } from "../technique.ts";
import { Channels } from "./channels.ts";
import { type SmoothActivationsOptions, smoothActivationsOptions } from "./options.ts";
import { chooseScales, readerRows } from "./search.ts";

/**
 * Moves the outliers of activations into the weights that read them, so that 8 bits hold both; what the model computes
 * stays the same. To be followed by quantize-static or quantize-dynamic.
 *
 *     norm(x) g -> W   =>   norm(x) (g / s) -> s W,   s_j = max|X_j|^a / max|W_j|^(1-a)
 *
 * What makes the channels takes 1 / s up: the scale of a normalization, or the layer before. All products that read the same
 * share s. The exponent a is the same for all, or chosen for each by the error of the products in 8 bits.
 * SmoothQuant: Xiao et al. 2023.
 */
export const smoothActivations = technique({
  name: "smooth-activations",
  summary: "Move outliers of activations into the weights before 8-bit quantization; changes no result.",
  options: smoothActivationsOptions,
  data: "required",
  identity: { exclude: ["*"] },
  applies: (node, graph) => productReader(graph, node) !== undefined || "it does not multiply with a constant matrix",
  async apply(input, options, context) {
    const graph = hoistConstants(input, 1);
    const stream = feedsOf(calibrationBatches(graph, context, options.samples, 1, "smooth-activations"));
    const types = await observeTypes(graph, context.runtime, await first(stream));
    const { found, refused } = scalableChannels(graph, types, selector(options));
    for (const { node, reason } of refused) context.skip(nodeLabel(node), reason);
    const seen = await observed(graph, found, stream, options, context);
    const scalings = found.flatMap((at): Scaling[] => {
      const scales = chooseScales(seen.get(at)!, readerRows(graph, at), options.alpha);
      return scales ? [{ at, scales }] : [];
    });
    context.log(
      `smoothed the inputs of ${scalings.length} of ${found.length} layers or groups of layers that read the same`,
    );
    return scalings.length > 0 ? scaleChannels(graph, scalings) : input;
  },
});

async function first(stream: AsyncIterable<Tensors>): Promise<Tensors> {
  for await (const feeds of stream) return feeds;
  return {};
}

/** What the data makes of the channels. */
async function observed(
  graph: Graph,
  found: readonly ScalableChannels[],
  stream: AsyncIterable<Tensors>,
  { samples }: SmoothActivationsOptions,
  { runtime, signal }: Context,
): Promise<ReadonlyMap<ScalableChannels, Channels>> {
  const seen = new Map(found.map((at) => [at, new Channels(at.channels, samples)]));
  const byName = new Map(found.map((at) => [at.readers[0]!.node.inputs[0]!, seen.get(at)!]));
  const visit = (name: string, value: Parameters<Channels["add"]>[0]): void => byName.get(name)!.add(value);
  if (byName.size > 0) await observeValues(graph, runtime, [...byName.keys()], stream, visit, { signal });
  return seen;
}
