import { toFloat32 } from "../../tensor/tensor.ts";
import type { Constraint } from "../../training/constraint.ts";
import type { Simulation } from "./insert.ts";

/** Keeps steps positive and from leaping, and offsets among the integers. */
export function soundGrids({ graph, activations, weights }: Simulation): Constraint {
  const bounds = new Map<string, { readonly low: (i: number) => number; readonly high: number }>();
  const steps = new Set<string>();
  const step = (name: string): void => {
    const start = toFloat32(graph.weights.get(name)!).slice();
    bounds.set(name, { low: (i) => start[i]! * leastShare, high: Number.POSITIVE_INFINITY });
    steps.add(name);
  };
  for (const { scale } of weights.values()) if (scale) step(scale);
  for (const { grid, names } of activations.values()) {
    step(names.scale);
    if (names.offset) bounds.set(names.offset, { low: () => grid.qmin, high: grid.qmax });
  }
  return {
    apply(at, learning) {
      for (const [name, { low, high }] of bounds) {
        const { value, before, average } = learning.get(name) ?? {};
        if (value && before && at.step > 0 && steps.has(name)) holdBack(value, before);
        for (const held of [value, average]) {
          if (held) for (let i = 0; i < held.length; i++) held[i] = Math.min(Math.max(held[i]!, low(i)), high);
        }
      }
    },
  };
}

/** A step falls no lower than this share of what it was. */
const leastShare = 2 ** -8;

/** Share of itself that a step moves by at an update, at most: a few large gradients would end the training. */
const mostMoved = 0.02;

function holdBack(value: Float32Array, before: Float32Array): void {
  for (let i = 0; i < value.length; i++) {
    const from = before[i]!;
    value[i] = Math.min(Math.max(value[i]!, from * (1 - mostMoved)), from * (1 + mostMoved));
  }
}
