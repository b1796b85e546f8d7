import { edit } from "../../graph/edit.ts";
import { type Graph, makeNode, type Node, opKey } from "../../graph/graph.ts";
import { recorder, type Writer } from "../writer.ts";
import { batchNormalization, channelAffine, channelDot, channelSum } from "./channels.ts";
import { convInputGradient, convWeightGradient } from "./convolution.ts";
import { maxPoolGradient } from "./pooling.ts";

/** Writes one of pare's own operators in others and gives the name of the result. */
export type Lowering = (g: Writer, node: Node) => string;

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
};

/** The graph without operators of pare's own; itself where it has none. */
export function lowered(graph: Graph): Graph {
  if (!graph.nodes.some(({ domain }) => domain === "pare")) return graph;
  return edit(graph, (draft) => {
    const g = recorder(draft, "grad");
    for (const node of graph.nodes) {
      const lower = plainLowerings[opKey(node)];
      if (!lower) continue;
      g.nodes.length = 0;
      const result = lower(g, node);
      draft.replace(node, ...named(g.nodes, result, node.outputs[0]!));
    }
  });
}

/** The nodes with the result under the name that its readers know. */
function named(nodes: readonly Node[], result: string, name: string): readonly Node[] {
  if (!nodes.some(({ outputs }) => outputs.includes(result))) return [...nodes, makeNode("Identity", [result], [name])];
  const rename = (value: string): string => (value === result ? name : value);
  return nodes.map((node) => ({ ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) }));
}
