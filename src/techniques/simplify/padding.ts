import { edit } from "../../graph/edit.ts";
import { floatAttribute, type Graph, intsAttribute, isNode, type Node, stringAttribute } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { toNumbers } from "../../tensor/tensor.ts";
import { constant, type Facts, type Pass } from "./pass.ts";

/** `Pad (zeros, behind the channels) -> Conv` => Conv with more padding; exports from TensorFlow pad by nodes. */
export const foldPadding: Pass = {
  name: "fold-padding",
  summary: "Padding with zeros moves into the convolution behind it.",
  run(graph, facts) {
    const { producer } = links(graph);
    const found = graph.nodes.flatMap((node) => {
      const before = isNode(node, "Conv") ? producer.get(node.inputs[0]!) : undefined;
      if (!before || !isNode(before, "Pad") || !facts.selected(node) || !facts.selected(before)) return [];
      const added = spatialZeros(graph, facts, before);
      const own = added && padsOf(node, added.length);
      return own ? [{ node, x: before.inputs[0]!, pads: own.map((n, i) => n + added[i]!) }] : [];
    });
    if (found.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { node, x, pads } of found) {
        const { auto_pad: _, ...attributes } = node.attributes;
        const inputs = [x, ...node.inputs.slice(1)];
        draft.replace(node, { ...node, inputs, attributes: { ...attributes, pads: { type: "ints", value: pads } } });
      }
    });
  },
};

/** A convolution's padding, all starts before all ends; undefined where it depends on the input's size. */
function padsOf(node: Node, length: number): readonly number[] | undefined {
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  if (auto === "NOTSET") return intsAttribute(node, "pads") ?? Array(length).fill(0);
  return auto === "VALID" ? Array(length).fill(0) : undefined;
}

/** What a Pad adds to the axes behind batch and channels; undefined where it does anything else. */
function spatialZeros(graph: Graph, facts: Facts, node: Node): readonly number[] | undefined {
  if (stringAttribute(node, "mode", "constant") !== "constant") return undefined;
  const pads = intsAttribute(node, "pads") ?? numbers(graph, node.inputs[1]);
  const value = node.inputs[2] ? numbers(graph, node.inputs[2])?.[0] : floatAttribute(node, "value", 0);
  const rank = node.inputs[3] ? facts.types.get(node.inputs[0]!)?.shape?.length : pads && pads.length / 2;
  const axes = node.inputs[3] ? numbers(graph, node.inputs[3]) : pads?.slice(pads.length / 2).map((_, axis) => axis);
  if (!pads || value !== 0 || rank === undefined || !axes) return undefined;
  const all: number[] = Array(2 * rank).fill(0);
  for (const [i, axis] of axes.entries()) {
    const at = axis < 0 ? axis + rank : axis;
    all[at] = pads[i]!;
    all[rank + at] = pads[axes.length + i]!;
  }
  const outside = [all[0], all[1], all[rank], all[rank + 1]];
  if (outside.some((n) => n !== 0) || all.some((n) => n < 0)) return undefined;
  return [...all.slice(2, rank), ...all.slice(rank + 2)];
}

function numbers(graph: Graph, name: string | undefined): number[] | undefined {
  const tensor = constant(graph, name);
  return tensor && toNumbers(tensor);
}
