import { emptyBlock, needsRangesOnly, settler } from "./block-fit.ts";
import { type Grid, levelsOf } from "./block-grid.ts";
import { blockKernels, codePitch, kernelBlocks, kernelElements } from "./block-kernels.ts";
import type { BlockRun, BlockSink, BlockView } from "./blockwise.ts";
import { readFloats } from "./strips.ts";
import type { Tensor } from "./tensor.ts";

/** Quantizes a weight, handing its blocks to `sink`; false if it holds an element that is not finite. */
type RangeQuantizer = (weight: Tensor, sink: BlockSink) => boolean;

/**
 * What quantizes weights of a view where the steps of the grid follow from the range of each block: to the codes of
 * fitting block after block, several times as fast. Undefined where the grid needs more, or the kernels can't take it.
 */
export function rangeQuantizer(view: BlockView, grid: Grid): RangeQuantizer | undefined {
  const { length, inner, block } = view;
  // four blocks side by side must fit
  const fits = 4 * (inner === 1 ? length : block) <= kernelElements;
  if (!fits || !needsRangesOnly(grid) || !blockKernels()) return undefined;
  const coder = rangeCoder(grid);
  return (weight, sink) => (inner === 1 ? codeRows(coder, view, weight, sink) : codeColumns(coder, view, weight, sink));
}

interface RangeCoder {
  /** Puts elements `start` to `start + count` of a weight into the kernels' memory, from index `at` on. */
  fill(at: number, weight: Tensor, start: number, count: number): void;
  /** Codes `count` blocks of `n` elements that lie there from index `from` on; false if one is not finite. */
  code(from: number, step: number, next: number, n: number, count: number): boolean;
  /** The last blocks coded, given where the first of them lies. */
  run(outer: number, block: number, inner: number, count: number, blocks: number): BlockRun;
}

function rangeCoder(grid: Grid): RangeCoder {
  const kernels = blockKernels()!;
  const { x, low, high, fault, half, zero, codes } = kernels;
  const measured = emptyBlock(grid);
  const { stats, best } = measured;
  const settle = settler(grid);
  const levels = levelsOf(grid.width);
  const scales = new Float64Array(kernelBlocks);
  const zeros = new Float64Array(kernelBlocks);
  return {
    fill(at, weight, start, count) {
      const room = x.subarray(at, at + count);
      const values = readFloats(weight, start, count, room);
      if (values.buffer !== x.buffer) room.set(values);
    },
    code(from, step, next, n, count) {
      kernels.extremes(from, step, next, n, count);
      for (let k = 0; k < count; k++) {
        if (fault[k] !== 0) return false;
        stats[0] = low[k]!;
        stats[1] = high[k]!;
        settle(measured);
        scales[k] = best[0]!;
        zeros[k] = best[1]!;
        half[k] = 0.5 / best[0]!;
        zero[k] = best[1]! / 2;
      }
      kernels.encode(from, step, next, n, count, levels);
      return true;
    },
    run: (outer, block, inner, count, blocks) => ({
      outer,
      block,
      inner,
      codes,
      pitch: codePitch(count),
      count,
      blocks,
      scales,
      zeros,
    }),
  };
}

/** Strips of whole rows; the blocks with one index lie a row apart. */
function codeRows(coder: RangeCoder, { outer, length, block }: BlockView, weight: Tensor, sink: BlockSink): boolean {
  const rows = Math.min(kernelBlocks, Math.floor(kernelElements / Math.max(1, length)));
  for (let o = 0; o < outer; o += rows) {
    const count = Math.min(rows, outer - o);
    coder.fill(0, weight, o * length, count * length);
    for (let from = 0, b = 0; from < length; from += block, b++) {
      const n = Math.min(block, length - from);
      if (!coder.code(from, 1, length, n, count)) return false;
      sink(coder.run(o, b, 0, n, count));
    }
  }
  return true;
}

/** Strips of whole rows of blocks, or of as many columns as fit; the blocks with one index lie side by side. */
function codeColumns(coder: RangeCoder, view: BlockView, weight: Tensor, sink: BlockSink): boolean {
  const { outer, length, inner, block } = view;
  const most = Math.min(inner, kernelBlocks, Math.floor(kernelElements / block));
  const deep = most === inner ? block * Math.floor(kernelElements / (block * inner)) : block;
  for (let o = 0; o < outer; o++) {
    for (let top = 0; top < length; top += deep) {
      const rows = Math.min(deep, length - top);
      for (let i = 0; i < inner; i += most) {
        const columns = Math.min(most, inner - i);
        const at = (o * length + top) * inner + i;
        if (columns === inner) coder.fill(0, weight, at, rows * inner);
        else for (let r = 0; r < rows; r++) coder.fill(r * columns, weight, at + r * inner, columns);
        for (let r = 0; r < rows; r += block) {
          const n = Math.min(block, rows - r);
          if (!coder.code(r * columns, columns, 1, n, columns)) return false;
          sink(coder.run(o, (top + r) / block, i, n, columns));
        }
      }
    }
  }
  return true;
}
