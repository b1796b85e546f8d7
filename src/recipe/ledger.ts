import type { Exhibit } from "../techniques/exhibit.ts";

/** A metric of a model on some data, with what is known about its error. */
export interface Score {
  /** As in the table of metrics: "top-1", "perplexity", "agreement", ... */
  readonly metric: string;
  readonly value: number;
  /** 95 % confidence interval, where the metric has one. */
  readonly interval?: readonly [low: number, high: number];
  readonly better: "higher" | "lower";
  /** "%" for shares: `value` is then in 0..1 and shown times 100. */
  readonly unit?: string;
  readonly samples: number;
}

/** Time of one inference, milliseconds. */
export interface Latency {
  readonly median: number;
  /** First and third quartile. */
  readonly quartiles: readonly [low: number, high: number];
  readonly runs: number;
  /** Samples an inference. */
  readonly batch: number;
}

/** What is measured of a model between steps. */
export interface Measurement {
  /** Bytes of the model file as it would be written. */
  readonly bytes: number;
  /** The first one is the one that budgets are about. */
  readonly scores: readonly Score[];
  readonly latency?: Latency;
}

/** A node that a technique left as it was, and why. */
export interface Skip {
  readonly node: string;
  readonly reason: string;
}

/** What a step changed, in numbers. */
export interface Changes {
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  /** Operator counts that differ, "domain:Op" beyond ONNX's own domain: after minus before. */
  readonly operators: Readonly<Record<string, number>>;
  /** Weights that are no longer the same objects, or new. */
  readonly weightsChanged: number;
}

/** One finished step: a line of the ledger. */
export interface LedgerEntry {
  readonly step: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** Wall time of the step alone, without measuring. */
  readonly seconds: number;
  readonly before: Measurement;
  readonly after: Measurement;
  readonly changes: Changes;
  readonly skips: readonly Skip[];
  /** What the step found out, in the order it was shown. */
  readonly exhibits: readonly Exhibit[];
  /** The step was taken from an earlier run's work folder; `seconds` is what it took then. */
  readonly resumed: boolean;
}
