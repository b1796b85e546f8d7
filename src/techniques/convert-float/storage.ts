import { edit } from "../../graph/edit.ts";
import { type Graph, type Node, nodeLabel } from "../../graph/graph.ts";
import { consumersOf } from "../../graph/walk.ts";
import type { DType } from "../../tensor/dtype.ts";
import { type Clamp, castTensor, type FloatType, largestHalf, magnitudes } from "./cast.ts";
import { castNode } from "./convert.ts";

/** Weights with fewer elements than this are not worth a node. */
const fewest = 1024;

/** What the storage form needs to know. */
export interface Storage {
  readonly from: ReadonlySet<DType>;
  readonly to: FloatType;
  readonly clamp?: Clamp;
  /** Weights of a graph around this one. */
  readonly foreign: ReadonlySet<string>;
  selected(node: Node): boolean;
  skip(node: string, reason: string): void;
}

/**
 * `weight w` => `weight w_float16 -> Cast -> w`: half the bytes in the file. The runtime computes the cast once while
 * loading, so that speed and memory are those of float32.
 */
export function storeConverted(graph: Graph, { from, to, clamp, foreign, selected, skip }: Storage): Graph {
  const border = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  const chosen = [...graph.weights].filter(([name, weight]) => {
    const readers = consumersOf(graph, name);
    if (!from.has(weight.dtype) || weight.size < fewest || readers.length === 0) return false;
    if (border.has(name) || foreign.has(name)) return false;
    const left = readers.find((node) => !selected(node));
    const { max, nan } = magnitudes(weight);
    const reason = left
      ? "excluded"
      : nan
        ? `its weight '${name}' holds values that are not numbers`
        : to === "float16" && max > largestHalf
          ? `its weight '${name}' reaches ${max}, beyond float16`
          : undefined;
    if (reason !== undefined) skip(nodeLabel(left ?? readers[0]!), reason);
    return reason === undefined;
  });
  if (chosen.length === 0) return graph;
  return edit(graph, (draft) => {
    for (const [name, weight] of chosen) {
      draft.weights.delete(name);
      const stored = draft.constant(`${name}_${to}`, castTensor(weight, to, clamp && { ...clamp, max: largestHalf }));
      draft.add(castNode(stored, name, weight.dtype));
    }
  });
}
