import { lazyTensor, type Tensor } from "../../tensor/tensor.ts";

/**
 * A weight with zeros in it: the bytes are read from the weight each time, so that all this holds is a bit an element.
 *
 * @param mask 1 where an element of the matrix becomes zero
 * @param order where each element of the matrix stands in the weight
 */
export function maskedTensor(weight: Tensor, mask: Uint8Array, order: Uint32Array | undefined): Tensor {
  const bits = new Uint8Array(Math.ceil(weight.size / 8));
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const at = order ? order[i]! : i;
    bits[at >> 3]! |= 1 << (at & 7);
  }
  const width = weight.byteLength / weight.size;
  return lazyTensor(weight.dtype, weight.shape, (offset, length, scratch) => {
    const bytes = scratch?.subarray(0, length) ?? new Uint8Array(length);
    bytes.set(weight.bytes(offset, length));
    for (let i = 0; i < length; i++) {
      const element = Math.floor((offset + i) / width);
      if (bits[element >> 3]! & (1 << (element & 7))) bytes[i] = 0;
    }
    return bytes;
  });
}
