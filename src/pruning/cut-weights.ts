import { isPacked, packedBytes } from "../tensor/dtype.ts";
import { pack, unpack } from "../tensor/pack.ts";
import { lazyTensor, sizeOf, stringTensor, type Tensor } from "../tensor/tensor.ts";

/** The indices that stay of every axis of a tensor; undefined for an axis that stays whole. */
export type Kept = readonly (readonly number[] | undefined)[];

/** Bytes of the source that are read at one time, as far as one index of the first axis allows. */
const readAtOnce = 2 ** 22;

/** The part of a tensor that stays. Lazy: the source is read block by block when bytes are asked for. */
export function gathered(source: Tensor, kept: Kept): Tensor {
  const shape = source.shape.map((size, axis) => kept[axis]?.length ?? size);
  if (source.strings) {
    const strings = source.strings;
    return stringTensor(
      shape,
      offsets(source.shape, kept).map((i) => strings[i]!),
    );
  }
  if (isPacked(source.dtype)) {
    return lazyTensor(source.dtype, shape, (offset, length) => {
      const all = unpack(source.bytes(), source.dtype, source.size);
      const some = offsets(source.shape, kept).map((i) => all[i]!);
      return pack(some, source.dtype).subarray(offset, offset + length);
    });
  }
  return lazyTensor(source.dtype, shape, (offset, length) => gatherBytes(source, kept, offset, length));
}

/** Bytes `offset` to `offset + length` of what stays, by rows: a row is what belongs to one index of the first axis. */
function gatherBytes(source: Tensor, kept: Kept, offset: number, length: number): Uint8Array {
  const element = packedBytes(source.dtype, 1);
  // 8 and 16 byte elements move as words of 4
  const Words = element % 4 === 0 ? Uint32Array : element === 2 ? Uint16Array : Uint8Array;
  const words = element / Words.BYTES_PER_ELEMENT;
  const from = sizeOf(source.shape.slice(1)) * words;
  const inner = Int32Array.from(offsets([...source.shape.slice(1), words], kept.slice(1)));
  const to = inner.length * Words.BYTES_PER_ELEMENT;
  if (to === 0 || length === 0) return new Uint8Array(0);
  const rows = kept[0] ?? Array.from({ length: source.shape[0] ?? 1 }, (_, i) => i);
  const [first, last] = [Math.floor(offset / to), Math.ceil((offset + length) / to)];
  const out = new Words((last - first) * inner.length);
  const rowBytes = from * Words.BYTES_PER_ELEMENT;
  const perRead = Math.max(1, Math.floor(readAtOnce / rowBytes));
  let at = 0;
  for (let row = first; row < last; ) {
    const start = rows[row]!;
    let end = row + 1;
    while (end < last && rows[end]! - start < perRead) end++;
    const bytes = source.bytes(start * rowBytes, (rows[end - 1]! - start + 1) * rowBytes);
    const aligned = bytes.byteOffset % Words.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
    const block = new Words(
      aligned.buffer as ArrayBuffer,
      aligned.byteOffset,
      aligned.byteLength / Words.BYTES_PER_ELEMENT,
    );
    for (; row < end; row++) {
      const base = (rows[row]! - start) * from;
      for (let i = 0; i < inner.length; i++) out[at++] = block[base + inner[i]!]!;
    }
  }
  return new Uint8Array(out.buffer).subarray(offset - first * to, offset - first * to + length);
}

/** Offsets of the elements that stay, in order. */
function offsets(shape: readonly number[], kept: Kept): number[] {
  let found = [0];
  let stride = sizeOf(shape);
  for (const [axis, size] of shape.entries()) {
    stride /= Math.max(1, size);
    const indices = kept[axis] ?? Array.from({ length: size }, (_, i) => i);
    found = found.flatMap((base) => indices.map((i) => base + i * stride));
  }
  return found;
}

/** The tensor with zeros wherever an index does not stay. Lazy. For types whose zero is the bytes of zero. */
export function zeroed(source: Tensor, kept: Kept): Tensor {
  const element = packedBytes(source.dtype, 1);
  let stride = source.size;
  const cut = source.shape.flatMap((size, axis) => {
    stride /= Math.max(1, size);
    const stays = kept[axis];
    if (!stays) return [];
    const gone = new Uint8Array(size).fill(1);
    for (const i of stays) gone[i] = 0;
    return [{ stride, size, gone }];
  });
  return lazyTensor(source.dtype, source.shape, (offset, length) => {
    const out = source.bytes(offset, length).slice();
    for (let at = Math.floor(offset / element); at * element < offset + length; at++) {
      if (!cut.some((axis) => axis.gone[Math.floor(at / axis.stride) % axis.size])) continue;
      out.fill(0, Math.max(0, at * element - offset), (at + 1) * element - offset);
    }
    return out;
  });
}
