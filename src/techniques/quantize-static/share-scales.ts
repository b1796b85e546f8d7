import type { Range } from "../../analysis/ranges.ts";
import { type Graph, isNode, type Node } from "../../graph/graph.ts";
import { links, soleConsumer } from "../../graph/walk.ts";
import { boundsOf, intersection, unbounded } from "./bounds.ts";
import type { Plan } from "./plan.ts";
import { clampBounds } from "./rules.ts";

/**
 * Gives what a Concat alone reads the scale of its output: the runtime then copies bytes, which takes a fifth of the time
 * of converting them, and elements are rounded once instead of twice. A value that has a clamp left to the clipping of its
 * scale keeps its own, unless all that is joined lies within that clamp: only then does the output's range clip as well.
 *
 * @param values quantized values, each with the value whose scale it has; changed
 */
export function shareScales(
  graph: Graph,
  { integer, absorbed, fixed }: Pick<Plan, "integer" | "absorbed" | "fixed">,
  values: Map<string, string>,
): void {
  for (const concat of graph.nodes.toReversed()) {
    if (!isNode(concat, "Concat") || !integer.has(concat)) continue;
    let output = concat.outputs[0]!;
    while (!values.has(output)) output = soleConsumer(graph, output)!.outputs[0]!; // over absorbed clamps
    const shared = values.get(output)!;
    const [min, max] = boundsOf(graph).get(shared)!;
    for (const name of concat.inputs) {
      if (values.get(name) !== name || fixed.has(name) || soleConsumer(graph, name) !== concat) continue;
      const [least, most] = absorbedBounds(name, graph, absorbed);
      if (min >= least && max <= most) values.set(name, shared);
    }
  }
}

/** The bounds that absorbed clamps right before a value give it. */
function absorbedBounds(name: string, graph: Graph, absorbed: ReadonlySet<Node>): Range {
  const { producer } = links(graph);
  let bounds = unbounded;
  for (let maker = producer.get(name)!; absorbed.has(maker); maker = producer.get(maker.inputs[0]!)!) {
    bounds = intersection(bounds, clampBounds(maker, graph)!);
  }
  return bounds;
}
