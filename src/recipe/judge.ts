import { type Evaluation, evaluate, fixedBatch } from "../analysis/evaluate.ts";
import { type ModelLatency, measureLatency } from "../analysis/latency.ts";
import { timeNodes } from "../analysis/timing.ts";
import { fail } from "../errors.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import { type Graph, nodeLabel, opKey } from "../graph/graph.ts";
import { defaultMetrics, type Metric } from "../metrics/index.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { type Drop, dropOf, idealScore } from "./budget.ts";
import type { Latency, Measurement, Score } from "./ledger.ts";
import type { Parts } from "./split.ts";

/** What a graph gains against the original. */
export interface Gain {
  /** Bytes after / before. */
  readonly bytes: number;
  /** Time after / before, of interleaved runs. */
  readonly latency: number;
  /** 95 % interval of `latency`. */
  readonly latencyInterval: readonly [low: number, high: number];
  /** Bytes of memory at the peak, after / before; of the file where memory is not measured. */
  readonly memory: number;
}

/** A graph's first score against the original's, on the same samples. */
export interface Verdict extends Drop {
  /** What a perfect copy has, where the metric is about likeness to the original. */
  readonly before: Score;
  readonly after: Score;
  readonly samples: number;
}

/** A kernel and its time in the original and in the changed model, milliseconds of one inference. */
export interface KernelChange {
  readonly node: string;
  readonly op: string;
  readonly before: number;
  readonly after: number;
}

/** Measures changed graphs against one original, on one dataset. */
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

/** What {@link makeJudge} needs and may use. */
export interface JudgeOptions {
  readonly runtime: Runtime;
  readonly parts: Pick<Parts, "selection" | "confirmation">;
  /** The first one decides; those that suit model and labels if absent. */
  readonly metrics?: readonly Metric[];
  /** Seconds of timing for each model; 0.3 if absent. */
  readonly seconds?: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly progress?: (done: number, total: number, what: string) => void;
  /** Bytes of memory at the peak of a model's loading and running. */
  readonly memory?: (graph: Graph) => Promise<number | undefined>;
}

interface Judged {
  readonly evaluation: Evaluation;
  readonly latency: ModelLatency;
}

/**
 * A judge of graphs that came from an original. Every graph is measured once, together with the original: the same
 * samples, and timed runs in turn, so that drift of the machine cancels.
 *
 * @throws PareError where the data has no samples
 */
export async function makeJudge(original: Graph, options: JudgeOptions): Promise<Judge> {
  const { runtime, parts, seed, signal, seconds = 0.3, memory } = options;
  const { metrics, feeds } = await prepare(original, options);
  const modelsOf = (graph: Graph): { name: string; graph: Graph }[] =>
    graph === original
      ? [{ name: "original", graph }]
      : [
          { name: "original", graph: original },
          { name: "changed", graph },
        ];
  const scored = (graph: Graph, part: keyof Parts & keyof typeof parts, quick: boolean): Promise<Evaluation> =>
    evaluate(modelsOf(graph), parts[part], runtime, {
      metrics,
      seed,
      quick,
      signal,
      ...(options.progress && { progress: options.progress }),
    });
  const judged = cached(async (graph: Graph): Promise<Judged> => {
    const evaluation = await scored(graph, "selection", true);
    const { models } = await measureLatency(modelsOf(graph), runtime, feeds, { seconds, seed, signal });
    return { evaluation, latency: models.at(-1)! };
  });
  const times = cached((graph: Graph) => timeNodes(graph, runtime, feeds));
  const memories = cached(async (graph: Graph) => (await memory?.(graph)) ?? onnxSize(graph));
  return {
    async measure(graph) {
      const { evaluation, latency } = await judged(graph);
      const own = evaluation.models.at(-1)!.scores;
      const scores = graph === original ? completed(own, metrics, evaluation.samples) : own;
      const steady = graph === original ? latency : relativeTo((await judged(original)).latency, latency);
      return { bytes: onnxSize(graph), scores, latency: steady };
    },
    select: async (graph) => verdictOf((await judged(graph)).evaluation, metrics[0]!),
    confirm: async (graph) => verdictOf(await scored(graph, "confirmation", false), metrics[0]!),
    async gain(graph) {
      const { latency } = await judged(graph);
      return {
        bytes: onnxSize(graph) / onnxSize(original),
        latency: latency.ratio ?? 1,
        latencyInterval: latency.ratioInterval ?? [1, 1],
        memory: (await memories(graph)) / (await memories(original)),
      };
    },
    async slower(graph) {
      const before = new Map([...(await times(original)).nodes].map(([node, ms]) => [nodeLabel(node), ms]));
      const known = new Set(original.nodes.map(opKey));
      return [...(await times(graph)).nodes]
        .map(([node, after]) => ({
          node: nodeLabel(node),
          op: opKey(node),
          before: before.get(nodeLabel(node)),
          after,
        }))
        .filter(({ op, before: old }) => old !== undefined || !known.has(op))
        .map((change) => ({ ...change, before: change.before ?? 0 }))
        .filter((change) => change.after > change.before)
        .sort((a, b) => b.after - b.before - (a.after - a.before));
    },
  };
}

/**
 * A latency as it would have been when the original was first timed: the original's median times the ratio of runs made in
 * turn. So that latencies taken minutes apart can be compared, however the machine's speed has changed.
 */
function relativeTo(original: ModelLatency, { ratio = 1, ...latency }: ModelLatency): Latency {
  const scale = (original.median * ratio) / latency.median;
  const { median, quartiles, runs, batch } = latency;
  return { median: median * scale, quartiles: [quartiles[0] * scale, quartiles[1] * scale], runs, batch };
}

/** The metrics to use, and one run's worth of samples to time. */
async function prepare(
  original: Graph,
  { parts, metrics }: JudgeOptions,
): Promise<{ metrics: readonly Metric[]; feeds: Tensors }> {
  const batch = fixedBatch([{ name: "original", graph: original }]) ?? 1;
  for await (const { inputs, labels } of parts.selection.batches({ batch, limit: batch })) {
    return { metrics: metrics ?? defaultMetrics(original.outputs, labels), feeds: inputs };
  }
  return fail(parts.selection.name, "has no samples to choose by");
}

function cached<T>(compute: (graph: Graph) => Promise<T>): (graph: Graph) => Promise<T> {
  const known = new WeakMap<Graph, Promise<T>>();
  return (graph) => {
    const found = known.get(graph) ?? compute(graph);
    known.set(graph, found);
    return found;
  };
}

/** The original's scores, with those that compare to itself put in. */
function completed(own: readonly Score[], metrics: readonly Metric[], samples: number): Score[] {
  return metrics.flatMap((metric) => {
    const found = own.find((score) => score.metric === metric.name);
    return found ?? (metric.unit === "dB" ? [] : idealScore(metric, samples));
  });
}

function verdictOf({ models, samples }: Evaluation, metric: Metric): Verdict {
  const [original, changed] = [models[0]!, models.at(-1)!];
  const after = changed.scores.find((score) => score.metric === metric.name);
  const before = original.scores.find((score) => score.metric === metric.name) ?? idealScore(metric, samples);
  if (!after) return { before, after: before, samples, drop: 0 };
  const change = changed.changes.find((other) => other.metric === metric.name);
  // a paired interval that could not be told is not to be replaced by one that takes the original's score for exact
  const { interval: _, ...alone } = after;
  return { before, after, samples, ...dropOf(before, change ? alone : after, change?.interval) };
}
