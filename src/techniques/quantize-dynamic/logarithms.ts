import type { Graph, Node } from "../../graph/graph.ts";
import { consumersOf } from "../../graph/walk.ts";

/** Operators that carry quantities on as they are: sums, products, powers, moves of elements. */
const carries = new Set(
  (
    "Abs Add Cast Clip Concat Flatten Gather Gemm Identity MatMul Max Mul Pow ReduceMean ReduceSum ReduceSumSquare " +
    "Reshape Slice Sqrt Squeeze Sum Transpose Unsqueeze"
  ).split(" "),
);

/** Steps to look ahead: a power spectrum and its filter bank take about ten. */
const horizon = 16;

/**
 * Whether a node's result is taken the logarithm of, with only sums, products and powers between, as in the spectrogram in
 * front of an audio model. Integers have an absolute error there, a share of the largest element; the logarithm asks for a
 * relative one, and what is quiet drowns.
 */
export function feedsLogarithm(graph: Graph, node: Node): boolean {
  const seen = new Set<Node>();
  let front: readonly Node[] = [node];
  for (let step = 0; step < horizon && front.length > 0; step++) {
    const next = new Set(front.flatMap(({ outputs }) => outputs.flatMap((name) => consumersOf(graph, name))));
    if ([...next].some(({ op, domain }) => op === "Log" && domain === "")) return true;
    front = [...next].filter((reader) => !seen.has(reader) && reader.domain === "" && carries.has(reader.op));
    for (const reader of front) seen.add(reader);
  }
  return false;
}
