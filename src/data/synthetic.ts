import { fail } from "../errors.ts";
import type { Graph, Value } from "../graph/graph.ts";
import type { Tensors } from "../platform/runtime.ts";
import type { Random } from "../random.ts";
import { dtypes } from "../tensor/dtype.ts";
import { floatToHalf } from "../tensor/half.ts";
import { sizeOf, stringTensor, type Tensor, tensor } from "../tensor/tensor.ts";

/** Sizes for {@link syntheticFeeds}. */
export interface SyntheticOptions {
  /** Size of a free first dimension; 1 by default. */
  readonly batch?: number;
  /** Sizes of named free dimensions. */
  readonly dims?: Readonly<Record<string, number>>;
}

/** The inputs a caller must feed: those without a default weight. */
export function requiredInputs(graph: Graph): readonly Value[] {
  return graph.inputs.filter(({ name }) => !graph.weights.has(name) && !graph.sparse.has(name));
}

/**
 * Plausible feeds for a model without data: floats uniform in [0, 1), integers 0 or 1 (valid ids, masks and flags
 * nearly everywhere), free dimensions 1 unless given. Good for shapes, times and loading checks, never for accuracy.
 *
 * @throws PareError for an input that is not a tensor, or whose rank is unknown
 */
export function syntheticFeeds(graph: Graph, random: Random, options: SyntheticOptions = {}): Tensors {
  return Object.fromEntries(
    requiredInputs(graph).map((input) => [input.name, syntheticTensor(input, random, options)]),
  );
}

function syntheticTensor({ name, type }: Value, random: Random, options: SyntheticOptions): Tensor {
  if (type?.kind !== "tensor" || !type.shape) {
    return fail(`input '${name}'`, "its type does not say what to feed", "Give data for it");
  }
  const shape = type.shape.map((dim, axis) => {
    if (typeof dim === "number" && dim > 0) return dim;
    if (typeof dim === "string" && options.dims?.[dim] !== undefined) return options.dims[dim];
    return axis === 0 ? (options.batch ?? 1) : 1;
  });
  const size = sizeOf(shape, `input '${name}'`);
  if (size > 2 ** 30)
    fail(`input '${name}'`, `shape [${shape.join(", ")}] is too large to make up`, "Give data for it");
  const { kind, bits } = dtypes[type.dtype];
  if (kind === "string")
    return stringTensor(
      shape,
      Array.from({ length: size }, () => ""),
    );
  if (kind === "complex") return fail(`input '${name}'`, `can't make up '${type.dtype}' data`, "Give data for it");
  const values = Float32Array.from({ length: size }, () => (kind === "float" ? random.next() : random.int(2)));
  if (type.dtype === "float16" || type.dtype === "bfloat16") {
    return tensor(type.dtype, shape, floatToHalf(values, type.dtype));
  }
  switch (kind === "float" ? `float${bits}` : bits) {
    case "float32":
      return tensor(type.dtype, shape, values);
    case "float64":
      return tensor(type.dtype, shape, Float64Array.from(values));
    case 8:
      return tensor(type.dtype, shape, Uint8Array.from(values));
    case 16:
      return tensor(type.dtype, shape, Uint16Array.from(values));
    case 32:
      return tensor(type.dtype, shape, Uint32Array.from(values));
    case 64:
      return tensor(type.dtype, shape, BigUint64Array.from(values, BigInt));
    default:
      return tensor(type.dtype, shape, new Uint8Array(Math.ceil((size * bits) / 8)));
  }
}
