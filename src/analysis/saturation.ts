/**
 * What processors without VNNI do with pairs of 8-bit products: the instruction VPMADDUBSW adds two neighbouring products
 * of an unsigned and a signed byte into 16 bits and clips the sum to -32768..32767 (Intel SDM, vol. 2C). With
 * activations up to 255 and weights up to 127 a pair reaches 64770.
 */

/** What 16 bits hold. */
export const largestSum = 32767;

/** A pair's sum as VPMADDUBSW gives it. */
function clippedPair(sum: number): number {
  return Math.min(largestSum, Math.max(-32768, sum));
}

/** Shape of a product: x is [rows, depth], w is [depth, columns], both row-major. */
export interface ProductShape {
  readonly rows: number;
  readonly depth: number;
  readonly columns: number;
}

/**
 * The int32 sums of a product of unsigned activations and signed weights, as a processor without VNNI computes them
 * (`saturating`) or exactly, as one with VNNI does; and how many pairs were clipped.
 *
 * @param x `[rows, depth]`
 * @param w `[depth, columns]`
 */
export function productSums(
  x: Uint8Array,
  w: Int8Array,
  { rows, depth, columns }: ProductShape,
  saturating: boolean,
): { readonly sums: Int32Array; readonly clipped: number } {
  const sums = new Int32Array(rows * columns);
  let clipped = 0;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let k = 0; k < depth; k += 2) {
        const first = x[r * depth + k]! * w[k * columns + c]!;
        const second = k + 1 < depth ? x[r * depth + k + 1]! * w[(k + 1) * columns + c]! : 0;
        const pair = clippedPair(first + second);
        if (pair !== first + second) clipped++;
        sum += saturating ? pair : first + second;
      }
      sums[r * columns + c] = sum;
    }
  }
  return { sums, clipped };
}

/** Sizes of a two-dimensional convolution without groups, stride 1, no padding. */
export interface ConvolutionShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly filters: number;
  readonly kernel: readonly [height: number, width: number];
}

/**
 * The int32 sums of a convolution in the order ONNX Runtime multiplies: rows of the unfolded image, channels innermost.
 *
 * @param x `[channels, height, width]`
 * @param w `[filters, channels, kernel height, kernel width]`
 * @returns sums `[filters, height', width']`
 */
export function convolutionSums(
  x: Uint8Array,
  w: Int8Array,
  shape: ConvolutionShape,
  saturating: boolean,
): { readonly sums: Int32Array; readonly clipped: number } {
  const { channels, height, width, filters } = shape;
  const [kh, kw] = shape.kernel;
  const [outHeight, outWidth] = [height - kh + 1, width - kw + 1];
  const product = { rows: outHeight * outWidth, depth: kh * kw * channels, columns: filters };
  const unfolded = new Uint8Array(product.rows * product.depth);
  const matrix = new Int8Array(product.depth * filters);
  let at = 0;
  for (let r = 0; r < outHeight; r++) {
    for (let c = 0; c < outWidth; c++) {
      for (let i = 0; i < kh; i++) {
        for (let j = 0; j < kw; j++) {
          for (let k = 0; k < channels; k++) unfolded[at++] = x[(k * height + r + i) * width + c + j]!;
        }
      }
    }
  }
  for (let f = 0; f < filters; f++) {
    for (let k = 0; k < channels; k++) {
      for (let t = 0; t < kh * kw; t++) matrix[(t * channels + k) * filters + f] = w[(f * channels + k) * kh * kw + t]!;
    }
  }
  const { sums, clipped } = productSums(unfolded, matrix, product, saturating);
  const turned = new Int32Array(sums.length);
  for (let p = 0; p < product.rows; p++) {
    for (let f = 0; f < filters; f++) turned[f * product.rows + p] = sums[p * filters + f]!;
  }
  return { sums: turned, clipped };
}

/** Largest magnitude that the sum of a pair of some weights could have on any data. `w` is `[columns, depth]`. */
export function reachOfPairs(w: Int8Array, depth: number): number {
  let most = 0;
  for (let c = 0; c < w.length; c += depth) {
    for (let k = 0; k < depth; k += 2) {
      const [a, b] = [w[c + k]!, k + 1 < depth ? w[c + k + 1]! : 0];
      most = Math.max(most, Math.max(a, 0) + Math.max(b, 0), Math.max(-a, 0) + Math.max(-b, 0));
    }
  }
  return 255 * most;
}

/** Sums of pairs of products, as VPMADDUBSW makes them. */
export interface PairSums {
  /** Pairs looked at. */
  readonly pairs: number;
  /** Those that 16 bits do not hold. */
  readonly clipped: number;
  /** Largest magnitude of a pair's sum. */
  readonly largest: number;
}

/**
 * How far the pairs of a product reach.
 *
 * @param x `[rows, depth]`
 * @param w `[columns, depth]`: each output's weights in a row
 */
export function pairSums(x: Uint8Array, w: Int8Array, depth: number): PairSums {
  const [rows, columns] = [x.length / depth, w.length / depth];
  let [clipped, largest] = [0, 0];
  for (let r = 0; r < x.length; r += depth) {
    for (let c = 0; c < w.length; c += depth) {
      for (let k = 0; k < depth; k += 2) {
        const second = k + 1 < depth ? x[r + k + 1]! * w[c + k + 1]! : 0;
        const sum = x[r + k]! * w[c + k]! + second;
        if (sum !== clippedPair(sum)) clipped++;
        largest = Math.max(largest, Math.abs(sum));
      }
    }
  }
  return { pairs: rows * columns * Math.ceil(depth / 2), clipped, largest };
}
