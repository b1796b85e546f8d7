import { lowered } from "../autodiff/lower/plain.ts";
import type { Runtime } from "../platform/runtime.ts";

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
