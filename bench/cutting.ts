import type { Tensors } from "../src/platform/runtime.ts";
import { type Tensor, toFloat32 } from "../src/tensor/tensor.ts";
import { distance } from "./models.ts";

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
