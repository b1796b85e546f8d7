import { z } from "zod";
import type { Random } from "../random.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";

/** Random changes of images while training. */
export const augmentOptions = z.object({
  randomCrop: z
    .number()
    .int()
    .min(0)
    .default(0)
    .describe("pixels of padding out of which a crop of the image's size is cut"),
  randomFlip: z.boolean().default(false).describe("mirror half of the images left to right"),
  cutout: z.number().int().min(0).default(0).describe("side of a square that is blanked, in pixels"),
  mixup: z.number().min(0).default(0).describe("alpha of mixup: pairs of images and labels are blended; 0 is off"),
  rotate: z.number().min(0).max(180).default(0).describe("largest rotation either way, degrees"),
  zoom: z.number().min(0).max(0.9).default(0).describe("largest change of size either way, as a share"),
  shift: z.number().min(0).max(0.9).default(0).describe("largest shift either way, as a share of the side"),
});

/** Options of augmentation, defaults filled in. */
export type AugmentOptions = z.output<typeof augmentOptions>;

/** A batch of images [n, channels, height, width] with one-hot or soft labels [n, classes] where mixup needs them. */
export interface ImageBatch {
  readonly images: Tensor;
  readonly labels?: Tensor;
}

interface Size {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/**
 * Changes each image of a batch at random: rotation, zoom and shift by one bilinear resampling, then crop, flip,
 * cutout, and at last mixup (Zhang et al. 2018) over the batch. What lies outside an image is 0: after normalization
 * the mean colour.
 *
 * @param random draws in a fixed order, so a stream in a known state repeats the batch exactly
 */
export function augment({ images, labels }: ImageBatch, options: AugmentOptions, random: Random): ImageBatch {
  const [n, channels, height, width] = images.shape as [number, number, number, number];
  const size = { channels, height, width };
  const source = toFloat32(images);
  const out = new Float32Array(source.length);
  const stride = channels * height * width;
  const affine = options.rotate > 0 || options.zoom > 0 || options.shift > 0;
  const warped = affine ? new Float32Array(stride) : undefined;
  for (let i = 0; i < n; i++) {
    let from = source.subarray(i * stride, (i + 1) * stride);
    const to = out.subarray(i * stride, (i + 1) * stride);
    if (warped) {
      resample(from, warped, size, options, random);
      from = warped;
    }
    const dx = options.randomCrop > 0 ? random.int(2 * options.randomCrop + 1) - options.randomCrop : 0;
    const dy = options.randomCrop > 0 ? random.int(2 * options.randomCrop + 1) - options.randomCrop : 0;
    move(from, to, size, dx, dy, options.randomFlip && random.next() < 0.5);
    if (options.cutout > 0) blank(to, size, options.cutout, random);
  }
  if (options.mixup > 0) return mix(out, labels, images.shape, options.mixup, random);
  return { images: float32(images.shape, out), ...(labels && { labels }) };
}

/** The image shifted by whole pixels, mirrored if asked. */
function move(
  from: Float32Array,
  to: Float32Array,
  { channels, height, width }: Size,
  dx: number,
  dy: number,
  mirrored: boolean,
): void {
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      const row = (c * height + y) * width;
      const sourceY = y + dy;
      if (sourceY < 0 || sourceY >= height) {
        to.fill(0, row, row + width);
        continue;
      }
      const sourceRow = (c * height + sourceY) * width;
      for (let x = 0; x < width; x++) {
        const sourceX = (mirrored ? width - 1 - x : x) + dx;
        to[row + x] = sourceX < 0 || sourceX >= width ? 0 : from[sourceRow + sourceX]!;
      }
    }
  }
}

/** A square around a random point set to 0, cut at the border (DeVries and Taylor 2017). */
function blank(image: Float32Array, { channels, height, width }: Size, side: number, random: Random): void {
  const top = random.int(height) - (side >> 1);
  const left = random.int(width) - (side >> 1);
  const [x0, x1] = [Math.max(0, left), Math.min(width, left + side)];
  for (let c = 0; c < channels; c++) {
    for (let y = Math.max(0, top); y < Math.min(height, top + side); y++) {
      const row = (c * height + y) * width;
      image.fill(0, row + x0, row + x1);
    }
  }
}

/** Rotation, zoom and shift about the centre, bilinear. */
function resample(
  from: Float32Array,
  to: Float32Array,
  size: Size,
  { rotate, zoom, shift }: AugmentOptions,
  random: Random,
): void {
  const { channels, height, width } = size;
  const either = (limit: number): number => (2 * random.next() - 1) * limit;
  const angle = (either(rotate) * Math.PI) / 180;
  const scale = 1 / (1 + either(zoom));
  const [shiftX, shiftY] = [either(shift) * width, either(shift) * height];
  const [cos, sin] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  const [cx, cy] = [(width - 1) / 2, (height - 1) / 2];
  const at = (c: number, y: number, x: number): number =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : from[(c * height + y) * width + x]!;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = [x - cx - shiftX, y - cy - shiftY];
      const [sx, sy] = [cos * u + sin * v + cx, cos * v - sin * u + cy];
      const [x0, y0] = [Math.floor(sx), Math.floor(sy)];
      const [fx, fy] = [sx - x0, sy - y0];
      for (let c = 0; c < channels; c++) {
        const top = at(c, y0, x0) * (1 - fx) + at(c, y0, x0 + 1) * fx;
        const bottom = at(c, y0 + 1, x0) * (1 - fx) + at(c, y0 + 1, x0 + 1) * fx;
        to[(c * height + y) * width + x] = top * (1 - fy) + bottom * fy;
      }
    }
  }
}

/** Each sample blended with another by one share λ ~ Beta(α, α), labels too where there are any. */
function mix(
  images: Float32Array,
  labels: Tensor | undefined,
  shape: readonly number[],
  alpha: number,
  random: Random,
): ImageBatch {
  const share = beta(alpha, random);
  const order = random.shuffle(Array.from({ length: shape[0]! }, (_, i) => i));
  const blend = (values: Float32Array): Float32Array => {
    const stride = values.length / shape[0]!;
    const out = new Float32Array(values.length);
    for (const [i, j] of order.entries()) {
      for (let k = 0; k < stride; k++)
        out[i * stride + k] = share * values[i * stride + k]! + (1 - share) * values[j * stride + k]!;
    }
    return out;
  };
  const blended = labels && float32(labels.shape, blend(toFloat32(labels)));
  return { images: float32(shape, blend(images)), ...(blended && { labels: blended }) };
}

/** Beta(α, α), by Jöhnk's rejection for α <= 1 and as a ratio of gammas above. */
function beta(alpha: number, random: Random): number {
  if (alpha <= 1) {
    for (;;) {
      const u = random.next() ** (1 / alpha);
      const v = random.next() ** (1 / alpha);
      if (u + v > 0 && u + v <= 1) return u / (u + v);
    }
  }
  const [x, y] = [gamma(alpha, random), gamma(alpha, random)];
  return x / (x + y);
}

/** Gamma(α, 1) for α > 1 (Marsaglia and Tsang 2000). */
function gamma(alpha: number, random: Random): number {
  const d = alpha - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = random.normal();
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random.next()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}
