import { fail } from "../errors.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { sizeOf, type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { Couplings, Group, Place } from "./couplings.ts";

/** Whether elements of a type are floats. */
export function isFloat(dtype: DType): boolean {
  return dtypes[dtype].kind === "float";
}

/** A group's weights with at least two axes, or all floats where there are none. */
export function matrices({ structure }: Couplings, { members }: Group): readonly Place[] {
  const rank = (place: Place): number => structure.constantOf(place.name)!.shape.length;
  const some = members.filter((place) => rank(place) >= 2 && place.indices.length > 0);
  return some.length > 0 ? some : members.filter(({ name }) => isFloat(structure.constantOf(name)!.dtype));
}

/**
 * A weight's elements.
 *
 * @throws PareError naming it if it holds NaN or infinity
 */
export function finite(name: string, weight: Tensor): Float32Array {
  const values = toFloat32(weight);
  if (isFloat(weight.dtype) && !values.every(Number.isFinite)) {
    fail(`weight '${name}'`, "holds NaN or infinite values", "Repair the weight: it can't be ranked");
  }
  return values;
}

/** Sums of a function of a weight's elements, by unit. An element's position is passed too. */
export function unitSums(
  { axis, indices }: Place,
  { shape }: Tensor,
  values: Float32Array,
  of: (value: number, at: number) => number,
): Float64Array {
  const [size, inner] = [shape[axis]!, sizeOf(shape.slice(axis + 1))];
  const unitOf = new Int32Array(size).fill(-1);
  for (const [unit, some] of indices.entries()) for (const i of some) unitOf[i] = unit;
  const sums = new Float64Array(indices.length);
  for (let at = 0; at < values.length; ) {
    for (let i = 0; i < size; i++) {
      const unit = unitOf[i]!;
      if (unit < 0) {
        at += inner;
        continue;
      }
      let sum = 0;
      for (const end = at + inner; at < end; at++) sum += of(values[at]!, at);
      sums[unit]! += sum;
    }
  }
  return sums;
}

/** The weights of each unit, one after the other. */
export function unitVectors({ axis, indices }: Place, { shape }: Tensor, values: Float32Array): Float32Array[] {
  const [size, inner] = [shape[axis]!, sizeOf(shape.slice(axis + 1))];
  const outer = sizeOf(shape.slice(0, axis));
  return indices.map((some) => {
    const vector = new Float32Array(outer * some.length * inner);
    let to = 0;
    for (let o = 0; o < outer; o++) {
      for (const i of some) {
        const from = (o * size + i) * inner;
        vector.set(values.subarray(from, from + inner), to);
        to += inner;
      }
    }
    return vector;
  });
}
