/** Code width of a block-quantized weight: bits, or the named sets {-1, 0, 1} and {-1, 1}. */
export type Width = 8 | 4 | 3 | 2 | "ternary" | "binary";

/** How the scale and zero point of a block are found. */
export type BlockMethod = "rtn" | "search" | "hqq";

/** The grid that block codes lie on, and how a block is put onto it. */
export interface Grid {
  readonly width: Width;
  /** Zero point in the middle of the codes; otherwise an integer of each block's own. Ternary and binary always are. */
  readonly symmetric: boolean;
  readonly method: BlockMethod;
  /** Scales that float16 holds exactly, so that they can be stored in half the bytes. */
  readonly halfScales?: boolean;
  /** This step and zero point for every block, instead of fitted ones. */
  readonly fixed?: { readonly scale: number; readonly zero: number };
}

/** Number of codes of a width. */
export function levelsOf(width: Width): number {
  return width === "ternary" ? 3 : width === "binary" ? 2 : 2 ** width;
}

/** The code that means 0 where the zero point is not the block's own: the middle (between the two codes of "binary"). */
export function middleOf(width: Width): number {
  return width === "ternary" ? 1 : width === "binary" ? 0.5 : 2 ** (width - 1);
}

/**
 * Rounding and clamping without branches, which would be mispredicted several times a block: adding and subtracting
 * magic = 1.5 * 2^52 rounds a float64 below 2^51 to the nearest integer, ties to even, and
 * |t - f| - |t - g| + (f + g) clamps 2 t between 2 f and 2 g.
 */
export const magic = 6755399441055744;

/** A block, `n` elements of `x` from `at` on, with its statistics. Numbers live in typed arrays so that nothing is boxed. */
export interface Block {
  readonly width: Width;
  readonly levels: number;
  readonly symmetric: boolean;
  x: Float32Array;
  /** The bits of `x`. */
  bits: Int32Array;
  at: number;
  n: number;
  /** Importance of each element, if any was given. */
  readonly m: Float32Array | undefined;
  /** lowest and highest value (0 included) */
  readonly stats: Float64Array;
  /** step, zero point, score */
  readonly best: Float64Array;
  /** scratch for a pair of sums */
  readonly sums: Float64Array;
}

/** Step and zero point of rounding to nearest, into `best`. */
export function nearest(b: Block): void {
  const { stats, best, levels, width } = b;
  const low = stats[0]!;
  const high = stats[1]!;
  if (width === "ternary") best[0] = meanMagnitude(b);
  else if (width === "binary") best[0] = 2 * meanMagnitude(b);
  else if (b.symmetric) best[0] = (-low > high ? low : high) / (-levels / 2);
  else {
    best[0] = (high - low) / (levels - 1);
    // Math.round branches on the fraction, which can't be predicted
    best[1] = clampCode(Math.floor(0.5 - low / best[0]), levels);
  }
}

/** A zero point within the codes. */
export function clampCode(code: number, levels: number): number {
  return Math.min(levels - 1, Math.max(0, code));
}

function meanMagnitude({ x, at, n, m }: Block): number {
  let sum = 0;
  let total = 0;
  for (let i = 0; i < n; i++) {
    const weight = m ? m[i]! : 1;
    sum += weight * Math.abs(x[at + i]!);
    total += weight;
  }
  return sum / total;
}
