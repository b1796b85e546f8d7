import { fail } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { toFloat32 } from "../tensor/tensor.ts";

/**
 * Stops a run whose loss is not a number, naming the first node of the step whose output is not finite.
 *
 * @param feeds everything the step was fed
 * @throws PareError always
 */
export async function lossNotFinite(
  step: Graph,
  runtime: Runtime,
  feeds: Tensors,
  at: number,
  loss: number,
): Promise<never> {
  const node = await firstBad(step, runtime, feeds);
  const where = node ? `; the first value that is not finite comes from '${node}'` : "";
  return fail(
    "train",
    `the loss is ${loss} at step ${at}${where}`,
    "Lower the rate, clip the gradients, or check the data",
  );
}

async function firstBad(graph: Graph, runtime: Runtime, feeds: Tensors): Promise<string | undefined> {
  const bad = new Set<string>();
  const names = graph.nodes.flatMap((node) => node.outputs.filter((name) => name !== ""));
  await observeValues(graph, runtime, names, [feeds], (name, value) => {
    if (value.dtype === "float32" && !toFloat32(value).every(Number.isFinite)) bad.add(name);
  });
  const node = graph.nodes.find(({ outputs }) => outputs.some((name) => bad.has(name)));
  return node?.name;
}
