import { fail } from "../errors.ts";
import { type Random, random } from "../random.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32, sizeOf, type Tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { type AugmentOptions, augment } from "./augment.ts";
import type { Batch, Dataset } from "./dataset.ts";
import { hideTokens, type TokenMasking } from "./mask-tokens.ts";
import { regrouped } from "./regroup.ts";

/** The input that takes images. */
export interface ImageInput {
  readonly input: string;
  /** Whether they are [n, height, width, channels], not [n, channels, height, width]. */
  readonly channelsLast?: boolean;
  /** Labels become distributions over so many classes, so that they can be blended. */
  readonly classes?: number;
}

/** Which batches training takes, and what is done to them: plain data, so that another thread can make them. */
export interface BatchPlan {
  readonly split?: string;
  /** Samples a batch, exactly. */
  readonly batch: number;
  /** Batches an epoch: each epoch is shuffled anew. */
  readonly perEpoch: number;
  /** Batches are made for the steps from `from` until before `until`, counted over all epochs. */
  readonly from: number;
  readonly until: number;
  /** Everything random in a batch is drawn from this and from the number of its step. */
  readonly seed: number;
  /** Images to change at random. */
  readonly images?: ImageInput & { readonly options: AugmentOptions };
  /** Tokens to hide at random, which become the labels. */
  readonly tokens?: TokenMasking;
  /** Further inputs: dropout masks of 0 and 1 / keep. */
  readonly masks: readonly { readonly name: string; readonly shape: readonly number[]; readonly keep: number }[];
}

/**
 * The batches of a plan, in the order of its steps. The same plan gives the same batches, from wherever it starts.
 *
 * @throws PareError where an epoch holds fewer samples than the plan says
 */
export async function* plannedBatches(data: Dataset, plan: BatchPlan): AsyncGenerator<Batch> {
  const { batch, perEpoch, seed, split } = plan;
  for (let step = plan.from; step < plan.until; ) {
    const epoch = Math.floor(step / perEpoch);
    const until = Math.min(plan.until, (epoch + 1) * perEpoch);
    const stream = data.batches({
      batch,
      seed: random(seed)
        .fork(`epoch ${epoch}`)
        .int(2 ** 31),
      skip: (step - epoch * perEpoch) * batch,
      limit: (until - step) * batch,
      ...(split !== undefined && { split }),
    });
    for await (const read of regrouped(stream, batch)) {
      yield changed(read, plan, random(seed).fork(`step ${step}`));
      if (++step === until) break;
    }
    if (step < until) fail(data.name, `epoch ${epoch + 1} holds ${step % perEpoch} batches of ${perEpoch}`);
  }
}

/** What is random in one batch. */
function changed(read: Batch, { images, tokens, masks }: BatchPlan, r: Random): Batch {
  const batch = images ? augmented(read, images, r) : tokens ? hideTokens(read, tokens, r) : read;
  const inputs: Record<string, Tensor> = { ...batch.inputs };
  for (const { name, shape, keep } of masks) {
    const mask = new Float32Array(sizeOf(shape));
    for (let i = 0; i < mask.length; i++) mask[i] = r.next() < keep ? 1 / keep : 0;
    inputs[name] = float32(shape, mask);
  }
  return { ...batch, inputs };
}

function augmented(batch: Batch, images: NonNullable<BatchPlan["images"]>, r: Random): Batch {
  const { input, options, classes, channelsLast } = images;
  const given = batch.labels && classes !== undefined ? oneHot(batch.labels, classes) : batch.labels;
  const blended = given && dtypes[given.dtype].kind === "float" ? given : undefined;
  if (options.mixup > 0 && given && !blended) fail("train", "integer labels can't be blended", "Turn mixup off");
  const stored = batch.inputs[input]!;
  const read = channelsLast ? channelsFirst(stored) : stored;
  const made = augment({ images: read, ...(blended && { labels: blended }) }, options, r);
  const written = channelsLast ? channelsBack(made.images) : made.images;
  const labels = made.labels ?? given;
  return { ...batch, inputs: { ...batch.inputs, [input]: written }, ...(labels && { labels }) };
}

/** [n, height, width, channels] as [n, channels, height, width]. */
function channelsFirst(t: Tensor): Tensor {
  const [n, height, width, channels] = t.shape as [number, number, number, number];
  return float32([n, channels, height, width], transposed(toFloat32(t), height * width, channels));
}

/** [n, channels, height, width] as [n, height, width, channels]. */
function channelsBack(t: Tensor): Tensor {
  const [n, channels, height, width] = t.shape as [number, number, number, number];
  return float32([n, height, width, channels], transposed(toFloat32(t), channels, height * width));
}

/** Every matrix of rows x columns in a run of them, transposed. */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  const size = rows * columns;
  for (let start = 0; start < values.length; start += size) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) out[start + c * rows + r] = values[start + r * columns + c]!;
    }
  }
  return out;
}

/**
 * Class indices as rows of 0 and one 1.
 *
 * @throws PareError for an index that is no class
 */
export function oneHot(labels: Tensor, classes: number): Tensor {
  const out = new Float32Array(labels.size * classes);
  for (const [i, label] of toNumbers(labels).entries()) {
    if (!(label >= 0 && label < classes)) fail("train", `label ${label} for ${classes} classes`, "Labels count from 0");
    out[i * classes + label] = 1;
  }
  return float32([labels.size, classes], out);
}
