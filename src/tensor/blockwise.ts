import { fail } from "../errors.ts";
import { type BlockFitter, blockFitter } from "./block-fit.ts";
import type { Grid } from "./block-grid.ts";
import { rangeQuantizer } from "./block-ranges.ts";
import { type CodeRun, codePlanes, putCodes } from "./code-planes.ts";
import { readFloats, stripElements } from "./strips.ts";
import type { Tensor } from "./tensor.ts";

/**
 * How a weight is cut into blocks: seen as `[outer, length, inner]`, row-major, blocks of `block` elements run along
 * the middle axis (the one that is summed over). The last block of a row may be shorter.
 */
export interface BlockView {
  readonly outer: number;
  readonly length: number;
  readonly inner: number;
  readonly block: number;
}

/** Blocks along a view's middle axis. */
export function blocksPerRow(view: BlockView): number {
  return Math.ceil(view.length / view.block);
}

/** Quantized blocks with one index along the middle axis: of neighbouring rows, or columns where the inner axis is not 1. */
export interface BlockRun extends CodeRun {
  /** Index of the first block on the view's outer axis; the next ones follow on it if the inner axis is 1. */
  readonly outer: number;
  /** Index of the blocks along the middle axis. */
  readonly block: number;
  /** Index of the first block on the inner axis; the next ones follow on it if it is not 1. */
  readonly inner: number;
  /** Of each block, the value of one step: element = scale * (code - zero). */
  readonly scales: Float64Array;
  /** Of each block, the code that means 0. */
  readonly zeros: Float64Array;
}

/** Takes quantized blocks. They lie in scratch memory, which it may change: use them before returning. */
export type BlockSink = (run: BlockRun) => void;

/**
 * Quantizes a weight block by block, reading it strip by strip so that memory stays bounded: blocks never need more
 * than 1 MiB of the weight at once unless one row of blocks is larger.
 *
 * @param weight float tensor of `outer * length * inner` elements, taken in row-major order
 * @param importance weight of each position of the middle axis in the squared error, `[length]`
 * @param sink gets every block once, in an order of its own
 * @throws PareError naming `who` if the weight holds NaN or infinity
 */
export function quantizeBlocks(
  weight: Tensor,
  view: BlockView,
  grid: Grid,
  sink: BlockSink,
  who: string,
  importance?: Float32Array,
): void {
  const { outer, length, inner, block } = view;
  if (outer * length * inner !== weight.size) {
    fail(who, `can't view [${weight.shape.join(", ")}] as [${outer}, ${length}, ${inner}]`);
  }
  const notFinite = (): never => fail(who, "holds NaN or infinite values", "Repair the weight: it can't be quantized");
  const ranges = rangeQuantizer(view, grid);
  if (ranges) {
    if (!ranges(weight, sink)) notFinite();
    return;
  }
  const fitter = blockFitter(grid, block, importance);
  const blocks = blocksPerRow(view);
  const scales = new Float64Array(1);
  const zeros = new Float64Array(1);
  const most = Math.max(stripElements, inner === 1 ? length : block * inner);
  const scratch = new Float32Array(Math.min(weight.size, most));
  if (inner === 1) {
    const rows = Math.max(1, Math.floor(stripElements / Math.max(1, length)));
    for (let o = 0; o < outer; o += rows) {
      const count = Math.min(rows, outer - o);
      const values = readFloats(weight, o * length, count * length, scratch);
      for (let r = 0; r < count; r++) {
        for (let b = 0; b < blocks; b++) {
          put(fitter, values, r * length + b * block, o + r, b, 0);
        }
      }
    }
    return;
  }
  const deep = Math.max(1, Math.floor(stripElements / (block * inner)));
  const tile = new Float32Array(tileColumns * block);
  for (let o = 0; o < outer; o++) {
    for (let first = 0; first < blocks; first += deep) {
      const last = Math.min(blocks, first + deep);
      const from = first * block;
      const count = (Math.min(length, last * block) - from) * inner;
      const values = readFloats(weight, (o * length + from) * inner, count, scratch);
      for (let b = first; b < last; b++) {
        const count = Math.min(block, length - b * block);
        for (let i = 0; i < inner; i += tileColumns) {
          const columns = Math.min(tileColumns, inner - i);
          transpose(values, (b * block - from) * inner + i, inner, count, columns, tile);
          for (let c = 0; c < columns; c++) put(fitter, tile, c * count, o, b, i + c);
        }
      }
    }
  }

  function put(fit: BlockFitter, values: Float32Array, at: number, o: number, b: number, i: number): void {
    const count = Math.min(block, length - b * block);
    if (!fit.run(values, at, count, b * block)) notFinite();
    scales[0] = fit.scale();
    zeros[0] = fit.zero();
    const { codes } = fit;
    sink({ outer: o, block: b, inner: i, codes, pitch: count, count, blocks: 1, scales, zeros });
  }
}

