import type { Graph } from "../graph/graph.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import type { Constraint } from "./constraint.ts";

/** Weights whose elements share few values, and go on sharing them. */
export interface KeptClusters extends Constraint {
  /** How many values each weight has. */
  readonly clusters: ReadonlyMap<string, number>;
}

/** More values than a byte can number are no clusters. */
const mostClusters = 256;
/** A value must stand for so many elements on average. */
const leastShared = 8;

/**
 * Holds the elements of weights that share a value together: after every update each cluster takes the mean of its
 * members, so that it moves by the mean of their gradients. Zero stays zero, in the running average too.
 *
 * @param graph the model at its start, which says what belongs together: after a kill too
 */
export function keepClusters(graph: Graph): KeptClusters {
  const members = new Map<string, Members>();
  for (const [name, weight] of graph.weights) {
    if (weight.dtype !== "float32" || weight.shape.length < 2) continue;
    const found = membersOf(toFloat32(weight));
    if (found) members.set(name, found);
  }
  return {
    clusters: new Map([...members].map(([name, { count }]) => [name, count])),
    apply(_, weights) {
      for (const [name, found] of members) {
        const { value, average } = weights.get(name) ?? {};
        if (value) share(value, found);
        if (average) share(average, found);
      }
    },
  };
}

interface Members {
  /** Which cluster each element belongs to. */
  readonly of: Uint8Array;
  readonly count: number;
  /** The cluster of zeros, if there is one. */
  readonly zero: number | undefined;
}

function membersOf(values: Float32Array): Members | undefined {
  const numbers = new Map<number, number>();
  const of = new Uint8Array(values.length);
  const most = Math.min(mostClusters, Math.floor(values.length / leastShared));
  for (const [i, value] of values.entries()) {
    // a Map takes both zeros for one
    const number = numbers.get(value) ?? numbers.size;
    if (number >= most) return undefined;
    numbers.set(value, number);
    of[i] = number;
  }
  return numbers.size < 2 ? undefined : { of, count: numbers.size, zero: numbers.get(0) };
}

function share(values: Float32Array, { of, count, zero }: Members): void {
  const sums = new Float64Array(count);
  const sizes = new Uint32Array(count);
  for (let i = 0; i < of.length; i++) {
    sums[of[i]!]! += values[i]!;
    sizes[of[i]!]!++;
  }
  for (let k = 0; k < count; k++) sums[k] = k === zero ? 0 : sums[k]! / sizes[k]!;
  for (let i = 0; i < of.length; i++) values[i] = sums[of[i]!]!;
}
