import { edit } from "../graph/edit.ts";
import type { Graph } from "../graph/graph.ts";
import { type ObservedType, observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { int64, toFloat32, toNumbers } from "../tensor/tensor.ts";
import type { AxisOf } from "./moments.ts";

/** Means and covariances of the indices of an axis, over all positions of the other axes. */
export interface Covariance {
  readonly mean: Float64Array;
  /** [n, n] */
  readonly covariance: Float64Array;
}

interface Sums {
  positions: number;
  readonly mean: Float64Array;
  readonly products: Float64Array;
}

/**
 * Means and covariances along axes of values, over a stream of feeds, computed by nodes added to the graph. Absent where
 * they are not finite.
 *
 * @param types of the graph's values: their ranks and the sizes of the axes have to hold for all feeds
 */
export async function axisCovariances(
  graph: Graph,
  runtime: Runtime,
  axes: readonly AxisOf[],
  types: ReadonlyMap<string, ObservedType>,
  stream: AsyncIterable<Tensors>,
  signal: AbortSignal,
): Promise<(of: AxisOf) => Covariance | undefined> {
  const key = ({ name, axis }: AxisOf): string => `${axis} ${name}`;
  const wanted = new Map(axes.map((of) => [key(of), of]));
  const found = new Map<string, Sums>();
  if (wanted.size === 0) return () => undefined;
  const parts = new Map<string, { of: string; part: "count" | "mean" | "products" }>();
  const probe = edit(graph, (draft) => {
    for (const [of, { name, axis }] of wanted) {
      const { shape, dtype } = types.get(name)!;
      const op = (operator: string, inputs: readonly string[], attributes = {}): string =>
        draft.emit(operator, inputs, attributes, 1, "covariance");
      const perm = [axis, ...[...shape.keys()].filter((other) => other !== axis)];
      const x = dtype === "float32" ? name : op("Cast", [name], { to: 1 });
      const rows = op("Reshape", [
        op("Transpose", [x], { perm }),
        draft.constant("shape", int64([1, shape[axis]!, -1])),
      ]);
      const columns = op("Transpose", [rows], { perm: [0, 2, 1] });
      parts.set(op("Size", [name]), { of, part: "count" });
      // of operators that take the mean over positions this one is the same in all versions
      parts.set(op("GlobalAveragePool", [rows]), { of, part: "mean" });
      parts.set(op("MatMul", [rows, columns]), { of, part: "products" });
    }
  });
  let positions = 0;
  const visit = (name: string, value: Parameters<typeof toFloat32>[0]): void => {
    const { of, part } = parts.get(name)!;
    const size = types.get(wanted.get(of)!.name)!.shape[wanted.get(of)!.axis]!;
    const sums = found.get(of) ?? {
      positions: 0,
      mean: new Float64Array(size),
      products: new Float64Array(size * size),
    };
    found.set(of, sums);
    if (part === "count") {
      positions = toNumbers(value)[0]! / size;
      sums.positions += positions;
      return;
    }
    const data = toFloat32(value);
    if (part === "products") for (let i = 0; i < data.length; i++) sums.products[i]! += data[i]!;
    else for (let i = 0; i < data.length; i++) sums.mean[i]! += data[i]! * positions;
  };
  // the three parts of an axis belong together: chunks of names never come between them
  await observeValues(probe, runtime, [...parts.keys()], stream, visit, { signal, budget: Number.POSITIVE_INFINITY });
  return (of) => {
    const sums = found.get(key(of));
    if (!sums?.products.every(Number.isFinite)) return undefined;
    const mean = sums.mean.map((v) => v / sums.positions);
    const n = mean.length;
    const covariance = sums.products.map((v, at) => v / sums.positions - mean[Math.floor(at / n)]! * mean[at % n]!);
    return { mean, covariance };
  };
}
