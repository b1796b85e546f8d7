import { z } from "zod";
import type { Value } from "../../graph/graph.ts";

/** Options of networks over square images. */
export const imageOptions = z.object({
  inputChannels: z.number().int().positive().default(3).describe("channels of the images"),
  size: z.number().int().positive().default(32).describe("side of the images, in pixels"),
  classes: z.number().int().positive().default(10).describe("number of classes"),
  width: z.number().positive().default(1).describe("factor on the numbers of channels"),
});

/** The same for networks that were made for digits, as MNIST has them. */
export const digitOptions = imageOptions.extend({
  inputChannels: imageOptions.shape.inputChannels.unwrap().default(1).describe("channels of the images"),
  size: imageOptions.shape.size.unwrap().default(28).describe("side of the images, in pixels"),
});

/** Options of networks over images, defaults filled in. */
export type ImageOptions = z.output<typeof imageOptions>;

/** The input `image`, [batch, inputChannels, size, size]. */
export function imageInput({ inputChannels, size }: ImageOptions): Value {
  return { name: "image", type: { kind: "tensor", dtype: "float32", shape: ["batch", inputChannels, size, size] } };
}

/** The output `logits`, [batch, classes]. */
export function logits({ classes }: Pick<ImageOptions, "classes">): Value {
  return { name: "logits", type: { kind: "tensor", dtype: "float32", shape: ["batch", classes] } };
}

/** A number of channels scaled and rounded to a multiple of 8, by at most 10 % down (Sandler et al. 2018). */
export function scaledChannels(channels: number, width: number): number {
  const wanted = channels * width;
  const rounded = Math.max(8, Math.floor((wanted + 4) / 8) * 8);
  return rounded < 0.9 * wanted ? rounded + 8 : rounded;
}
