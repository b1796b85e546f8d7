import type { Tensors } from "../src/platform/runtime.ts";
import type { Couplings, Group } from "../src/pruning/couplings.ts";
import type { Cuts } from "../src/pruning/cut.ts";
import type { Random } from "../src/random.ts";
import { type Tensor, toFloat32 } from "../src/tensor/tensor.ts";
import { distance } from "./models.ts";

/** Random units of every group that can be cut, at least one of which stays. */
export function randomCuts(found: Couplings, ratio: number, source: Random): Cuts {
  return new Map(
    found.groups.flatMap((group): [Group, number[]][] => {
      if (group.frozen !== undefined) return [];
      const order = source.shuffle(Array.from({ length: group.units }, (_, i) => i));
      const stay = Math.max(1, Math.round(group.units * (1 - ratio)));
      return [[group, order.slice(0, stay).sort((a, b) => a - b)]];
    }),
  );
}

/** Largest difference of two outputs, relative to the largest magnitude of the output or of the original's. */
export function difference(original: Tensors, a: Tensors, b: Tensors): number {
  const magnitude = (t: Tensor): number =>
    toFloat32(t).reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : most), 0);
  return Math.max(
    ...Object.entries(a).map(([name, value]) => {
      const far = distance({ [name]: value }, { [name]: b[name]! });
      const own = magnitude(value) || 1;
      return (far * own) / Math.max(own, magnitude(original[name]!));
    }),
  );
}
