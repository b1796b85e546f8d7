import { lazyTensor, type Tensor, toFloat32 } from "../../tensor/tensor.ts";

/**
 * A float32 tensor that is computed when asked for, and again once the last copy is garbage.
 *
 * @param make gives its elements, row-major
 */
export function computed(shape: readonly number[], make: () => Float32Array): Tensor {
  let kept: WeakRef<Float32Array> | undefined;
  return lazyTensor("float32", shape, (offset, length) => {
    const data = kept?.deref() ?? make();
    kept = new WeakRef(data);
    return new Uint8Array(data.buffer, data.byteOffset + offset, length);
  });
}

/** A stored weight as float32, the type that imported graphs compute in. */
export function asFloat32(t: Tensor): Tensor {
  return t.dtype === "float32" ? t : computed(t.shape, () => toFloat32(t));
}

/**
 * A tensor with its axes permuted, computed when asked for.
 *
 * @param from the axes it is seen with (same elements)
 * @param order the axis of `from` that each axis of the result is
 * @param shape the axes of the result, where they are seen otherwise (same elements)
 */
export function arranged(
  t: Tensor,
  from: readonly number[],
  order: readonly number[],
  shape: readonly number[] = order.map((axis) => from[axis]!),
): Tensor {
  return computed(shape, () => permute(toFloat32(t), from, order));
}

function permute(x: Float32Array, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const sizes = order.map((axis) => shape[axis]!);
  const steps = order.map((axis) => strides[axis]!);
  const out = new Float32Array(x.length);
  const last = sizes.length - 1;
  const [run, step] = [sizes[last] ?? 1, steps[last] ?? 1];
  const index = new Array<number>(sizes.length).fill(0);
  let from = 0;
  for (let to = 0; to < out.length; to += run) {
    for (let k = 0, at = from; k < run; k++, at += step) out[to + k] = x[at]!;
    for (let axis = last - 1; axis >= 0; axis--) {
      from += steps[axis]!;
      if (++index[axis]! < sizes[axis]!) break;
      from -= steps[axis]! * sizes[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}
