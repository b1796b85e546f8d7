import type { Draft } from "../../graph/edit.ts";
import { type BlockView, blocksPerRow } from "../../tensor/blockwise.ts";
import { int64, lazyTensor, sizeOf, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { WeightLayout, WeightTarget } from "./targets.ts";

/** A layout's shape as [outer, length, inner] around its axis, with blocks of `block` elements. */
export function viewOf(layout: WeightLayout, block: number): BlockView {
  const { shape, axis } = layout;
  return {
    outer: sizeOf(shape.slice(0, axis)),
    length: shape[axis]!,
    inner: sizeOf(shape.slice(axis + 1)),
    block,
  };
}

/** Shape of the scales of a view: the layout's, with the axis as long as there are blocks. */
export function scaleShape(layout: WeightLayout, view: BlockView): number[] {
  return layout.shape.map((dim, i) => (i === layout.axis ? blocksPerRow(view) : dim));
}

/** The weight in its layout's order: itself, or a permuted float32 copy made when asked for. */
export function arranged({ weight, layout }: WeightTarget): Tensor {
  const { split, permutation } = layout;
  if (!split || !permutation) return weight;
  const make = (): Tensor => tensor("float32", [weight.size], permute(toFloat32(weight), split, permutation));
  let made: Tensor | undefined;
  return lazyTensor("float32", [weight.size], (offset, length) => {
    made ??= make();
    return made.bytes(offset, length);
  });
}

/** Values in a layout's order brought to that of the weight. */
export function inPlace(values: Float32Array, { split, permutation }: WeightLayout): Float32Array {
  if (!split || !permutation) return values;
  const inverse = permutation.map((_, i) => permutation.indexOf(i));
  return permute(
    values,
    permutation.map((p) => split[p]!),
    inverse,
  );
}

/** Adds the nodes that bring a float value from the layout back to the weight's own shape; returns the result's name. */
export function restored(
  draft: Draft,
  value: string,
  { weight, layout, name }: WeightTarget,
  from = layout.shape,
): string {
  const { split, permutation } = layout;
  const reshape = (input: string, shape: readonly number[]): string =>
    draft.emit("Reshape", [input, draft.constant("shape", int64(shape))], {}, 1, name);
  if (split && permutation) {
    const inverse = permutation.map((_, i) => permutation.indexOf(i));
    const permuted = reshape(
      value,
      permutation.map((p) => split[p]!),
    );
    return reshape(draft.emit("Transpose", [permuted], { perm: inverse }, 1, name), weight.shape);
  }
  return from.join() === weight.shape.join() ? value : reshape(value, weight.shape);
}

function permute(data: Float32Array, shape: readonly number[], permutation: readonly number[]): Float32Array {
  const strides = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  const dims = permutation.map((p) => shape[p]!);
  const steps = permutation.map((p) => strides[p]!);
  const out = new Float32Array(data.length);
  const index = dims.map(() => 0);
  for (let at = 0, from = 0; at < out.length; at++) {
    out[at] = data[from]!;
    for (let d = dims.length - 1; d >= 0; d--) {
      from += steps[d]!;
      if (++index[d]! < dims[d]!) break;
      from -= steps[d]! * dims[d]!;
      index[d] = 0;
    }
  }
  return out;
}
