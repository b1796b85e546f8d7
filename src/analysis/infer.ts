import type { Dim, Graph, Value } from "../graph/graph.ts";
import { intermediates, typeProbe } from "../platform/observe.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { DType } from "../tensor/dtype.ts";

/** Type of a value as far as it is proven: a free size by its name, null where nothing is known. */
export interface InferredType {
  readonly dtype: DType;
  /** Absent where the rank is unknown. */
  readonly shape?: readonly Dim[];
}

/**
 * Types and symbolic shapes of all tensors of the main graph, as the runtime's own shape inference proves them from the
 * inputs' types while loading: nothing runs and no large weight is read, so it costs milliseconds whatever the model's
 * size. What the file declares of intermediate values is not believed. A scalar and an unknown rank look the same to
 * the runtime; both come without shape.
 *
 * Cached by graph where no sizes are given.
 *
 * @param dims sizes for named free dimensions of the inputs
 * @throws PareError where the runtime refuses the model
 */
export async function inferTypes(
  graph: Graph,
  runtime: Runtime,
  dims: Readonly<Record<string, number>> = {},
): Promise<ReadonlyMap<string, InferredType>> {
  if (Object.keys(dims).length > 0) return proven(graph, runtime, dims);
  const found = typeCache.get(graph) ?? (await proven(graph, runtime, dims));
  typeCache.set(graph, found);
  return found;
}

const typeCache = new WeakMap<Graph, ReadonlyMap<string, InferredType>>();

async function proven(
  graph: Graph,
  runtime: Runtime,
  dims: Readonly<Record<string, number>>,
): Promise<ReadonlyMap<string, InferredType>> {
  const fixed = graph.inputs.map((input) => withDims(input, dims));
  const found = knownTypes({ ...graph, inputs: fixed });
  const names = [...new Set(intermediates(graph))];
  if (names.length === 0) return found;
  const session = await runtime.open(typeProbe({ ...graph, inputs: fixed }, names), { optimize: "disabled" });
  try {
    for (const { name, type } of session.outputs) {
      if (type?.kind !== "tensor") continue;
      found.set(name, { dtype: type.dtype, ...(type.shape && type.shape.length > 0 && { shape: type.shape }) });
    }
  } finally {
    await session.release();
  }
  return found;
}

/** The types of weights and inputs, which need no inference. */
export function knownTypes(graph: Graph): Map<string, InferredType> {
  const found = new Map<string, InferredType>();
  for (const { name, type } of graph.inputs) {
    if (type?.kind === "tensor") found.set(name, { dtype: type.dtype, ...(type.shape && { shape: type.shape }) });
  }
  for (const [name, { dtype, shape }] of graph.weights) found.set(name, { dtype, shape });
  return found;
}

/** A value with sizes for its named free dimensions filled in; the same object where nothing changes. */
export function withDims(value: Value, dims: Readonly<Record<string, number>>): Value {
  const { type } = value;
  if (type?.kind !== "tensor" || !type.shape?.some((dim) => typeof dim === "string" && Object.hasOwn(dims, dim))) {
    return value;
  }
  const shape = type.shape.map((dim) => (typeof dim === "string" ? (dims[dim] ?? dim) : dim));
  // the extra part may hold the old type in the file's own form
  const { extra: _, ...plain } = value;
  return { ...plain, type: { ...type, shape } };
}
