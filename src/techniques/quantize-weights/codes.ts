import { fail } from "../../errors.ts";
import { blockFitter } from "../../tensor/block-fit.ts";
import type { Grid } from "../../tensor/block-grid.ts";
import {
  type BlockCodes,
  type BlockSink,
  type BlockView,
  blocksPerRow,
  dequantizeBlocks,
  quantizeBlocks,
} from "../../tensor/blockwise.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { lazyTensor, type Tensor, tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { WeightTarget } from "./targets.ts";
import { arranged, inPlace, viewOf } from "./view.ts";

/** How one weight is put into codes. */
export interface CodePlan {
  readonly grid: Grid;
  /** Elements that share a scale along the axis; the whole axis for channels and tensors. */
  readonly block: number;
  /** One scale for everything. */
  readonly whole: boolean;
  /** Weight of each position of the axis in the squared error. */
  readonly importance: Float32Array | undefined;
  /** The codes, in the layout's order and in the blocks of the form they are stored in, where they were found before. */
  readonly codes?: BlockCodes;
}

/**
 * Puts a weight into codes, handing them to `sink` block by block.
 *
 * @throws PareError naming the weight if it holds NaN or infinity
 */
export function encodeTarget(target: WeightTarget, plan: CodePlan, sink: BlockSink): BlockView {
  const view = viewOf(target.layout, plan.block);
  if (plan.codes) replay(plan.codes, view, sink);
  else quantizeBlocks(arranged(target), view, gridOf(target, plan), sink, `weight '${target.name}'`, plan.importance);
  return view;
}

/**
 * The grid of a plan's blocks; of a plan with one scale for everything, with that scale.
 *
 * @throws PareError naming the weight if it holds NaN or infinity
 */
export function gridOf(target: WeightTarget, { grid, whole }: CodePlan): Grid {
  return whole ? wholeGrid(toFloat32(target.weight), grid, `weight '${target.name}'`) : grid;
}

/**
 * A grid with the scale that fits some values best as one block.
 *
 * @param who names the values in the error
 * @throws PareError if they hold NaN or infinity
 */
export function wholeGrid(values: Float32Array, grid: Grid, who: string): Grid {
  const fitter = blockFitter(grid, values.length);
  if (!fitter.run(values, 0, values.length, 0)) {
    fail(who, "holds NaN or infinite values", "Repair the weight: it can't be quantized");
  }
  return { ...grid, fixed: { scale: fitter.scale(), zero: fitter.zero() } };
}

/** The weight that codes in blocks of so many elements stand for, unpacked when it is read. */
export function decoded({ weight, layout }: WeightTarget, block: number, codes: BlockCodes): Tensor {
  const { dtype, shape } = weight;
  const make = (): Tensor => {
    const values = inPlace(dequantizeBlocks(viewOf(layout, block), codes), layout);
    return tensor(dtype, shape, dtype === "float16" ? floatToHalf(values, dtype) : values);
  };
  return lazyTensor(dtype, shape, (offset, length) => make().bytes(offset, length));
}

function replay({ codes, scales, zeros }: BlockCodes, view: BlockView, sink: BlockSink): void {
  const { outer, length, inner, block } = view;
  const blocks = blocksPerRow(view);
  const run = { codes: new Uint8Array(block), scales: new Float64Array(1), zeros: new Float64Array(1) };
  for (let o = 0; o < outer; o++) {
    for (let b = 0; b < blocks; b++) {
      const count = Math.min(block, length - b * block);
      for (let i = 0; i < inner; i++) {
        const at = (o * length + b * block) * inner + i;
        for (let k = 0; k < count; k++) run.codes[k] = codes[at + k * inner]!;
        run.scales[0] = scales[(o * blocks + b) * inner + i]!;
        run.zeros[0] = zeros[(o * blocks + b) * inner + i]!;
        sink({ outer: o, block: b, inner: i, pitch: count, count, blocks: 1, ...run });
      }
    }
  }
}
