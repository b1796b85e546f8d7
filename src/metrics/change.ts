import type { Metric, Row } from "./metric.ts";
import { bootstrapInterval, type Interval, mcnemar, type PairedTest, pairedBootstrap, wilson } from "./statistics.ts";

/** A metric of a model on some data. */
export interface ScoreResult {
  readonly metric: string;
  /** Shares are in 0..1. */
  readonly value: number;
  /** 95 % confidence: Wilson's for shares of samples, bootstrap otherwise; absent where resamples do not vary. */
  readonly interval?: Interval;
  readonly better: "higher" | "lower";
  readonly unit?: string;
  readonly samples: number;
}

/** How a metric differs between the first model and another, on the same samples. */
export interface ScoreChange {
  readonly metric: string;
  readonly before: number;
  readonly after: number;
  /** after - before. */
  readonly difference: number;
  /** 95 % confidence interval of the difference, paired; absent where resamples do not vary. */
  readonly interval?: Interval;
  /** Two-sided p-value: exact McNemar for shares of samples, paired bootstrap otherwise. */
  readonly p?: number;
  readonly test?: PairedTest["test"];
  readonly better: "higher" | "lower";
  readonly unit?: string;
}

/** How intervals and tests are made. */
export interface ResamplingOptions {
  /** Of the bootstrap; 0 if absent. */
  readonly seed?: number;
  /** Leaves out intervals and tests that take resampling. */
  readonly quick?: boolean;
}

/** A metric's value from its rows, with its interval. */
export function scoreOf(
  metric: Metric,
  rows: readonly Row[],
  { seed = 0, quick = false }: ResamplingOptions = {},
): ScoreResult {
  const interval = countsSamples(metric, rows)
    ? wilson(hits(rows), rows.length)
    : quick
      ? undefined
      : bootstrapOf(metric, rows, seed);
  return {
    metric: metric.name,
    value: metric.value(rows),
    ...(interval && { interval }),
    better: metric.better,
    ...(metric.unit !== undefined && { unit: metric.unit }),
    samples: rows.length,
  };
}

const bootstrapOf = (metric: Metric, rows: readonly Row[], seed: number): Interval | undefined =>
  varying(bootstrapInterval(rows, metric.value, seed));

/** None where resamples do not vary: rows that are all alike do not show what others would do. */
function varying(interval: Interval | undefined): Interval | undefined {
  return interval && interval[0] < interval[1] ? interval : undefined;
}

/** Whether the value is a share of samples, not of places that samples have many of. */
function countsSamples({ proportion = false }: Metric, rows: readonly Row[]): boolean {
  return proportion && rows.every(([, places = 1]) => places === 1);
}

const hits = (rows: readonly Row[]): number => rows.reduce((sum, [hit]) => sum + hit!, 0);

/** How a metric changes between two models' rows on the same samples, with its paired test. */
export function changeOf(
  metric: Metric,
  before: readonly Row[],
  after: readonly Row[],
  { seed = 0, quick = false }: ResamplingOptions = {},
): ScoreChange {
  const [first, second] = [metric.value(before), metric.value(after)];
  const test = countsSamples(metric, before)
    ? mcnemar(count(before, after), count(after, before), before.length)
    : quick
      ? undefined
      : pairedBootstrap(before, after, metric.value, seed);
  const interval = varying(test?.interval);
  return {
    metric: metric.name,
    before: first,
    after: second,
    difference: second - first,
    ...(interval && { interval }),
    ...(test && { p: test.p, test: test.test }),
    better: metric.better,
    ...(metric.unit !== undefined && { unit: metric.unit }),
  };
}

/** Samples that `right` gets right and `wrong` does not. */
function count(right: readonly Row[], wrong: readonly Row[]): number {
  return right.filter((row, i) => row[0] === 1 && wrong[i]![0] === 0).length;
}
