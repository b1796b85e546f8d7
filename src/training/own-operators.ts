import { lowered } from "../autodiff/lower/plain.ts";
import type { Graph } from "../graph/graph.ts";
import { valueNames } from "../graph/walk.ts";
import { type ObservedType, observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";

const known = new WeakMap<Runtime, Runtime>();

/**
 * A runtime that knows pare's own operators: they are written out in ONNX's before a graph is loaded, so that models with
 * fake quantization in them are observed, trained and scored as any other.
 */
export function withOwnOperators(runtime: Runtime): Runtime {
  const made: Runtime = known.get(runtime) ?? {
    ...runtime,
    open: (model, options) => runtime.open(model instanceof Uint8Array ? model : lowered(model), options),
  };
  known.set(runtime, made);
  return made;
}

/**
 * Types and shapes of a graph's own values, as {@link observeTypes} finds them; of none that pare's operators are written
 * out in, since written out again their names stand for other values.
 *
 * @throws PareError where the runtime refuses the model or the feeds
 */
export async function observeOwnTypes(
  graph: Graph,
  runtime: Runtime,
  feeds: Tensors,
): Promise<ReadonlyMap<string, ObservedType>> {
  const plain = lowered(graph);
  const types = await observeTypes(plain, runtime, feeds);
  if (plain === graph) return types;
  const own = valueNames(graph);
  return new Map([...types].filter(([name]) => own.has(name)));
}
