import { oneHot } from "../data/plan.ts";
import { fail } from "../errors.ts";
import { dtypes } from "../tensor/dtype.ts";
import { float32, int64, sizeOf, type Tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import type { LossName } from "./losses.ts";

/** How labels become the target of a loss. */
export interface Target {
  readonly loss: LossName;
  /** How many classes the labels are out of, where they are classes out of several. */
  readonly classes?: number;
  /** Axis of the classes in the logits. */
  readonly classAxis: number;
  /** Whether the loss is fed values in the outputs' shape, not class indices. */
  readonly soft: boolean;
  /**
   * The labels as the loss takes them: float32 or int64.
   *
   * @throws PareError for a class that is none of the outputs', unless it is the one that does not count
   */
  feed(labels: Tensor): Tensor;
}

/**
 * The target of a loss over outputs of a shape: labels as many as the outputs are values (integers of 0 and 1 for a single
 * score), fewer are classes.
 *
 * @param wanted the loss, chosen by the labels if absent
 * @param softLabels labels as distributions over the classes, so that mixup can blend them
 * @param ignore class that does not count
 * @throws PareError where labels, outputs and loss do not fit
 */
export function targetFor(
  labels: Tensor,
  shape: readonly number[],
  wanted: LossName | undefined,
  softLabels: boolean,
  ignore?: number,
): Target {
  if (wanted === "ctc") {
    if (labels.shape.length !== 2 || shape.length !== 3) misfit(labels, shape);
    return { loss: wanted, classAxis: 2, soft: false, feed: plain };
  }
  const integers = dtypes[labels.dtype].kind !== "float";
  if (labels.size === sizeOf(shape)) return valuesFor(integers, shape, wanted, softLabels);
  return integers ? classesFor(labels, shape, wanted, { softLabels, ignore }) : misfit(labels, shape);
}

const overClasses: ReadonlySet<LossName> = new Set(["cross-entropy", "focal", "kl"]);

/** A value for every output. */
function valuesFor(
  integers: boolean,
  shape: readonly number[],
  wanted: LossName | undefined,
  softLabels: boolean,
): Target {
  const loss = wanted ?? (integers ? "binary-cross-entropy" : "mse");
  const inner = shape.slice(1);
  if (overClasses.has(loss) && inner.every((dim) => dim === 1)) {
    fail("train", `${loss} over a single class is always 0`, "Choose binary-cross-entropy");
  }
  if (integers && softLabels) fail("train", "integers can't be blended", "Turn mixup off");
  const feed = (t: Tensor): Tensor => {
    const to = [t.shape[0]!, ...inner];
    if (!integers) return { ...plain(t), shape: to };
    const values = toNumbers(t);
    const bad = loss === "binary-cross-entropy" ? values.find((value) => value !== 0 && value !== 1) : undefined;
    if (bad !== undefined) {
      fail("train", `label ${bad} for outputs of shape [${shape.join(", ")}]`, "Binary labels are 0 and 1");
    }
    return float32(to, values);
  };
  return { loss, classAxis: 1, soft: true, feed };
}

/** A class for every place. */
function classesFor(
  labels: Tensor,
  shape: readonly number[],
  wanted: LossName | undefined,
  { softLabels, ignore }: { readonly softLabels: boolean; readonly ignore: number | undefined },
): Target {
  const loss = wanted ?? "cross-entropy";
  const classAxis = labels.shape.length === 2 && shape.length === 3 ? 2 : 1;
  const places = shape.filter((_, axis) => axis !== classAxis);
  if (labels.size !== sizeOf(places)) misfit(labels, shape);
  const classes = shape[classAxis]!;
  if (softLabels || loss === "binary-cross-entropy") {
    const hint = softLabels ? "Turn mixup off" : "Choose cross-entropy";
    if (shape.length !== 2) fail("train", "labels as distributions need one class a sample", hint);
    const feed = (t: Tensor): Tensor => (dtypes[t.dtype].kind === "float" ? plain(t) : oneHot(t, classes));
    return { loss, classes, classAxis, soft: true, feed };
  }
  const inner = places.slice(1);
  const feed = (t: Tensor): Tensor => {
    const values = toNumbers(t);
    const bad = values.find((label) => !(label >= 0 && label < classes) && label !== ignore);
    if (bad !== undefined) {
      const hint = `Labels count from 0; if it stands for nothing, give --ignore=${bad}`;
      fail("train", `label ${bad} for ${classes} classes`, hint);
    }
    return int64(values, [t.shape[0]!, ...inner]);
  };
  return { loss, classes, classAxis, soft: false, feed };
}

/** In the one type of floats and the one of integers that the losses are written for. */
function plain(t: Tensor): Tensor {
  if (dtypes[t.dtype].kind === "float") return t.dtype === "float32" ? t : float32(t.shape, toFloat32(t));
  return t.dtype === "int64" ? t : int64(toNumbers(t), t.shape);
}

function misfit(labels: Tensor, shape: readonly number[]): never {
  const what = `labels of shape [${labels.shape.join(", ")}] for outputs of shape [${shape.join(", ")}]`;
  return fail("train", what, "Check that data and model belong together");
}
