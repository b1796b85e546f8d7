import { z } from "zod";
import { ctc } from "./ctc.ts";
import type { Arithmetic } from "./emit.ts";

/** Options of all losses; each reads what it knows. */
export const lossOptions = z.object({
  loss: z
    .enum(["cross-entropy", "binary-cross-entropy", "focal", "mse", "huber", "kl", "ctc"])
    .optional()
    .describe("what to minimise; from the labels if absent"),
  smoothing: z.number().min(0).max(0.9).default(0).describe("label smoothing of the cross-entropy"),
  focusing: z.number().min(0).default(2).describe("focusing of the focal loss"),
  delta: z.number().positive().default(1).describe("where the Huber loss turns linear"),
  blank: z.number().int().min(0).default(0).describe("class that stands for nothing in the CTC loss"),
  ignore: z.number().int().optional().describe("class index that does not count, as padding"),
});

/** Options of a loss, defaults filled in. */
export type LossOptions = z.output<typeof lossOptions>;

/** Names of a loss. */
export type LossName = NonNullable<LossOptions["loss"]>;

/** What a loss is made of. */
export interface LossParts {
  /** The model's output: logits for the losses over classes. */
  readonly prediction: string;
  readonly shape: readonly number[];
  /** Axis of the classes. */
  readonly classAxis: number;
  /**
   * Class indices (int64, the prediction's shape without the class axis; sequences of them for CTC), or values in the
   * prediction's shape.
   */
  readonly target: string;
  readonly soft: boolean;
}

/** A loss: writes the nodes that reduce prediction and target to one number, and returns its name. */
export type Loss = (a: Arithmetic, parts: LossParts, options: LossOptions) => string;

function mean(a: Arithmetic, x: string): string {
  return a.op("ReduceMean", [x], { keepdims: 0 });
}

/** Indices as one-hot rows along the class axis, soft targets as they are; smoothed: (1 - s) t + s / classes. */
function distribution(a: Arithmetic, { target, soft, shape, classAxis }: LossParts, smoothing: number): string {
  const classes = shape[classAxis]!;
  const off = smoothing / classes;
  if (soft) return smoothing === 0 ? target : a.add(a.mul(target, a.scalar(1 - smoothing)), a.scalar(off));
  const depth = a.op("Reshape", [a.ints([classes]), a.ints([])]);
  const values = a.op(
    "Concat",
    [a.op("Reshape", [a.scalar(off), a.ints([1])]), a.op("Reshape", [a.scalar(1 - smoothing + off), a.ints([1])])],
    { axis: 0 },
  );
  return a.op("OneHot", [target, depth, values], { axis: classAxis });
}

/** Mean over the samples that count: all, or those whose class is not the ignored one. */
function meanCounted(a: Arithmetic, perSample: string, parts: LossParts, ignore: number | undefined): string {
  if (ignore === undefined || parts.soft) return mean(a, perSample);
  const skipped = a.op("Equal", [parts.target, a.op("Reshape", [a.ints([ignore]), a.ints([])])]);
  const counts = a.op("Cast", [a.op("Not", [skipped])], { to: 1 });
  const total = a.op("ReduceSum", [a.mul(perSample, counts)], { keepdims: 0 });
  return a.div(total, a.op("Max", [a.op("ReduceSum", [counts], { keepdims: 0 }), a.scalar(1)]));
}

/** -Σ t log softmax(z), over the class axis; mean over everything else. */
const crossEntropy: Loss = (a, parts, { smoothing, ignore }) => {
  const log = a.op("LogSoftmax", [parts.prediction], { axis: parts.classAxis });
  const weighted = a.mul(distribution(a, parts, smoothing), log);
  const perSample = a.op("Neg", [a.op("ReduceSum", [weighted, a.ints([parts.classAxis])], { keepdims: 0 })]);
  return meanCounted(a, perSample, parts, ignore);
};

/** log(1 + exp(z)) - z t over logits; the runtime's Softplus is stable. */
const binaryCrossEntropy: Loss = (a, parts) => {
  const z = parts.prediction;
  return mean(a, a.sub(a.op("Softplus", [z]), a.mul(z, distribution(a, parts, 0))));
};

