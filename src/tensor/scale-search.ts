import { type Affine, affineParams, roundHalfEven, type WeightOptions } from "./affine.ts";
import { channelRanges, split } from "./statistics.ts";

/** Shares of the range that covers a channel, from all of it to a quarter, that are tried. */
const shares = Array.from({ length: 24 }, (_, i) => 1 - (0.75 * i) / 23);
/** Scales tried for each share: that of the range, and one refitted. */
const rounds = 2;

/** Grids of a weight, one scale and zero point an index of the axis. */
export interface WeightGrids {
  readonly scale: Float32Array;
  readonly zeroPoints: Int32Array;
}

/**
 * Grids of least squared error, for widths at which clipping a few large weights costs less than the coarse steps that
 * would reach them. Each channel tries ranges from its own down to a quarter of it. For the integers k that its weights w
 * fall on, counted from the zero point, the scale is refitted by least squares, s = sum(m w k) / sum(m k^2); the
 * least error sum(m (w - s k)^2) wins.
 *
 * @param importance m, a number an element, in the layout of the weights; all equal if absent
 * @throws PareError where the axis does not exist
 */
export function searchScales(
  data: Float32Array,
  shape: readonly number[],
  options: Pick<WeightOptions, "dtype" | "axis" | "symmetric" | "reduceRange" | "bits" | "name">,
  importance?: Float32Array,
): WeightGrids {
  const { axis, name = "searchScales" } = options;
  const { outer, channels, inner } = split(shape, axis, name);
  const { min, max } = channelRanges(data, shape, axis, name);
  const scale = new Float32Array(channels);
  const zeroPoints = new Int32Array(channels);
  const x = new Float32Array(outer * inner);
  const m = importance && new Float32Array(outer * inner);
  for (let c = 0; c < channels; c++) {
    for (let o = 0; o < outer; o++) {
      const at = (o * channels + c) * inner;
      x.set(data.subarray(at, at + inner), o * inner);
      if (importance) m!.set(importance.subarray(at, at + inner), o * inner);
    }
    const grid = fittest(x, m, [min[c]!, max[c]!], options);
    scale[c] = grid.scale;
    zeroPoints[c] = grid.zeroPoint;
  }
  return { scale, zeroPoints };
}

function fittest(
  x: Float32Array,
  m: Float32Array | undefined,
  [min, max]: readonly [min: number, max: number],
  options: Pick<WeightOptions, "dtype" | "symmetric" | "reduceRange" | "bits">,
): Affine {
  const [low, high] = [Math.min(0, min), Math.max(0, max)];
  let best = affineParams(low, high, options.dtype, options);
  if (low === high) return best;
  let least = Number.POSITIVE_INFINITY;
  for (const share of shares) {
    let grid = affineParams(share * low, share * high, options.dtype, options);
    for (let round = 0; round < rounds; round++) {
      const { error, scale } = errorOn(x, m, grid);
      if (error < least) [best, least] = [grid, error];
      if (!(scale > 0)) break;
      grid = { ...grid, scale };
    }
  }
  return best;
}

/** Squared error on a grid, and the scale that suits the integers best. */
function errorOn(
  x: Float32Array,
  m: Float32Array | undefined,
  { scale: s, zeroPoint, qmin, qmax }: Affine,
): { readonly error: number; readonly scale: number } {
  const [low, high] = [qmin - zeroPoint, qmax - zeroPoint];
  let [xk, kk, error] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const w = x[i]!;
    const k = Math.min(high, Math.max(low, roundHalfEven(w / s)));
    const weight = m ? m[i]! : 1;
    const e = w - s * k;
    error += weight * e * e;
    xk += weight * w * k;
    kk += weight * k * k;
  }
  return { error, scale: Math.fround(xk / kk) };
}
