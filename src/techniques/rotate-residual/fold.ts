import { edit } from "../../graph/edit.ts";
import { type Graph, isNode, type Node, opKey } from "../../graph/graph.ts";
import { links, soleConsumer } from "../../graph/walk.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { normalizations, type Source, scalableChannels } from "../channel-scaling/places.ts";
import { type Scaling, scaleChannels } from "../channel-scaling/scale.ts";
import type { Types } from "./stream.ts";

/** The least magnitude of a normalization's scale, relative to the largest, that is moved into what reads it. */
const leastScale = 1e-4;

/** Moves the scales of normalizations into the matrices that read them where those can take them; no result changes. */
export function withScalesMoved(graph: Graph, types: Types): Graph {
  const { found } = scalableChannels(graph, types, () => true);
  const scalings = found.flatMap((at): Scaling[] => {
    const source = at.sources.find(multiplies);
    const scale = source && graph.weights.get(source.name);
    if (!scale || scale.size !== at.channels) return [];
    const scales = Float64Array.from(toFloat32(scale));
    const most = scales.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const uniform = scales.every((s) => s === scales[0]);
    const movable = (s: number): boolean => Math.abs(s) > leastScale * most && !(source.positive && s < 0);
    return uniform || !scales.every(movable) ? [] : [{ at, scales }];
  });
  return scaleChannels(graph, scalings);
}

function multiplies({ node, input }: Source): boolean {
  return isNode(node, "Mul") || normalizations[opKey(node)]?.[0] === input;
}

/** The graph with a table of its own for every product that shares one with a lookup. */
export function withOwnTables(graph: Graph): Graph {
  const { consumers, producer } = links(graph);
  const table = (name: string): string => {
    const before = producer.get(name);
    return before && isNode(before, "Transpose") ? before.inputs[0]! : name;
  };
  const looked = (name: string): boolean => (consumers.get(name) ?? []).some((node) => isNode(node, "Gather"));
  const sharing = graph.nodes.filter(
    (node) =>
      (isNode(node, "MatMul") || isNode(node, "Gemm")) &&
      graph.weights.has(table(node.inputs[1]!)) &&
      looked(table(node.inputs[1]!)),
  );
  if (sharing.length === 0) return graph;
  return edit(graph, (draft) => {
    for (const node of sharing) {
      const name = table(node.inputs[1]!);
      const own = draft.constant(`${name}_output`, graph.weights.get(name)!);
      const read = (from: Node): Node => ({
        ...from,
        inputs: from.inputs.map((input) => (input === name ? own : input)),
      });
      const between = producer.get(node.inputs[1]!);
      if (!between) draft.replace(node, read(node));
      else if (soleConsumer(graph, between.outputs[0]!) === node) draft.replace(between, read(between));
      else {
        const turned = draft.fresh(between.outputs[0]!);
        draft.add({ ...read(between), name: draft.fresh(between.name || "Transpose"), outputs: [turned] });
        draft.replace(node, { ...node, inputs: [node.inputs[0]!, turned, ...node.inputs.slice(2)] });
      }
    }
  });
}
