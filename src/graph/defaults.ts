import { edit } from "./edit.ts";
import type { Graph } from "./graph.ts";

/**
 * The graph with its weights as plain constants: inputs that have a default weight stop being inputs, which IR version 4
 * made possible (onnx, docs/IR.md). Before version 4 every weight had to be listed so, overridable or not. The same
 * object where there are none.
 */
export function withoutDefaultInputs(graph: Graph): Graph {
  if (!graph.inputs.some(({ name }) => graph.weights.has(name))) return graph;
  return edit(graph, (draft) => {
    draft.inputs = draft.inputs.filter(({ name }) => !graph.weights.has(name));
    draft.irVersion = Math.max(4, graph.irVersion);
  });
}
