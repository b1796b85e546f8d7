import { fail } from "../errors.ts";
import type { Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A batch of outputs with all that a metric may compare them to. */
export interface Judged {
  readonly outputs: Tensors;
  /** As in {@link Batch.labels}. */
  readonly labels?: Tensor;
  /** As in {@link Batch.truth}. */
  readonly truth?: readonly unknown[];
  /** Outputs of the reference model on the same samples. */
  readonly reference?: Tensors;
  /** Samples in the batch. */
  readonly size: number;
  /** Whether the class scores are probabilities; judged row by row if absent (see {@link negativeLogLikelihood} in scores.ts). */
  readonly probabilities?: boolean;
}

/** What a metric keeps of one sample: a few numbers, from which any set of samples can be scored. */
export type Row = readonly number[];

/**
 * A way to score a model. Scores are made in two steps, one row a sample and then one value from many rows, so that
 * confidence intervals and paired tests come from resampling the rows.
 */
export interface Metric {
  readonly name: string;
  /** The definition, in a sentence. */
  readonly summary: string;
  readonly better: "higher" | "lower";
  /** "%" for shares, which are kept in 0..1; "dB", ... */
  readonly unit?: string;
  readonly needs: "labels" | "truth" | "reference" | "labels or reference";
  /**
   * Each row is [hits] or [hits, places], and the value is the share of hits: where no sample has more than one place,
   * intervals are Wilson's, the paired test McNemar's.
   */
  readonly proportion?: boolean;
  /** @throws PareError where outputs and labels do not fit the metric */
  rows(judged: Judged): readonly Row[];
  value(rows: readonly Row[]): number;
}

/** Sum over rows of one column divided by the sum of another (of the number of rows if absent). */
export function ratioOf(rows: readonly Row[], over: number, under?: number): number {
  let [top, bottom] = [0, 0];
  for (const row of rows) {
    top += row[over]!;
    bottom += under === undefined ? 1 : row[under]!;
  }
  return top / bottom;
}

/**
 * The output that a metric looks at: the first floating-point one.
 *
 * @throws PareError where there is none
 */
export function mainOutput(outputs: Tensors): { readonly name: string; readonly output: Tensor } {
  const entries = Object.entries(outputs);
  const found = entries.find(([, { dtype }]) => dtypes[dtype].kind === "float") ?? entries[0];
  return found ? { name: found[0], output: found[1] } : fail("metric", "the model has no outputs");
}

/**
 * The labels of a batch.
 *
 * @throws PareError where there are none
 */
export function labelsOf(judged: Judged, metric: string): Tensor {
  return judged.labels ?? fail(metric, "the data has no labels", "Use a metric against the original: agreement, sqnr");
}

/**
 * Elements of one sample in a tensor whose first axis is the batch; 1 sample owns a tensor that has no batch axis.
 *
 * @throws PareError where the samples do not divide the tensor
 */
export function perSample(t: Tensor, size: number, who: string): number {
  if (size === 0 || t.size % size !== 0) fail(who, `an output of shape [${t.shape.join(", ")}] for ${size} samples`);
  return t.size / size;
}
