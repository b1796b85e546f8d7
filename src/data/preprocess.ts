import { z } from "zod";
import { fail } from "../errors.ts";
import type { Value } from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";

const size = z
  .union([z.int().positive(), z.tuple([z.int().positive(), z.int().positive()])])
  .describe("one number, or [height, width]");
const perChannel = z.union([z.number(), z.array(z.number()).min(1)]);

/**
 * How raw samples become a model's input. Images, in this order: channels, resize, centre crop, then
 * `(x * scale - mean) / std` channel by channel (in the order of `channels`), then the layout.
 * Tables use scale, mean and std, column by column.
 */
export const preprocessSchema = z.strictObject({
  input: z.string().optional().describe("the model input that takes the samples; the first one by default"),
  channels: z.enum(["RGB", "BGR", "gray"]).optional().describe("order of the colour channels"),
  resize: size.optional().describe("one number: the shorter side, keeping the aspect; [height, width]: exactly"),
  crop: size.optional().describe("centre crop, after resizing"),
  scale: z.number().optional().describe("factor on the stored values (0..255 for images); 1/255 for images, else 1"),
  mean: perChannel.optional().describe("subtracted after scaling"),
  std: perChannel.optional().describe("divided by, at last"),
  layout: z.enum(["NCHW", "NHWC"]).optional().describe("order of the axes"),
});

/** How raw samples become a model's input; see {@link preprocessSchema}. Everything absent is inferred. */
export type Preprocess = z.infer<typeof preprocessSchema>;

/** Key of the model's metadata that keeps the preprocessing, as JSON. */
export const preprocessKey = "pare.preprocess";

/**
 * The preprocessing kept in a model's metadata, if any.
 *
 * @throws PareError where it is not valid
 */
export function preprocessOfMetadata(metadata: Readonly<Record<string, string>>): Preprocess | undefined {
  const text = metadata[preprocessKey];
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return fail("model metadata", `'${preprocessKey}' is not JSON`, "Remove it or write it anew", error);
  }
  return parsePreprocess(value, `model metadata '${preprocessKey}'`);
}

/** Metadata that also keeps the preprocessing. */
export function withPreprocess(
  metadata: Readonly<Record<string, string>>,
  preprocess: Preprocess,
): Record<string, string> {
  return { ...metadata, [preprocessKey]: JSON.stringify(preprocess) };
}

/**
 * Checks preprocessing written by a person.
 *
 * @throws PareError naming the first field that is wrong
 */
export function parsePreprocess(value: unknown, who: string): Preprocess {
  const result = preprocessSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.length > 0 ? `field '${issue.path.join(".")}'` : "it";
  const hint = `Known fields: ${Object.keys(preprocessSchema.shape).join(", ")}`;
  return fail(who, `${field}: ${issue.message}`, hint);
}

/** Preprocessing of images with nothing left open but sizes that the model leaves open too. */
export interface ImagePlan {
  readonly input: string;
  readonly dtype: DType;
  readonly channels: "RGB" | "BGR" | "gray";
  /** Absent: the image's own size. */
  readonly resize?: number | readonly [height: number, width: number];
  readonly crop?: readonly [height: number, width: number];
  readonly scale: number;
  /** One a channel, like `std`. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly layout: "NCHW" | "NHWC";
  /** Sentences on what was assumed rather than said; empty where all was said. */
  readonly assumed: readonly string[];
}

/**
 * Completes the preprocessing of images from the model's input: layout and channels from its shape, size from its
 * height and width, scale 1/255 for floats and 1 for integers.
 *
 * @throws PareError where the input does not take images, or the preprocessing contradicts it
 */
export function planImages(input: Value, given: Preprocess = {}): ImagePlan {
  const who = `input '${input.name}'`;
  const { type } = input;
  if (type?.kind !== "tensor") return fail(who, "is not a tensor, so images can't be fed to it");
  const shape = type.shape ?? [null, null, null, null];
  if (shape.length !== 4) fail(who, `takes rank ${shape.length}, images need rank 4`, "Feed it arrays (.npz) instead");
  const assumed: string[] = [];
  const layout = given.layout ?? inferLayout(shape, assumed);
  const [c, h, w] = layout === "NCHW" ? [shape[1], shape[2], shape[3]] : [shape[3], shape[1], shape[2]];
  if (typeof c === "number" && c !== 1 && c !== 3) fail(who, `takes ${c} channels, images have 1 or 3`);
  const channels = given.channels ?? (c === 1 ? "gray" : "RGB");
  if (!given.channels && channels === "RGB") assumed.push("channels in the order RGB");
  const count = channels === "gray" ? 1 : 3;
  if (typeof c === "number" && c !== count)
    fail(who, `takes ${c} channels, but 'channels: ${channels}' makes ${count}`);
  const target = typeof h === "number" && typeof w === "number" ? ([h, w] as const) : undefined;
  const crop = pair(given.crop);
  if (crop && target && (crop[0] !== target[0] || crop[1] !== target[1])) {
    fail(who, `takes ${target.join("x")} pixels, but the crop is ${crop.join("x")}`, "Make the crop fit the model");
  }
  const float = type.dtype.startsWith("float") || type.dtype === "bfloat16";
  const scale = given.scale ?? (float ? 1 / 255 : 1);
  if (given.scale === undefined && float) assumed.push("values x / 255");
  if (float && given.mean === undefined && given.std === undefined && given.scale === undefined) {
    assumed.push("no mean and standard deviation");
  }
  const resize = given.resize ?? (crop ? undefined : target);
  return {
    input: input.name,
    dtype: type.dtype,
    channels,
    ...(resize !== undefined && { resize }),
    ...((crop ?? target) && { crop: crop ?? target! }),
    scale,
    mean: spread(given.mean ?? 0, count, "mean"),
    std: spread(given.std ?? 1, count, "std"),
    layout,
    assumed,
  };
}

function inferLayout(shape: readonly unknown[], assumed: string[]): "NCHW" | "NHWC" {
  const isChannels = (dim: unknown): boolean => dim === 1 || dim === 3;
  if (isChannels(shape[3]) && !isChannels(shape[1])) return "NHWC";
  if (!isChannels(shape[1])) assumed.push("layout NCHW");
  return "NCHW";
}

function pair(value: Preprocess["crop"]): readonly [number, number] | undefined {
  return typeof value === "number" ? [value, value] : value;
}

/**
 * One number a channel.
 *
 * @throws PareError where the list's length is neither 1 nor `count`
 */
export function spread(value: number | readonly number[], count: number, what: string): readonly number[] {
  const list = typeof value === "number" ? [value] : value;
  if (list.length === count) return list;
  if (list.length === 1) return Array<number>(count).fill(list[0]!);
  return fail(
    "preprocessing",
    `'${what}' has ${list.length} numbers for ${count === 1 ? "1 channel" : `${count} channels`}`,
    count === 1 ? "Give 1" : `Give 1 or ${count}`,
  );
}
