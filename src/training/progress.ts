/** A line of the metrics log: means over the steps since the line before, or over an epoch. */
export type TrainRecord = StepsRecord | EpochRecord;

/** What every line tells. */
interface Measured {
  /** Which training, where a technique trains more than once. */
  readonly training?: string;
  /** Steps done. */
  readonly step: number;
  /** Epoch that the last of them belongs to, counted from 1. */
  readonly epoch: number;
  readonly loss: number;
  /** Share of training samples (or tokens) whose class was right, augmented as they were; absent without classes. */
  readonly accuracy?: number;
  /** Learning rate of the last step. */
  readonly rate: number;
  readonly samplesPerSecond: number;
}

/** Some steps: training writes about {@link stepRecords} of these in all. */
export interface StepsRecord extends Measured {
  readonly kind: "steps";
  /** What constraints on the weights tell after the last step, as sparsity by layer. */
  readonly summaries?: Readonly<Record<string, number>>;
}

/** One epoch. */
export interface EpochRecord extends Measured {
  readonly kind: "epoch";
  /** Score on the validation split, and the metric's name. */
  readonly score?: number;
  readonly metric?: string;
  /** Validation included. */
  readonly seconds: number;
}

/** How many times in a run the log gets a {@link StepsRecord}. */
export const stepRecords = 400;

/** Sums over some steps. */
export interface Sums {
  steps: number;
  loss: number;
  accuracy?: number;
  seconds: number;
}

/** Everything that a run depends on besides the state of the step. Kept in checkpoints, as JSON. */
export interface Progress {
  readonly epochs: EpochRecord[];
  readonly curve: StepsRecord[];
  best: { epoch: number; score?: number };
  /** The file beside the checkpoint that holds the weights of the best epoch, where one was scored. */
  bestFile?: string;
  /** Since the last {@link EpochRecord}. */
  epoch: Sums;
  /** Since the last {@link StepsRecord}. */
  window: Sums;
}

/** Nothing summed yet. */
export function noSums(): Sums {
  return { steps: 0, loss: 0, seconds: 0 };
}

/** A run at its beginning. */
export function startOfRun(): Progress {
  return { epochs: [], curve: [], best: { epoch: 0 }, epoch: noSums(), window: noSums() };
}

/** Counts a step in. */
export function addStep(sums: Sums, { loss, accuracy }: { loss: number; accuracy?: number }, seconds: number): void {
  sums.steps++;
  sums.loss += loss;
  sums.seconds += seconds;
  if (accuracy !== undefined) sums.accuracy = (sums.accuracy ?? 0) + accuracy;
}

/** The means over the steps counted in. */
export function meansOf({ steps, loss, accuracy, seconds }: Sums, batch: number) {
  return {
    loss: loss / Math.max(1, steps),
    ...(accuracy !== undefined && { accuracy: accuracy / Math.max(1, steps) }),
    samplesPerSecond: (steps * batch) / Math.max(seconds, 1e-9),
  };
}
