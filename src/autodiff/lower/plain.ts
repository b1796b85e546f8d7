import { edit } from "../../graph/edit.ts";
import { type Graph, makeNode, type Node, opKey } from "../../graph/graph.ts";
import { recorder, type Writer } from "../writer.ts";
import { batchNormalization, channelAffine, channelDot, channelSum } from "./channels.ts";
import { convInputGradient, convWeightGradient } from "./convolution.ts";
import { fakeQuantize } from "./fake-quantize.ts";
import { foldedBias } from "./folded-bias.ts";
import { maxPoolGradient } from "./pooling.ts";

/** Writes one of pare's own operators in others and gives the names of the results, the only one or all. */
export type Lowering = (g: Writer, node: Node) => string | readonly string[];

/**
 * pare's own operators, which gradients and training are written in, in terms of operators that every runtime has.
 * What they mean is fixed here; another layout may write them differently.
 */
export const plainLowerings: Readonly<Record<string, Lowering>> = {
  /** (x, γ, β, x - mean, variance): the last two are understood to come from x. */
  "pare:BatchNormalization": batchNormalization,
  /** (x) -> [C], Σ over all axes but 1. */
  "pare:ChannelSum": channelSum,
  /** (x, y) -> [C], Σ x y over all axes but 1. */
  "pare:ChannelDot": channelDot,
  /** (x, a [C], b [C], optional) -> a x + b along axis 1. */
  "pare:ChannelAffine": channelAffine,
  /** (dy, w) -> dx of a convolution. */
  "pare:ConvInputGradient": convInputGradient,
  /** (x, dy) -> dw of a convolution. */
  "pare:ConvWeightGradient": convWeightGradient,
  /** (x, y, dy, the winners' places, optional) -> dx of a max pool whose windows don't overlap. */
  "pare:MaxPoolGradient": maxPoolGradient,
  /** (x, scale, offset, optional) -> x on a grid of integers, and x / scale clipped to it: see fake-quantize.ts. */
  "pare:FakeQuantize": fakeQuantize,
  /** (γ, β, mean, variance, steps of the weight, step of what it reads, bias, optional) -> [C]: see folded-bias.ts. */
  "pare:FoldedBias": foldedBias,
};

/** The graph without operators of pare's own; itself where it has none. */
export function lowered(graph: Graph): Graph {
  if (!graph.nodes.some(({ domain }) => domain === "pare")) return graph;
  return edit(graph, (draft) => {
    // not as gradients are called: types observed of this graph are looked up by name while those are written
    const g = recorder(draft, "plain");
    for (const node of graph.nodes) {
      const lower = plainLowerings[opKey(node)];
      if (!lower) continue;
      g.nodes.length = 0;
      const results = [lower(g, node)].flat();
      draft.replace(node, ...named(g.nodes, results, node.outputs));
    }
  });
}

/** The nodes with the results under the names that their readers know. */
function named(nodes: readonly Node[], results: readonly string[], names: readonly string[]): readonly Node[] {
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  const renamed = new Map<string, string>();
  const copies: Node[] = [];
  for (const [i, name] of names.entries()) {
    const result = results[i]!;
    if (made.has(result) && !renamed.has(result)) renamed.set(result, name);
    else copies.push(makeNode("Identity", [renamed.get(result) ?? result], [name]));
  }
  const rename = (value: string): string => renamed.get(value) ?? value;
  return [
    ...nodes.map((node) => ({ ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) })),
    ...copies,
  ];
}
