import { PareError } from "../../errors.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import type { Context } from "../technique.ts";
import { prepared } from "./index.ts";
import { options as schema } from "./options.ts";
import { divideSamples } from "./samples.ts";
import { restrict, setUp, write } from "./setup.ts";

/**
 * A graph with only some of its layers on integers, for one choice of layers after the other; calibrated once for all.
 * Undefined for choices of which nothing can be quantized; nothing at all where the graph can't be converted to the
 * operator set that the options need.
 *
 * @param settings options of quantize-static
 * @param choices names (or labels) of the nodes that are to be quantized
 * @throws PareError where there is no data, or the runtime refuses the model
 */
export async function* quantizedAlone(
  graph: Graph,
  settings: Readonly<Record<string, unknown>>,
  choices: readonly ReadonlySet<string>[],
  context: Context,
): AsyncGenerator<Graph | undefined> {
  const bound = schema.parse({ equalize: false, ...settings });
  const options = { ...bound, method: bound.method === "auto" ? ("percentile" as const) : bound.method };
  const float = await prepared(graph, options, context).catch((error: unknown) => {
    if (context.signal.aborted || !(error instanceof PareError)) throw error;
    for (const name of choices.flatMap((names) => [...names])) context.skip(name, error.message);
  });
  if (!float) return;
  const setup = await setUp(float, await divideSamples(float, options.samples, 0, context), options, context);
  const writing = { method: options.method, corrected: options.biasCorrection };
  for (const names of choices) {
    const only = [...setup.plan.compute].filter((node) => names.has(nodeLabel(node)));
    yield only.length === 0 ? undefined : write(setup, restrict(setup, new Set(only)), writing);
  }
}