/** (1 - p)^γ times the cross-entropy, p the probability of the truth (Lin et al. 2017). */
const focal: Loss = (a, parts, { focusing, ignore }) => {
  const log = a.op("LogSoftmax", [parts.prediction], { axis: parts.classAxis });
  const truth = a.op("ReduceSum", [a.mul(distribution(a, parts, 0), log), a.ints([parts.classAxis])], { keepdims: 0 });
  const ease = a.op("Exp", [truth]);
  const weight =
    focusing === 0
      ? a.scalar(1)
      : a.op("Pow", [a.op("Max", [a.sub(a.scalar(1), ease), a.scalar(1e-12)]), a.scalar(focusing)]);
  return meanCounted(a, a.op("Neg", [a.mul(weight, truth)]), parts, ignore);
};

const mse: Loss = (a, { prediction, target }) => {
  const error = a.sub(prediction, target);
  return mean(a, a.mul(error, error));
};

/** e²/2 near zero, δ (|e| - δ/2) beyond: with c = min(|e|, δ), c (|e| - c/2) (Huber 1964). */
const huber: Loss = (a, { prediction, target }, { delta }) => {
  const size = a.op("Abs", [a.sub(prediction, target)]);
  const clipped = a.op("Min", [size, a.scalar(delta)]);
  return mean(a, a.mul(clipped, a.sub(size, a.mul(clipped, a.scalar(0.5)))));
};

/** Σ t (log t - log softmax(z)) for target distributions t; mean over samples. */
const kl: Loss = (a, parts) => {
  const t = distribution(a, parts, 0);
  const logT = a.op("Log", [a.op("Max", [t, a.scalar(1e-12)])]);
  const difference = a.sub(logT, a.op("LogSoftmax", [parts.prediction], { axis: parts.classAxis }));
  return mean(a, a.op("ReduceSum", [a.mul(t, difference), a.ints([parts.classAxis])], { keepdims: 0 }));
};

/** The losses by name. */
export const losses: Readonly<Record<LossName, Loss>> = {
  "cross-entropy": crossEntropy,
  "binary-cross-entropy": binaryCrossEntropy,
  focal,
  mse,
  huber,
  kl,
  ctc,
};

/** Share of the samples that count whose class has the highest logit; of soft targets the largest share is the class. */
export function accuracyOf(a: Arithmetic, parts: LossParts, ignore: number | undefined): string {
  const { prediction, target, soft, classAxis } = parts;
  const best = (x: string): string => a.op("ArgMax", [x], { axis: classAxis, keepdims: 0 });
  const right = a.op(
    "Cast",
    [a.op("Equal", [best(prediction), soft ? best(target) : a.op("Cast", [target], { to: 7 })])],
    { to: 1 },
  );
  return meanCounted(a, right, parts, ignore);
}

/**
 * Soft targets of a teacher: T² KL(softmax(teacher / T) ‖ softmax(student / T)), mean over samples (Hinton et al. 2015).
 *
 * @param classAxis axis of the classes in both logits
 */
export function distillationLoss(
  a: Arithmetic,
  student: string,
  teacher: string,
  classAxis: number,
  temperature: number,
): string {
  const cooled = (x: string): string => (temperature === 1 ? x : a.mul(x, a.scalar(1 / temperature)));
  const logTeacher = a.op("LogSoftmax", [cooled(teacher)], { axis: classAxis });
  const logStudent = a.op("LogSoftmax", [cooled(student)], { axis: classAxis });
  const terms = a.mul(a.op("Exp", [logTeacher]), a.sub(logTeacher, logStudent));
  const divergence = mean(a, a.op("ReduceSum", [terms, a.ints([classAxis])], { keepdims: 0 }));
  return temperature === 1 ? divergence : a.mul(divergence, a.scalar(temperature ** 2));
}

/** Squared error against a teacher's output as a share of that one's squares, so that outputs of any scale count alike. */
export function relativeError(a: Arithmetic, student: string, teacher: string): string {
  const error = a.sub(student, teacher);
  return a.div(mean(a, a.mul(error, error)), a.add(mean(a, a.mul(teacher, teacher)), a.scalar(1e-12)));
}
