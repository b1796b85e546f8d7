import type { Graph, Node } from "../graph/graph.ts";
import { consumersOf, links } from "../graph/walk.ts";

/** Operators that read an element of an input for the last time before they write that of the output. */
const elementwise = new Set(["Add", "Div", "Mul", "Sub", "Where"]);

/** Operators whose output the runtime may let lie where their input does. */
const views = new Set(["Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"]);

/**
 * Whether a graph's output may be written into the memory of one of its inputs: whatever reads the input leads to the node
 * that makes the output, so that the runtime has run it before, in whatever order it runs the graph.
 */
export function canOverwrite(graph: Graph, input: string, output: string): boolean {
  const writer = links(graph).producer.get(output);
  if (!writer) return false;
  const readers = (value: string): readonly Node[] =>
    consumersOf(graph, value).flatMap((node) => (views.has(node.op) ? [node, ...readers(node.outputs[0]!)] : [node]));
  return readers(input).every((node) => (node === writer ? elementwise.has(node.op) : leadsTo(graph, node, writer)));
}

function leadsTo(graph: Graph, from: Node, to: Node): boolean {
  const seen = new Set([from]);
  for (const node of seen) {
    if (node === to) return true;
    for (const output of node.outputs) for (const next of consumersOf(graph, output)) seen.add(next);
  }
  return false;
}
