import type { LedgerEntry, Measurement, Score } from "../recipe/ledger.ts";
import type { EpochRecord, StepsRecord } from "../training/progress.ts";

/** Number of the report's layout; a reader refuses a number it does not know. */
export const reportVersion = 1;

/** One layer: a node that has weights or takes time. */
export interface LayerReport {
  readonly name: string;
  /** Operator, with its domain before a colon where that is not ONNX's own. */
  readonly op: string;
  readonly parameters: number;
  /** Bytes of its weights as stored. */
  readonly bytes: number;
  /** Bytes by element type, for layers that mix them. */
  readonly byType: Readonly<Record<string, number>>;
  readonly macs: number;
  /** Milliseconds of one inference, where measured. */
  readonly ms?: number;
  /** Bytes of its outputs for one inference, where observed. */
  readonly activationBytes?: number;
}

/** One model as measured. */
export interface ModelReport extends Measurement {
  /** File name, or how the caller calls it. */
  readonly name: string;
  readonly gzip?: number;
  readonly brotli?: number;
  readonly parameters: number;
  readonly macs: number;
  readonly nodes: number;
  /** Bytes of weights by element type. */
  readonly byType: Readonly<Record<string, number>>;
  /** Highest resident memory of the process running it, bytes, where measured. */
  readonly peakMemory?: number;
  /** Milliseconds of single timed runs, some hundreds of them evenly picked, in the order they were made. */
  readonly times?: readonly number[];
  /** Estimated energy of one inference, joules. */
  readonly energy?: number;
  /** In the order of execution. */
  readonly layers: readonly LayerReport[];
}

/** How a metric differs between the first model and another, on the same samples. */
export interface ScoreDifference {
  readonly metric: string;
  readonly before: number;
  readonly after: number;
  /** after - before. */
  readonly difference: number;
  /** 95 % confidence interval of the difference (paired). */
  readonly interval?: readonly [low: number, high: number];
  /** Two-sided p-value of the paired test. */
  readonly p?: number;
  readonly better: Score["better"];
  readonly unit?: string;
}

/** How far a value inside the network has moved. */
export interface DivergenceReport {
  /** The node that makes the value. */
  readonly node: string;
  readonly value: string;
  /** Signal to quantization noise, decibels. */
  readonly sqnr: number;
  readonly cosine: number;
}

/** A model against the first one. */
export interface ComparisonReport {
  /** Index in {@link Report.models}. */
  readonly model: number;
  /** Bytes after / bytes before. */
  readonly bytesRatio: number;
  /** Time after / time before, of interleaved runs, with its 95 % interval. */
  readonly latencyRatio?: number;
  readonly latencyInterval?: readonly [low: number, high: number];
  readonly scores: readonly ScoreDifference[];
  /** Signal to noise of the outputs against the first model's, decibels; one an output. */
  readonly outputs: readonly { readonly output: string; readonly sqnr: number; readonly cosine: number }[];
  /** Values both models have, in order of execution. */
  readonly divergence: readonly DivergenceReport[];
  /** The first node whose error jumps. */
  readonly firstBad?: string;
  /** Kernels that became slower, worst first; milliseconds of one inference. */
  readonly slower: readonly {
    readonly node: string;
    readonly op: string;
    readonly before: number;
    readonly after: number;
  }[];
}

/** Counts over equal bins between `min` and `max`. */
export interface HistogramReport {
  readonly min: number;
  readonly max: number;
  readonly counts: readonly number[];
}

/** Weights of one layer, before and after. */
export interface WeightsReport {
  readonly layer: string;
  readonly weight: string;
  readonly before: HistogramReport;
  /** Absent where the weight no longer exists under a form that can be read as numbers. */
  readonly after?: HistogramReport;
  /** Smallest and largest weight of every output channel, at most 256 of them. */
  readonly channels?: readonly (readonly [min: number, max: number])[];
  /** Signal to noise of the weight, decibels. */
  readonly sqnr?: number;
}

/** A plan that `compress` tried. */
export interface PlanReport {
  readonly name: string;
  readonly steps: readonly { readonly step: string; readonly options: Readonly<Record<string, unknown>> }[];
  /** Measured on the selection samples; absent where the plan failed. */
  readonly measured?: Measurement;
  /** Loss of the first metric against the baseline, in the budget's unit; negative is a gain. */
  readonly drop?: number;
  readonly outcome: "chosen" | "within budget" | "over budget" | "no gain" | "failed" | "not tried";
  /** Why, in one sentence. */
  readonly reason: string;
}

/** What a search was asked for and what came of it. */
export interface VerdictReport {
  /** What `compress` was to improve. */
  readonly target?: "balanced" | "size" | "latency" | "memory";
  /** What another search was to find, in words: "a model of at most 50 % of the MACs". */
  readonly asked?: string;
  /** The budget, in points for shares (0.01 is one point) and relative for everything else; absent where there is none. */
  readonly maxDrop?: number;
  readonly metric: string;
  /** Drop on the confirmation samples, with its 95 % interval. */
  readonly drop?: number;
  readonly dropInterval?: readonly [low: number, high: number];
  readonly samples: { readonly calibration: number; readonly selection: number; readonly confirmation: number };
  readonly met: boolean;
  /** The sentences a person should read first. */
  readonly findings: readonly string[];
}

/** How a training went. */
export interface TrainingCourse {
  /** Over the steps, a few hundred points. */
  readonly curve: readonly StepsRecord[];
  readonly epochs: readonly EpochRecord[];
  /** The epoch whose weights were kept. */
  readonly best: { readonly epoch: number; readonly score?: number };
  /** The score on the validation split; absent where there was none. */
  readonly metric?: { readonly name: string; readonly better: Score["better"]; readonly unit?: string };
}

/** A training run: what came of it, and how it went. */
export interface TrainingReport extends TrainingCourse {
  /** The model file, or the architecture. */
  readonly model: string;
  readonly output: string;
  readonly bytes: number;
  /** What was minimised, in words. */
  readonly loss: string;
  /** Samples a step. */
  readonly batch: number;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Everything a run found out: plain JSON, with a version. Renderings are made from it and from nothing else. */
export interface Report {
  readonly version: typeof reportVersion;
  readonly tool: { readonly name: "pare"; readonly version: string };
  /** ISO 8601. */
  readonly created: string;
  readonly title: string;
  /** The command line that made the report. */
  readonly command?: string;
  /** Seed of everything random in the run. */
  readonly seed?: number;
  readonly machine: {
    readonly runtime: string;
    readonly provider: string;
    readonly threads: number;
    readonly processor: string;
    readonly platform: string;
  };
  readonly data?: {
    readonly name: string;
    /** Absent where the dataset does not say how many it has. */
    readonly samples?: number;
    readonly classes?: readonly string[];
  };
  /** The original first. */
  readonly models: readonly ModelReport[];
  /** Every further model against the first, in order. */
  readonly comparisons: readonly ComparisonReport[];
  /** Steps that led from the first model to the last. */
  readonly ledger: readonly LedgerEntry[];
  /** What was tried; empty where nothing was searched. */
  readonly plans: readonly PlanReport[];
  readonly verdict?: VerdictReport;
  /** Layers whose weights moved most. */
  readonly weights: readonly WeightsReport[];
  readonly training?: TrainingReport;
}
