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
      offsets(source.shape, kept, 1).map((i) => strings[i]!),
    );
  }
  if (isPacked(source.dtype)) {
    return lazyTensor(source.dtype, shape, (offset, length) => {
      const all = unpack(source.bytes(), source.dtype, source.size);
      const some = offsets(source.shape, kept, 1).map((i) => all[i]!);
      return pack(some, source.dtype).subarray(offset, offset + length);
    });
  }
  return lazyTensor(source.dtype, shape, (offset, length) => gatherBytes(source, kept, shape, offset, length));
}

/** Bytes `offset` to `offset + length` of what stays, by rows: a row is what belongs to one index of the first axis. */
function gatherBytes(source: Tensor, kept: Kept, shape: readonly number[], offset: number, length: number): Uint8Array {
  const element = packedBytes(source.dtype, 1);
  const from = sizeOf(source.shape.slice(1)) * element;
  const to = sizeOf(shape.slice(1)) * element;
  if (to === 0 || length === 0) return new Uint8Array(0);
  const rows = Array.from({ length: shape[0] ?? 1 }, (_, i) => kept[0]?.[i] ?? i);
  const runs = runsOf(source.shape.slice(1), kept.slice(1), element);
  const [first, last] = [Math.floor(offset / to), Math.ceil((offset + length) / to)];
  const out = new Uint8Array((last - first) * to);
  const perRead = Math.max(1, Math.floor(readAtOnce / from));
  for (let row = first; row < last; ) {
    const start = rows[row]!;
    let end = row + 1;
    while (end < last && rows[end]! - start < perRead) end++;
    const block = source.bytes(start * from, (rows[end - 1]! - start + 1) * from);
    for (; row < end; row++) {
      let at = (row - first) * to;
      for (const run of runs) {
        const begin = (rows[row]! - start) * from + run.start;
        out.set(block.subarray(begin, begin + run.length), at);
        at += run.length;
      }
    }
  }
  return out.subarray(offset - first * to, offset - first * to + length);
}

/** Runs of bytes that stay of one row. */
function runsOf(shape: readonly number[], kept: Kept, element: number): { start: number; length: number }[] {
  const runs: { start: number; length: number }[] = [];
  for (const at of offsets(shape, kept, element)) {
    const last = runs.at(-1);
    if (last && last.start + last.length === at) last.length += element;
    else runs.push({ start: at, length: element });
  }
  return runs;
}

/** Offsets of the elements that stay, in order, times `element`. */
function offsets(shape: readonly number[], kept: Kept, element: number): number[] {
  let found = [0];
  let stride = sizeOf(shape) * element;
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
