import { edit } from "../../graph/edit.ts";
import { type Graph, isNode, type Node } from "../../graph/graph.ts";
import { links, soleConsumer } from "../../graph/walk.ts";
import { type Affine, affineOf, compose, isScalingOnly } from "./affine.ts";
import { constant, type Facts, type Pass } from "./pass.ts";
import { type Linear, linearOf, scaledInputs, scaledOutputs } from "./weights.ts";

/**
 * `Conv | ConvTranspose | Gemm | MatMul -> (BatchNormalization | Mul | Div | Add | Sub by constants per channel)*` =>
 * the first with other weights: W' = s W, b' = s b + t, where for BatchNormalization s = gamma / sqrt(variance +
 * epsilon) and t = beta - s mean. MatMul has no bias: what is left over is one Add behind it.
 * (Jacob et al. 2018, section 3.2.)
 */
export const foldFollowing: Pass = {
  name: "fold-following",
  summary: "Batch normalization and constant factors and offsets move into the linear operator before them.",
  run(graph, facts) {
    const used = new Set<Node>();
    const found = graph.nodes.flatMap((node) => {
      if (used.has(node) || !facts.selected(node)) return [];
      const linear = linearOf(graph, node);
      const chain = linear ? followers(graph, facts, linear) : [];
      if (!linear || chain.length === 0 || !owned(graph, facts, linear)) return [];
      const affine = chain.map(({ affine }) => affine).reduce(compose);
      if (node.op === "MatMul" && chain.length === 1 && isScalingOnly(affine) === "none") return [];
      const change = scaledOutputs(graph, linear, affine);
      if (typeof change === "string") {
        facts.skip(chain[0]!.node, change);
        return [];
      }
      for (const { node: follower } of chain) used.add(follower);
      return [{ linear, chain: chain.map(({ node: follower }) => follower), change }];
    });
    if (found.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { linear, chain, change } of found) change(draft, linear.node, chain);
    });
  },
};

interface Follower {
  readonly node: Node;
  readonly affine: Affine;
}

function followers(graph: Graph, facts: Facts, linear: Linear): Follower[] {
  const chain: Follower[] = [];
  for (let value = linear.node.outputs[0]!; ; ) {
    const node = soleConsumer(graph, value);
    if (!node || !facts.selected(node)) return chain;
    const rank = rankOf(facts, value, linear);
    if (rank === undefined) return chain;
    const affine = affineOf(graph, node, value, { channels: linear.channels, rank, axis: linear.axis(rank) });
    if (!affine) return chain;
    chain.push({ node, affine });
    value = node.outputs[0]!;
  }
}

/** Rank of a value beside a linear node: where unknown, as its weight tells; that of MatMul does not. */
function rankOf(facts: Facts, value: string, { node, rank }: Linear): number | undefined {
  return facts.types.get(value)?.shape?.length ?? (node.op === "MatMul" ? undefined : rank);
}

/** Whether the node's weights are its own: changing shared ones would need a copy. */
function owned(graph: Graph, facts: Facts, linear: Linear): boolean {
  const names = linear.node.inputs.slice(1).filter((name) => name !== "");
  const shared = names.find(
    (name, i) => i === 0 && ((links(graph).consumers.get(name)?.length ?? 0) > 1 || facts.foreign.has(name)),
  );
  if (shared !== undefined) facts.skip(linear.node, `its weight '${shared}' is used elsewhere too`);
  return shared === undefined && !links(graph).outputs.has(names[0]!);
}

/**
 * `BatchNormalization -> Conv (without padding) | Gemm | MatMul` => the second with other weights:
 * W'[o, c] = W[o, c] s[c], b' = b + sum over c of W[o, c] t[c]. With padding only where t = 0, since padding is added
 * behind the normalization.
 */
export const foldPreceding: Pass = {
  name: "fold-preceding",
  summary: "Batch normalization moves into the linear operator behind it.",
  run(graph, facts) {
    const { producer, outputs } = links(graph);
    const found = graph.nodes.flatMap((node) => {
      const before = producer.get(node.inputs[0] ?? "");
      if (!before || !isNode(before, "BatchNormalization") || outputs.has(before.outputs[0]!)) return [];
      if (!facts.selected(node) || !facts.selected(before) || !soleConsumer(graph, before.outputs[0]!)) return [];
      const linear = linearOf(graph, node);
      const channels = constant(graph, before.inputs[1])?.size ?? 0;
      const rank = linear && rankOf(facts, before.inputs[0]!, linear);
      if (!linear || rank === undefined) return [];
      const affine = affineOf(graph, before, before.inputs[0]!, { channels, rank, axis: 1 });
      if (!affine || !owned(graph, facts, linear)) return [];
      const change = scaledInputs(graph, linear, affine, rank);
      if (typeof change !== "string") return [{ node, before, change }];
      facts.skip(before, change);
      return [];
    });
    if (found.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { node, before, change } of found) change(draft, node, before);
    });
  },
};
