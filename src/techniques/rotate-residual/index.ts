import { nodeLabel } from "../../graph/graph.ts";
import { withIrVersion } from "../../ops/convert.ts";
import { observeTypes } from "../../platform/observe.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { sampleFeeds } from "../sample-feeds.ts";
import { technique } from "../technique.ts";
import { withOwnTables, withScalesMoved } from "./fold.ts";
import { rotateResidualOptions } from "./options.ts";
import { rotateStreams } from "./rotate.ts";
import { residualStreams } from "./stream.ts";

/**
 * Rotates the residual stream of transformers by a random orthogonal matrix, which spreads outliers of activations and
 * weights over all channels before they are quantized; what the model computes stays the same.
 *
 *     x + f(norm(x) g W),  f = ... V   =>   x R + f(norm(x R) Rᵀ g W),  f = ... V R
 *
 * Scales of normalizations go into the matrices that read them first. Root mean squares do not change under R; for layer
 * normalization R is chosen to keep the mean too (R 1 = 1), so that it stays as it is, where others take the mean out of
 * the weights. Whether a graph's nodes commute with R is shown node by node (rules.ts), however normalizations are
 * spelled; one that does not leaves its stream alone.
 * QuaRot: Ashkboos et al. 2024; SliceGPT (scales into matrices): Ashkboos et al. 2024.
 */
export const rotateResidual = technique({
  name: "rotate-residual",
  summary: "Spread outliers of a transformer's residual stream over its channels by a rotation; changes no result.",
  options: rotateResidualOptions,
  data: "optional",
  async apply(input, options, context) {
    const hoisted = withIrVersion(hoistConstants(input, 1), 4);
    const own = options.tied === "copy" ? withOwnTables(hoisted) : hoisted;
    const feeds = await sampleFeeds(own, context, "rotate-residual");
    const types = await observeTypes(own, context.runtime, feeds);
    const graph = withScalesMoved(own, types);
    const { streams, refused } = residualStreams(graph, types);
    for (const { node, reason } of refused) context.skip(nodeLabel(node), reason);
    if (streams.length === 0) return input;
    const sizes = streams.map(({ size }) => size).join(", ");
    context.log(`rotated ${streams.length === 1 ? "a stream" : `${streams.length} streams`} of ${sizes} channels`);
    return rotateStreams(graph, streams, types, context.random.fork("rotation"));
  },
});
