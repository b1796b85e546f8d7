import { measureDivergence } from "../analysis/divergence.ts";
import { type Evaluation, evaluate, fixedBatch, type NamedModel } from "../analysis/evaluate.ts";
import { weightChanges } from "../analysis/histograms.ts";
import { type Inspection, inspect } from "../analysis/inspect.ts";
import { type LatencyResult, measureLatency } from "../analysis/latency.ts";
import { measureSize } from "../analysis/size.ts";
import type { Dataset } from "../data/dataset.ts";
import { syntheticFeeds } from "../data/synthetic.ts";
import { fail } from "../errors.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import type { Metric } from "../metrics/index.ts";
import type { Compressor } from "../platform/meter.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import { version } from "../version.ts";
import { energyOf } from "./activity.ts";
import { type ComparisonReport, type LayerReport, type ModelReport, type Report, reportVersion } from "./report.ts";

/** What {@link compare} needs and may use. */
export interface CompareOptions {
  readonly runtime: Runtime;
  readonly machine: Report["machine"];
  readonly title: string;
  /** The first one leads; those that suit model and labels if absent. */
  readonly metrics?: readonly Metric[];
  readonly split?: string;
  /** Samples to score on, at most. */
  readonly limit?: number;
  /** Samples a run while scoring. */
  readonly batch?: number;
  /** Seconds of timing for each model; 1 if absent, 0 measures no latency. */
  readonly seconds?: number;
  readonly seed?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (done: number, total: number, what: string) => void;
  readonly compressor?: Compressor;
  /** Bytes of memory that loading and running a model takes at its peak; undefined where that can't be measured. */
  readonly peakMemory?: (graph: Graph) => Promise<number | undefined>;
  /** The command line, for the record. */
  readonly command?: string;
}

/** Samples whose inner values are compared. */
const divergenceSamples = 8;
/** A kernel counts as slower beyond this share and this many milliseconds. */
const slowerShare = 1.1;
const slowerMs = 0.005;
/** Single runs kept for the picture of their distribution, evenly picked. */
const mostTimes = 200;
/** Larger models are not compressed for their download size: that would take minutes. */
const compressible = 2 ** 28;

/**
 * Measures models against the first of them on the same samples: scores with paired tests, sizes, interleaved latency,
 * peak memory, estimated energy, layers, divergence, weights. Without data, made-up inputs tell sizes and times alone.
 *
 * @returns a report without ledger and plans
 * @throws PareError where the runtime refuses a model or the data does not fit
 */
export async function compare(
  models: readonly NamedModel[],
  data: Dataset | undefined,
  options: CompareOptions,
): Promise<Report> {
  const { runtime, machine, title, seed = 0, command } = options;
  const evaluation =
    data &&
    (await evaluate(models, data, runtime, {
      seed,
      ...pick(options, ["metrics", "split", "limit", "batch", "signal", "progress"]),
    }));
  const feeds =
    data && evaluation
      ? await samplesOf(data, evaluation.data.split, fixedBatch(models) ?? 1)
      : [syntheticFeeds(models[0]!.graph, random(seed))];
  const latency = await latencies(models, feeds[0]!, options);
  const reports: ModelReport[] = [];
  const inspections: Inspection[] = [];
  for (const [m, model] of models.entries()) {
    options.signal?.throwIfAborted();
    inspections.push(await inspect(model.graph, { runtime, feeds: feeds[0]! }));
    reports.push(await modelReport(model, evaluation?.models[m]?.scores ?? [], m, inspections[m]!, latency, options));
  }
  const comparisons: ComparisonReport[] = [];
  for (let m = 1; m < models.length; m++) {
    const [first, other] = [models[0]!.graph, models[m]!.graph];
    const divergence = evaluation && (await measureDivergence(first, other, runtime, feeds, pick(options, ["signal"])));
    const { ratio, ratioInterval } = latency?.models[m] ?? {};
    comparisons.push({
      model: m,
      bytesRatio: reports[m]!.bytes / reports[0]!.bytes,
      ...(ratio !== undefined && { latencyRatio: ratio }),
      ...(ratioInterval && { latencyInterval: ratioInterval }),
      scores: evaluation?.models[m]?.changes ?? [],
      outputs: evaluation?.models[m]?.outputs ?? [],
      divergence: divergence?.layers ?? [],
      ...(divergence?.firstBad !== undefined && { firstBad: divergence.firstBad }),
      slower: slowerLayers(reports[0]!.layers, reports[m]!.layers),
    });
  }
  return {
    version: reportVersion,
    tool: { name: "pare", version },
    created: new Date().toISOString(),
    title,
    ...(command !== undefined && { command }),
    seed,
    machine,
    ...(evaluation && { data: dataReport(evaluation) }),
    models: reports,
    comparisons,
    ledger: [],
    plans: [],
    weights:
      models.length > 1
        ? await weightChanges(models[0]!.graph, models.at(-1)!.graph, runtime, pick(options, ["signal"]))
        : [],
  };
}

