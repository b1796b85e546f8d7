import { fail } from "../errors.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Picture } from "./files.ts";
import type { ImagePlan } from "./preprocess.ts";

/**
 * Pictures as one input tensor, `[n, c, h, w]` or `[n, h, w, c]`.
 *
 * @param names what to call each picture in messages
 * @throws PareError where pictures end up in different sizes, or the input's type can't hold them
 */
export function imagesToTensor(pictures: readonly Picture[], plan: ImagePlan, names: (i: number) => string): Tensor {
  return fittedToTensor(
    pictures.map((picture) => fitPicture(picture, plan)),
    plan,
    names,
  );
}

/** A picture in the channels and the size that the model takes, values still 0..255. */
export interface FittedPicture {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Float32Array | Uint8Array;
}

/** As {@link imagesToTensor}, of pictures that are in size already: large originals need not be held together. */
export function fittedToTensor(
  fitted: readonly FittedPicture[],
  plan: ImagePlan,
  names: (i: number) => string,
): Tensor {
  const { height, width, channels } = fitted[0]!;
  const plane = height * width;
  const out = new Float32Array(fitted.length * plane * channels);
  for (const [i, picture] of fitted.entries()) {
    if (picture.height !== height || picture.width !== width) {
      const sizes = `${picture.height}x${picture.width} beside ${height}x${width}`;
      fail(names(i), `pictures of different sizes in one batch: ${sizes}`, "Set 'resize' and 'crop', or a batch of 1");
    }
    for (let c = 0; c < channels; c++) {
      const [scale, shift] = [plan.scale / plan.std[c]!, plan.mean[c]! / plan.std[c]!];
      const source = plan.channels === "BGR" ? channels - 1 - c : c;
      const [start, step] =
        plan.layout === "NCHW" ? [(i * channels + c) * plane, 1] : [i * plane * channels + c, channels];
      for (let p = 0; p < plane; p++) out[start + p * step] = picture.data[p * channels + source]! * scale - shift;
    }
  }
  const n = fitted.length;
  const shape = plan.layout === "NCHW" ? [n, channels, height, width] : [n, height, width, channels];
  return floatsAs(out, shape, plan);
}

function floatsAs(values: Float32Array, shape: readonly number[], { dtype, input }: ImagePlan): Tensor {
  if (dtype === "float32") return float32(shape, values);
  if (dtype === "float16" || dtype === "bfloat16") return tensor(dtype, shape, floatToHalf(values, dtype));
  if (dtype === "float64") return tensor(dtype, shape, Float64Array.from(values));
  if (dtype === "uint8") return tensor(dtype, shape, Uint8ClampedArray.from(values) as unknown as Uint8Array);
  if (dtype === "int8")
    return tensor(
      dtype,
      shape,
      Int8Array.from(values, (v) => Math.min(127, Math.max(-128, Math.round(v)))),
    );
  if (dtype === "int32") return tensor(dtype, shape, Int32Array.from(values, Math.round));
  return fail(`input '${input}'`, `takes ${dtype}, which images are not made into`, "Feed it arrays (.npz) instead");
}

/** Brings a picture to the plan's channels and size. */
export function fitPicture(picture: Picture, plan: ImagePlan): FittedPicture {
  const colours = inChannels(picture, plan.channels === "gray" ? 1 : 3);
  const { width, height } = colours;
  let [h, w] = [height, width];
  if (typeof plan.resize === "number") {
    const ratio = plan.resize / Math.min(height, width);
    [h, w] = [Math.max(1, Math.round(height * ratio)), Math.max(1, Math.round(width * ratio))];
  } else if (plan.resize) [h, w] = plan.resize as [number, number];
  const data = h === height && w === width ? colours.data : resample(colours, h, w);
  if (!plan.crop || (plan.crop[0] === h && plan.crop[1] === w))
    return { width: w, height: h, channels: colours.channels, data };
  return cropCentre(data, h, w, colours.channels, plan.crop);
}

/** Grey from colour by the luma weights of ITU-R BT.601; colour from grey by repetition. */
function inChannels(picture: Picture, channels: number): Picture {
  if (picture.channels === channels) return picture;
  const pixels = picture.width * picture.height;
  const data = new Uint8Array(pixels * channels);
  for (let p = 0; p < pixels; p++) {
    if (channels === 3) data.fill(picture.data[p]!, 3 * p, 3 * p + 3);
    else {
      const [r, g, b] = [picture.data[3 * p]!, picture.data[3 * p + 1]!, picture.data[3 * p + 2]!];
      data[p] = Math.round(0.299 * r + 0.587 * g + 0.114 * b);
    }
  }
  return { ...picture, channels, data };
}

function cropCentre(
  data: Float32Array | Uint8Array,
  height: number,
  width: number,
  channels: number,
  [h, w]: readonly [number, number],
): FittedPicture {
  if (h > height || w > width) {
    fail(
      "preprocessing",
      `can't crop ${h}x${w} out of a picture of ${height}x${width}`,
      "Set 'resize' to at least the crop",
    );
  }
  const [top, left] = [Math.round((height - h) / 2), Math.round((width - w) / 2)];
  const out = new Float32Array(h * w * channels);
  for (let y = 0; y < h; y++) {
    const from = ((top + y) * width + left) * channels;
    out.set(data.subarray(from, from + w * channels), y * w * channels);
  }
  return { width: w, height: h, channels, data: out };
}

/**
 * Resizes with a triangle filter, widened by the ratio when shrinking, so that shrinking averages (bilinear with
 * antialiasing). Separable: rows, then columns.
 */
export function resample(picture: Picture, height: number, width: number): Float32Array {
  const { channels } = picture;
  const across = taps(picture.width, width);
  const rows = new Float32Array(picture.height * width * channels);
  for (let y = 0; y < picture.height; y++) {
    for (const [x, { first, weights }] of across.entries()) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        let at = (y * picture.width + first) * channels + c;
        for (const weight of weights) {
          sum += weight * picture.data[at]!;
          at += channels;
        }
        rows[(y * width + x) * channels + c] = sum;
      }
    }
  }
  const stride = width * channels;
  const out = new Float32Array(height * stride);
  for (const [y, { first, weights }] of taps(picture.height, height).entries()) {
    for (const [k, weight] of weights.entries()) {
      const from = (first + k) * stride;
      for (let i = 0; i < stride; i++) out[y * stride + i]! += weight * rows[from + i]!;
    }
  }
  return out;
}

/** For each of `to` places, which of `from` places it averages, and with what weights. */
function taps(from: number, to: number): { first: number; weights: Float64Array }[] {
  const ratio = from / to;
  const reach = Math.max(1, ratio);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * ratio - 0.5;
    const first = Math.max(0, Math.ceil(centre - reach));
    const last = Math.min(from - 1, Math.floor(centre + reach));
    const weights = Float64Array.from({ length: last - first + 1 }, (_, k) => 1 - Math.abs(first + k - centre) / reach);
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}
