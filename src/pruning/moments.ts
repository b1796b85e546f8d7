import type { Graph } from "../graph/graph.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { sizeOf, toFloat32 } from "../tensor/tensor.ts";

/** An axis of a value. */
export interface AxisOf {
  readonly name: string;
  readonly axis: number;
}

/** Sums over everything but one axis, an entry for each of its indices. */
export interface Moments {
  /** Numbers summed for each index. */
  count: number;
  readonly sum: Float64Array;
  readonly absolute: Float64Array;
  readonly squares: Float64Array;
}

/**
 * Sums of values, of their magnitudes and of their squares along axes, over a stream of feeds. Values whose sums are not
 * finite (masks with infinities) are absent, and so are axes whose size changes between feeds.
 */
export async function axisMoments(
  graph: Graph,
  runtime: Runtime,
  axes: readonly AxisOf[],
  stream: AsyncIterable<Tensors>,
  signal: AbortSignal,
): Promise<(of: AxisOf) => Moments | undefined> {
  const key = ({ name, axis }: AxisOf): string => `${axis} ${name}`;
  const wanted = new Map<string, Set<number>>();
  for (const { name, axis } of axes) wanted.set(name, (wanted.get(name) ?? new Set()).add(axis));
  const found = new Map<string, Moments>();
  if (wanted.size === 0) return () => undefined;
  const odd = new Set<string>();
  const visit = (name: string, value: Parameters<typeof toFloat32>[0]): void => {
    for (const axis of wanted.get(name)!) {
      const at = key({ name, axis });
      const size = value.shape[axis]!;
      const moments = found.get(at) ?? newMoments(size);
      if (moments.sum.length === size) add(moments, toFloat32(value), sizeOf(value.shape.slice(axis + 1)));
      else odd.add(at);
      found.set(at, moments);
    }
  };
  await observeValues(graph, runtime, [...wanted.keys()], stream, visit, { signal });
  return (of) => {
    const moments = found.get(key(of));
    return !odd.has(key(of)) && moments?.squares.every(Number.isFinite) ? moments : undefined;
  };
}

function newMoments(size: number): Moments {
  const zeros = (): Float64Array => new Float64Array(size);
  return { count: 0, sum: zeros(), absolute: zeros(), squares: zeros() };
}

function add(moments: Moments, values: Float32Array, inner: number): void {
  const { sum, absolute, squares } = moments;
  const size = sum.length;
  moments.count += values.length / size;
  for (let at = 0; at < values.length; ) {
    for (let i = 0; i < size; i++) {
      let [s, a, q] = [0, 0, 0];
      for (const end = at + inner; at < end; at++) {
        const v = values[at]!;
        s += v;
        a += Math.abs(v);
        q += v * v;
      }
      sum[i]! += s;
      absolute[i]! += a;
      squares[i]! += q;
    }
  }
}
