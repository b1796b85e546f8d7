import type { Graph } from "../graph/graph.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import type { Constraint } from "./constraint.ts";

/** Weights whose zeros stay zero. */
export interface KeptZeros extends Constraint {
  /** How many zeros are kept of each weight. */
  readonly zeros: ReadonlyMap<string, number>;
}

/** Which zeros to keep. */
export interface KeepZerosOptions {
  /** Share of a weight's elements that have to be zero. */
  readonly least: number;
  /** Weights to look at; all of two axes or more if absent. */
  readonly names?: Iterable<string>;
}

/**
 * Holds what is zero in weights at zero, so that a model that was pruned stays so while it learns: in the weights and in
 * their running average. Weights that are zero altogether are held only where they are named: else nobody pruned them.
 *
 * @param graph the model at its start, which says where the zeros are: after a kill too
 */
export function keepZeros(graph: Graph, { least, names }: KeepZerosOptions): KeptZeros {
  const matrices = [...graph.weights].flatMap(([name, { shape }]) => (shape.length >= 2 ? [name] : []));
  const masks = new Map<string, Uint8Array>();
  const zeros = new Map<string, number>();
  for (const name of names ?? matrices) {
    const weight = graph.weights.get(name);
    if (weight?.dtype !== "float32") continue;
    const mask = Uint8Array.from(toFloat32(weight), (v) => Number(v === 0));
    const count = mask.reduce((sum, bit) => sum + bit, 0);
    if (count === 0 || (count === mask.length && !names) || count < least * mask.length) continue;
    masks.set(name, mask);
    zeros.set(name, count);
  }
  return {
    zeros,
    apply(_, weights) {
      for (const [name, mask] of masks) {
        const { value, average } = weights.get(name) ?? {};
        if (value) clear(value, mask);
        if (average) clear(average, mask);
      }
    },
  };
}

/** Sets to zero what a mask marks with 1. */
export function clear(values: Float32Array, mask: Uint8Array): void {
  for (let i = 0; i < mask.length; i++) if (mask[i]) values[i] = 0;
}