/** Columns brought side by side at once: a cache line of them, so that every line is fetched once. */
const tileColumns = 16;

/** Copies `columns` columns of `rows` elements, each then lying contiguous in `tile`. */
function transpose(
  values: Float32Array,
  start: number,
  stride: number,
  rows: number,
  columns: number,
  tile: Float32Array,
): void {
  for (let r = 0, from = start; r < rows; r++, from += stride) {
    for (let c = 0, to = r; c < columns; c++, to += rows) tile[to] = values[from + c]!;
  }
}

/** A whole weight quantized in memory, for small weights and for checks. */
export interface BlockCodes {
  /** One code an element, in the weight's order. */
  readonly codes: Uint8Array;
  /** `[outer, blocks, inner]` */
  readonly scales: Float32Array;
  /** `[outer, blocks, inner]` */
  readonly zeros: Float32Array;
}

/** Quantizes a whole weight into memory. See {@link quantizeBlocks}. */
export function blockCodes(
  weight: Tensor,
  view: BlockView,
  grid: Grid,
  who: string,
  importance?: Float32Array,
): BlockCodes {
  const { outer, length, inner, block } = view;
  const blocks = blocksPerRow(view);
  const plane = codePlanes(8, weight.size)[0]!;
  const scales = new Float32Array(outer * blocks * inner);
  const zeros = new Float32Array(scales.length);
  quantizeBlocks(
    weight,
    view,
    grid,
    (run) => {
      const next = inner === 1 ? blocks : 1;
      for (let k = 0, at = (run.outer * blocks + run.block) * inner + run.inner; k < run.blocks; k++, at += next) {
        scales[at] = run.scales[k]!;
        zeros[at] = run.zeros[k]!;
      }
      const start = (run.outer * length + run.block * block) * inner + run.inner;
      putCodes(plane, run, start, inner === 1 ? length : 1, inner);
    },
    who,
    importance,
  );
  return { codes: plane.bytes, scales, zeros };
}

/** The float values that block codes stand for, in the weight's order. */
export function dequantizeBlocks(view: BlockView, { codes, scales, zeros }: BlockCodes): Float32Array {
  const { outer, length, inner, block } = view;
  const blocks = blocksPerRow(view);
  const out = new Float32Array(outer * length * inner);
  for (let o = 0, e = 0; o < outer; o++) {
    for (let k = 0; k < length; k++) {
      const row = (o * blocks + Math.floor(k / block)) * inner;
      for (let i = 0; i < inner; i++, e++) out[e] = scales[row + i]! * (codes[e]! - zeros[row + i]!);
    }
  }
  return out;
}

/** The largest |w| of a float weight, read strip by strip; NaN counts as 0. */
export function largestMagnitude(weight: Tensor): number {
  const scratch = new Float32Array(Math.min(stripElements, weight.size));
  let largest = 0;
  for (let at = 0; at < weight.size; at += stripElements) {
    const values = readFloats(weight, at, Math.min(stripElements, weight.size - at), scratch);
    for (let i = 0; i < values.length; i++) {
      const magnitude = Math.abs(values[i]!);
      if (magnitude > largest) largest = magnitude;
    }
  }
  return largest;
}
