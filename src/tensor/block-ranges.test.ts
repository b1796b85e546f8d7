import { describe, expect, it } from "vitest";
import { random } from "../random.ts";
import { blockFitter } from "./block-fit.ts";
import type { Grid } from "./block-grid.ts";
import { blockKernels } from "./block-kernels.ts";
import { rangeQuantizer } from "./block-ranges.ts";
import { type BlockView, blockCodes, blocksPerRow } from "./blockwise.ts";
import { floatToHalf } from "./half.ts";
import { float32, type Tensor, tensor, toFloat32 } from "./tensor.ts";

function weights({ outer, length, inner }: BlockView, seed = 1): Tensor {
  const source = random(seed);
  const data = Float32Array.from({ length: outer * length * inner }, () => source.normal() * 0.1 + 0.02);
  return float32([outer, length, inner], data);
}

/** Steps, zero points and codes, of one block after another. */
function fitted(weight: Tensor, view: BlockView, grid: Grid) {
  const { outer, length, inner, block } = view;
  const blocks = blocksPerRow(view);
  const fitter = blockFitter(grid, block);
  const x = toFloat32(weight);
  const codes = new Uint8Array(x.length);
  const scales = new Float32Array(outer * blocks * inner);
  const zeros = new Float32Array(scales.length);
  for (let o = 0, at = 0; o < outer; o++) {
    for (let b = 0; b < blocks; b++) {
      const count = Math.min(block, length - b * block);
      for (let i = 0; i < inner; i++, at++) {
        const index = (j: number): number => (o * length + b * block + j) * inner + i;
        expect(
          fitter.run(
            Float32Array.from({ length: count }, (_, j) => x[index(j)]!),
            0,
            count,
            0,
          ),
        ).toBe(true);
        scales[at] = fitter.scale();
        zeros[at] = fitter.zero();
        for (let j = 0; j < count; j++) codes[index(j)] = fitter.codes[j]!;
      }
    }
  }
  return { codes, scales, zeros };
}

const grids: readonly Grid[] = [
  { width: 4, symmetric: false, method: "rtn" },
  { width: 4, symmetric: true, method: "rtn" },
  { width: 8, symmetric: false, method: "rtn", halfScales: true },
  { width: 3, symmetric: false, method: "rtn" },
  { width: 2, symmetric: true, method: "rtn", halfScales: true },
  { width: "ternary", symmetric: true, method: "rtn", fixed: { scale: 0.05, zero: 1 } },
];

const views: Readonly<Record<string, BlockView>> = {
  "rows of whole blocks": { outer: 37, length: 64, inner: 1, block: 32 },
  "rows with a shorter last block": { outer: 5, length: 77, inner: 1, block: 32 },
  "more short rows than fit": { outer: 20000, length: 3, inner: 1, block: 3 },
  "columns of whole blocks": { outer: 1, length: 64, inner: 19, block: 16 },
  "matrices with shorter last blocks": { outer: 3, length: 45, inner: 7, block: 16 },
  "more columns than fit": { outer: 1, length: 18, inner: 20001, block: 16 },
};

describe("quantizing by the ranges of blocks", () => {
  for (const [name, view] of Object.entries(views)) {
    it(`gives the codes of fitting block after block: ${name}`, () => {
      for (const grid of outerGrids(view)) {
        expect(rangeQuantizer(view, grid)).toBeDefined();
        const weight = weights(view);
        expect(blockCodes(weight, view, grid, "test")).toEqual(fitted(weight, view, grid));
      }
    });
  }

  it("takes values at ties, of no magnitude and of the largest", () => {
    const view = { outer: 8, length: 16, inner: 1, block: 16 };
    const x = new Float32Array(128);
    x.set([-1e-31, 1e-31], 0);
    for (let i = 0; i < 16; i++) x[16 + i] = i - 7.5;
    for (let i = 0; i < 16; i++) x[32 + i] = i / 2;
    x.set([3.4028234663852886e38, -3.4028234663852886e38], 48);
    x.fill(-0, 64, 80);
    x.fill(-3, 80, 96);
    x.set([1e-45, -1e-45, 7], 96);
    x.set([0.5, 1.5, 2.5, 15], 112);
    for (const grid of grids) {
      expect(blockCodes(float32([8, 16], x), view, grid, "test")).toEqual(fitted(float32([8, 16], x), view, grid));
    }
  });

  it("takes float16", () => {
    const view = { outer: 6, length: 32, inner: 1, block: 16 };
    const half = tensor("float16", [6, 32], floatToHalf(toFloat32(weights(view)), "float16"));
    expect(blockCodes(half, view, grids[0]!, "test")).toEqual(fitted(half, view, grids[0]!));
  });

  it("refuses what is not finite wherever it stands, and forgets it", () => {
    const view = { outer: 5, length: 33, inner: 1, block: 16 };
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const at of [0, 32, 100, 164]) {
        const x = Float32Array.from(toFloat32(weights(view)));
        x[at] = bad;
        expect(() => blockCodes(float32([5, 33], x), view, grids[0]!, "weight")).toThrow("weight: holds NaN or inf");
        expect(blockCodes(weights(view), view, grids[0]!, "test")).toEqual(fitted(weights(view), view, grids[0]!));
      }
    }
  });

  it("leaves to fitting what needs more than ranges, or would not fit", () => {
    const view = { outer: 4, length: 64, inner: 1, block: 32 };
    expect(blockKernels()).toBeDefined();
    for (const grid of [
      { width: 4, symmetric: false, method: "search" },
      { width: 4, symmetric: false, method: "hqq" },
      { width: "ternary", symmetric: true, method: "rtn" },
      { width: "binary", symmetric: true, method: "rtn" },
    ] as const) {
      expect(rangeQuantizer(view, grid)).toBeUndefined();
    }
    expect(rangeQuantizer({ ...view, length: 70000 }, grids[0]!)).toBeUndefined();
    expect(rangeQuantizer({ ...view, inner: 2, block: 70000, length: 70000 }, grids[0]!)).toBeUndefined();
  });
});

/** All grids for small views; for large ones the first. */
function outerGrids({ outer, length, inner }: BlockView): readonly Grid[] {
  return outer * length * inner < 10000 ? grids : grids.slice(0, 1);
}
