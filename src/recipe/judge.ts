import type { Graph } from "../graph/graph.ts";
import type { Drop } from "./budget.ts";
import type { Measurement, Score } from "./ledger.ts";

/** What a graph gains against the original. */
export interface Gain {
  /** Bytes after / before. */
  readonly bytes: number;
  /** Time after / before, of interleaved runs. */
  readonly latency: number;
  /** 95 % interval of `latency`. */
  readonly latencyInterval: readonly [low: number, high: number];
  /** Bytes of memory for weights and activations, after / before. */
  readonly memory: number;
}

/** A graph's first score against the original's, on the same samples. */
export interface Verdict extends Drop {
  readonly before: Score;
  readonly after: Score;
}

/** A kernel and its time in the original and in the changed model, milliseconds of one inference. */
export interface KernelChange {
  readonly node: string;
  readonly op: string;
  readonly before: number;
  readonly after: number;
}

/** What the search asks to have measured; everything relates to one original model and one dataset. */
export interface Judge {
  /** Bytes, scores on the selection samples, and latency. */
  measure(graph: Graph): Promise<Measurement>;
  /** The drop on the selection samples. */
  select(graph: Graph): Promise<Verdict>;
  /** The drop on the confirmation samples, which choose nothing. */
  confirm(graph: Graph): Promise<Verdict>;
  gain(graph: Graph): Promise<Gain>;
  /** Kernels that became slower, worst first. */
  slower(graph: Graph): Promise<readonly KernelChange[]>;
}
