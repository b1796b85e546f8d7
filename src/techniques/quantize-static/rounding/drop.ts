import type { Draft } from "../../../graph/edit.ts";
import type { ObservedType } from "../../../platform/observe.ts";
import type { Tensors } from "../../../platform/runtime.ts";
import type { Random } from "../../../random.ts";
import { float32, int64, sizeOf } from "../../../tensor/tensor.ts";
import type { Arithmetic } from "../../../training/emit.ts";

/** Random numbers beyond those of the largest value: masks begin at any of them. */
const spare = 2 ** 16;

/** Name of the input that takes what an input of a unit is in the float network. */
export function floatName(name: string): string {
  return `${name}/float`;
}

/** Mixes two forms of a value, element by element, another way at every step. */
export interface Dropper {
  /** A value that is `a` here and `b` there, each with probability 1/2; `like` has its shape for one sample. */
  mixed(like: string, a: string, b: string): string;
  /** An input mixed with what it is in the float network, the input {@link floatName}. */
  mixedInput(name: string): string;
  /** Feeds of one step: where each mask begins. */
  offsets(): Tensors;
}

/**
 * Masks are slices of one pool of random bits that begin at offsets fed at every step: as good as fresh ones, and no
 * random numbers are made while training.
 */
export function dropper(
  draft: Draft,
  a: Arithmetic,
  { batch, random }: { readonly batch: number; readonly random: Random },
  types: ReadonlyMap<string, ObservedType>,
): Dropper {
  const inputs: string[] = [];
  const pool = draft.fresh("drop_pool");
  let largest = 0;
  const mixed: Dropper["mixed"] = (like, first, second) => {
    const size = batch * sizeOf(types.get(like)!.shape);
    if (size > largest) {
      largest = size;
      const bits = random.fork("pool");
      draft.weights.set(
        pool,
        float32(
          [size + spare],
          Float32Array.from({ length: size + spare }, () => bits.int(2)),
        ),
      );
    }
    const offset = draft.fresh("drop_offset");
    inputs.push(offset);
    draft.inputs.push({ name: offset, type: { kind: "tensor", dtype: "int64", shape: [1] } });
    const slice = a.op("Slice", [pool, offset, a.add(offset, a.ints([size])), a.ints([0])]);
    const mask = a.op("Reshape", [slice, a.op("Shape", [first])]);
    return a.add(first, a.mul(a.sub(second, first), mask));
  };
  return {
    mixed,
    mixedInput(name) {
      const float = floatName(name);
      draft.inputs.push({ name: float, type: { kind: "tensor", dtype: "float32" } });
      return mixed(name, float, name);
    },
    offsets: () => Object.fromEntries(inputs.map((name) => [name, int64([random.int(spare)])])),
  };
}