function dataReport({ data: { name, classes }, samples }: Evaluation): NonNullable<Report["data"]> {
  return { name, samples, ...(classes && { classes }) };
}

/** At most `most` of some values, evenly picked. */
function evenly(values: readonly number[], most: number): number[] {
  const step = Math.max(1, values.length / most);
  return Array.from({ length: Math.min(values.length, most) }, (_, i) => values[Math.floor(i * step)]!);
}

/** An object with some keys of another, absent where they are absent there. */
function pick<T extends object, K extends keyof T>(from: T, keys: readonly K[]): { [P in K]?: NonNullable<T[P]> } {
  return Object.fromEntries(keys.filter((key) => from[key] !== undefined).map((key) => [key, from[key]])) as {
    [P in K]?: NonNullable<T[P]>;
  };
}

async function samplesOf(data: Dataset, split: string, batch: number): Promise<Tensors[]> {
  const feeds: Tensors[] = [];
  for await (const { inputs, size } of data.batches({ batch, split, limit: divergenceSamples * batch })) {
    if (size === batch) feeds.push(inputs);
  }
  return feeds.length > 0 ? feeds : fail(data.name, `has fewer samples than the ${batch} that one run takes`);
}

async function latencies(
  models: readonly NamedModel[],
  feeds: Tensors,
  options: CompareOptions,
): Promise<LatencyResult | undefined> {
  const { seconds = 1, runtime, seed = 0, signal } = options;
  if (seconds === 0) return undefined;
  return measureLatency(models, runtime, feeds, { seconds, seed, ...(signal && { signal }) });
}

async function modelReport(
  { name, graph }: NamedModel,
  scores: ModelReport["scores"],
  index: number,
  inspection: Inspection,
  latency: LatencyResult | undefined,
  { compressor, peakMemory }: CompareOptions,
): Promise<ModelReport> {
  const { totals, layers } = inspection;
  const bytes = onnxSize(graph);
  const size = compressor && bytes <= compressible ? await measureSize(graph, compressor) : undefined;
  const peak = await peakMemory?.(graph);
  return {
    name,
    bytes,
    ...(size && { gzip: size.gzip, brotli: size.brotli }),
    parameters: totals.parameters,
    macs: totals.macs,
    nodes: totals.nodes,
    byType: totals.byType as Readonly<Record<string, number>>,
    scores,
    ...(latency && { latency: latency.models[index]!, times: evenly(latency.times[index]!, mostTimes) }),
    ...(peak !== undefined && { peakMemory: peak }),
    energy: energyOf(graph, inspection),
    layers: layers as readonly LayerReport[],
  };
}

/**
 * Layers that take measurably longer than those of the same name, the worst first. A layer of a new name counts, in full,
 * only if its operator is new as well: others were renamed by a fusion.
 */
export function slowerLayers(
  before: readonly LayerReport[],
  after: readonly LayerReport[],
): ComparisonReport["slower"] {
  const old = new Map(before.map((layer) => [layer.name, layer]));
  const known = new Set(before.map(({ op }) => op));
  return after
    .filter(({ name, op }) => old.has(name) || !known.has(op))
    .map(({ name, op, ms = 0 }) => ({ node: name, op, before: old.get(name)?.ms ?? 0, after: ms }))
    .filter((row) => row.after > row.before * slowerShare && row.after - row.before > slowerMs)
    .toSorted((a, b) => b.after - b.before - (a.after - a.before))
    .slice(0, 10);
}
