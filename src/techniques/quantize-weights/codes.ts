import { fail } from "../../errors.ts";
import { blockFitter } from "../../tensor/block-fit.ts";
import type { Grid } from "../../tensor/block-grid.ts";
import { type BlockSink, type BlockView, quantizeBlocks } from "../../tensor/blockwise.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { WeightTarget } from "./targets.ts";
import { arranged, viewOf } from "./view.ts";

/** How one weight is put into codes. */
export interface CodePlan {
  readonly grid: Grid;
  /** Elements that share a scale along the axis; the whole axis for channels and tensors. */
  readonly block: number;
  /** One scale for everything. */
  readonly whole: boolean;
  /** Weight of each position of the axis in the squared error. */
  readonly importance: Float32Array | undefined;
}

/**
 * Puts a weight into codes, handing them to `sink` block by block.
 *
 * @throws PareError naming the weight if it holds NaN or infinity
 */
export function encodeTarget(target: WeightTarget, plan: CodePlan, sink: BlockSink): BlockView {
  const view = viewOf(target.layout, plan.block);
  const who = `weight '${target.name}'`;
  const source = arranged(target);
  const grid = plan.whole ? { ...plan.grid, fixed: fitWhole(source, plan.grid, who) } : plan.grid;
  quantizeBlocks(source, view, grid, sink, who, plan.importance);
  return view;
}

function fitWhole(weight: Tensor, grid: Grid, who: string): { scale: number; zero: number } {
  const fitter = blockFitter(grid, weight.size);
  if (!fitter.run(toFloat32(weight), 0, weight.size, 0)) {
    fail(who, "holds NaN or infinite values", "Repair the weight: it can't be quantized");
  }
  return { scale: fitter.scale(), zero: fitter.zero() };
}
