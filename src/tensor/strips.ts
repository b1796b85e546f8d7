import { type Tensor, tensor, toFloat32 } from "./tensor.ts";

/** Elements read from a weight at once: few enough that they are still in the cache when they are worked on. */
export const stripElements = 1 << 18;

/**
 * `count` elements of a float weight from index `start` on.
 *
 * @param scratch memory for them, which the result lies in where that saves a copy
 */
export function readFloats(weight: Tensor, start: number, count: number, scratch?: Float32Array): Float32Array {
  const width = weight.byteLength / weight.size;
  const memory =
    scratch && weight.dtype === "float32" ? new Uint8Array(scratch.buffer, scratch.byteOffset, 4 * count) : undefined;
  const bytes = weight.bytes(start * width, count * width, memory);
  return toFloat32(tensor(weight.dtype, [count], bytes));
}
