import { rowsOf } from "../data/arrays.ts";
import type { Batch, Dataset } from "../data/dataset.ts";
import { evaluationSplit } from "../data/samples.ts";
import { fail, PareError } from "../errors.ts";
import { type Graph, opKey } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import { defaultMetrics, type Judged, type Metric, type Row } from "../metrics/index.ts";
import { decibels } from "../metrics/reference.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import { dtypes, packedBytes } from "../tensor/dtype.ts";
import { type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import { bootstrapInterval, type Interval, mcnemar, type PairedTest, pairedBootstrap, wilson } from "./compare.ts";

/** A model to evaluate, and how to call it in results. */
export interface NamedModel {
  readonly name: string;
  readonly graph: Graph;
}

/** A metric of a model on some data. */
export interface ScoreResult {
  readonly metric: string;
  /** Shares are in 0..1. */
  readonly value: number;
  /** 95 % confidence: Wilson's for shares of samples, bootstrap otherwise. */
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
  /** 95 % confidence interval of the difference, paired. */
  readonly interval?: Interval;
  /** Two-sided p-value: exact McNemar for shares of samples, paired bootstrap otherwise. */
  readonly p?: number;
  readonly test?: PairedTest["test"];
  readonly better: "higher" | "lower";
  readonly unit?: string;
}

/** How far an output is from the first model's, over all samples. */
export interface OutputDivergence {
  readonly output: string;
  /** 10 log10(Σ r² / Σ (y - r)²), decibels, within ±200. */
  readonly sqnr: number;
  /** Σ y r / √(Σ y² Σ r²). */
  readonly cosine: number;
  readonly maxError: number;
}

/** One model's results. */
export interface ModelEvaluation {
  readonly name: string;
  readonly scores: readonly ScoreResult[];
  /** Against the first model; empty for the first. */
  readonly changes: readonly ScoreChange[];
  readonly outputs: readonly OutputDivergence[];
}

/** What {@link evaluate} finds: plain JSON. */
export interface Evaluation {
  readonly version: 1;
  readonly data: { readonly name: string; readonly split: string; readonly classes?: readonly string[] };
  readonly samples: number;
  /** Samples a run. Models that quantize activations as they run depend on it. */
  readonly batch: number;
  readonly runtime: string;
  readonly provider: string;
  /** In the order given; the first is the reference. */
  readonly models: readonly ModelEvaluation[];
}

/** Choices for {@link evaluate}. */
export interface EvaluateOptions {
  /** The first one leads; chosen by {@link defaultMetrics} if absent. */
  readonly metrics?: readonly Metric[];
  /** Samples a run; 32, or what the models' inputs fix, if absent. */
  readonly batch?: number;
  /** "test" or "val" where there is one, else the default split, if absent. */
  readonly split?: string;
  readonly limit?: number;
  /** Of the bootstrap; 0 if absent. */
  readonly seed?: number;
  /** Leaves out intervals and tests that take resampling. */
  readonly quick?: boolean;
  readonly signal?: AbortSignal;
  readonly progress?: (done: number, total: number, what: string) => void;
}

/**
 * Runs models on the same batches and scores them: every metric with its confidence interval, every further model
 * with paired tests against the first and with the divergence of its outputs.
 *
 * @throws PareError where there are no samples, the runtime refuses a model, or a metric does not suit the data
 */
export async function evaluate(
  models: readonly NamedModel[],
  dataset: Dataset,
  runtime: Runtime,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  if (models.length === 0) fail("evaluate", "there is no model");
  const fixed = fixedBatch(models);
  const batch = fixed ?? options.batch ?? 32;
  const sessions: Session[] = [];
  try {
    for (const { graph } of models) sessions.push(await runtime.open(graph));
    const run = (size: number) => collect(models, sessions, dataset, options, size, fixed);
    // a free batch axis in the signature does not mean that the inside of the model agrees
    const { collected, used } = await run(batch).then(
      (collected) => ({ collected, used: batch }),
      async (error: unknown) => {
        if (!(error instanceof PareError) || fixed !== undefined || batch === 1) throw error;
        return { collected: await run(1), used: 1 };
      },
    );
    return {
      version: 1,
      data: {
        name: dataset.name,
        split: options.split ?? evaluationSplit(dataset),
        ...(dataset.classes && { classes: dataset.classes }),
      },
      samples: collected.samples,
      batch: used,
      runtime: runtime.name,
      provider: runtime.provider,
      models: models.map((model, m) => summarize(model, m, collected, options)),
    };
  } finally {
    for (const session of sessions) await session.release();
  }
}

/** The size of the batch axis that a model fixes, if any does: the first axis of its first input that has two or more. */
export function fixedBatch(models: readonly NamedModel[]): number | undefined {
  for (const { graph } of models) {
    for (const { name, type } of graph.inputs) {
      if (graph.weights.has(name) || type?.kind !== "tensor" || (type.shape?.length ?? 0) < 2) continue;
      const first = type.shape![0];
      if (typeof first === "number") return first;
      break;
    }
  }
  return undefined;
}

interface Collected {
  readonly metrics: readonly Metric[];
  /** By model, then by metric; empty for a metric that the model has no reference for. */
  readonly rows: readonly (readonly Row[][])[];
  readonly divergences: readonly Map<string, Sums>[];
  readonly samples: number;
}

async function collect(
  models: readonly NamedModel[],
  sessions: readonly Session[],
  dataset: Dataset,
  options: EvaluateOptions,
  size: number,
  fixed: number | undefined,
): Promise<Collected> {
  const split = options.split ?? evaluationSplit(dataset);
  const total = Math.min(options.limit ?? Number.POSITIVE_INFINITY, dataset.size(split) ?? Number.POSITIVE_INFINITY);
  const probabilities = models.map(({ graph }) => givesProbabilities(graph));
  const divergences = models.map(() => new Map<string, Sums>());
  let metrics = options.metrics;
  let rows: Row[][][] = [];
  let samples = 0;
  const { limit } = options;
  for await (const batch of dataset.batches({ batch: size, split, ...(limit !== undefined && { limit }) })) {
    options.signal?.throwIfAborted();
    metrics ??= defaultMetrics(models[0]!.graph.outputs, batch.labels);
    if (samples === 0) rows = models.map(() => metrics!.map(() => []));
    let reference: Tensors | undefined;
    for (const [m, session] of sessions.entries()) {
      const outputs = await runBatch(session, batch, fixed);
      const judged: Judged = {
        outputs,
        size: batch.size,
        ...(batch.labels && { labels: batch.labels }),
        ...(batch.truth && { truth: batch.truth }),
        ...(reference && { reference }),
        ...(probabilities[m] !== undefined && { probabilities: probabilities[m] }),
      };
      for (const [k, metric] of metrics.entries()) {
        if (metric.needs !== "reference" || reference) for (const row of metric.rows(judged)) rows[m]![k]!.push(row);
      }
      if (reference) addDivergence(divergences[m]!, outputs, reference);
      else reference = outputs;
    }
    samples += batch.size;
    if (Number.isFinite(total)) options.progress?.(samples, total, "samples");
  }
  if (samples === 0) fail(dataset.name, "gave no samples");
  return { metrics: metrics!, rows, divergences, samples };
}

/** Runs a batch; a short one is filled up by repeating its last sample where the model's batch axis is fixed. */
async function runBatch(session: Session, batch: Batch, fixed: number | undefined): Promise<Tensors> {
  if (fixed === undefined || batch.size === fixed) return session.run(batch.inputs);
  const places = Array.from({ length: fixed }, (_, i) => Math.min(i, batch.size - 1));
  const filled = Object.entries(batch.inputs).map(([name, input]) => [name, rowsOf(input, places)] as const);
  const outputs = await session.run(Object.fromEntries(filled));
  return Object.fromEntries(
    Object.entries(outputs).map(([name, output]) => [
      name,
      output.shape[0] === fixed ? firstRows(output, batch.size) : output,
    ]),
  );
}

function firstRows(t: Tensor, count: number): Tensor {
  const inner = t.shape.slice(1);
  const bytes = packedBytes(
    t.dtype,
    inner.reduce((a, b) => a * b, count),
  );
  return tensor(t.dtype, [count, ...inner], t.bytes(0, bytes));
}

/** Operators that pass probabilities on as they are (near enough: quantized ones are rounded). */
const passing = new Set(["Identity", "Cast", "Reshape", "Flatten", "Squeeze", "QuantizeLinear", "DequantizeLinear"]);

/** Whether a model's first output is made by Softmax or Sigmoid; undefined where that can't be seen. */
export function givesProbabilities(graph: Graph): boolean | undefined {
  const { producer } = links(graph);
  let node = producer.get(graph.outputs[0]?.name ?? "");
  while (node && passing.has(opKey(node))) node = producer.get(node.inputs[0]!);
  if (!node) return undefined;
  if (["Softmax", "Sigmoid", "com.microsoft:QLinearSoftmax", "com.microsoft:QLinearSigmoid"].includes(opKey(node))) {
    return true;
  }
  return ["Gemm", "MatMul", "Add", "LogSoftmax"].includes(opKey(node)) ? false : undefined;
}

/** Running sums of an output against the reference. */
interface Sums {
  signal: number;
  noise: number;
  dot: number;
  square: number;
  maxError: number;
}

function addDivergence(sums: Map<string, Sums>, outputs: Tensors, reference: Tensors): void {
  for (const [name, output] of Object.entries(outputs)) {
    const expected = reference[name];
    if (!expected || expected.size !== output.size || dtypes[output.dtype].kind === "string") continue;
    if (dtypes[expected.dtype].kind !== "float") continue;
    sums.set(name, addSums(sums.get(name), toFloat32(output), toFloat32(expected)));
  }
}

/** Adds values against reference values to running sums. */
export function addSums(known: Sums | undefined, y: Float32Array, reference: Float32Array): Sums {
  const sums = known ?? { signal: 0, noise: 0, dot: 0, square: 0, maxError: 0 };
  for (let i = 0; i < y.length; i++) {
    const [value, r] = [y[i]!, reference[i]!];
    const error = Math.abs(value - r);
    // equal infinities (masks) are no error
    if (value === r) {
      if (!Number.isFinite(value)) continue;
    } else if (!(error <= sums.maxError)) sums.maxError = error;
    sums.signal += r * r;
    sums.noise += error * error;
    sums.dot += value * r;
    sums.square += value * value;
  }
  return sums;
}

/** What running sums say. */
export function divergenceOf({ signal, noise, dot, square, maxError }: Sums): Omit<OutputDivergence, "output"> {
  const norm = Math.sqrt(signal * square);
  const cosine = norm === 0 ? (signal === square ? 1 : 0) : dot / norm;
  return { sqnr: decibels(signal, noise), cosine: Number.isNaN(cosine) ? 0 : cosine, maxError };
}

function summarize(model: NamedModel, m: number, collected: Collected, options: EvaluateOptions): ModelEvaluation {
  const { metrics, rows, divergences } = collected;
  const own = rows[m]!;
  const used = metrics.flatMap((metric, k) => (own[k]!.length > 0 ? [{ metric, k }] : []));
  return {
    name: model.name,
    scores: used.map(({ metric, k }) => scoreOf(metric, own[k]!, options)),
    changes:
      m === 0
        ? []
        : used
            .filter(({ metric }) => metric.needs !== "reference")
            .map(({ metric, k }) => changeOf(metric, rows[0]![k]!, own[k]!, options)),
    outputs: [...divergences[m]!].map(([output, sums]) => ({ output, ...divergenceOf(sums) })),
  };
}

/** A metric's value from its rows, with its interval. */
export function scoreOf(
  metric: Metric,
  rows: readonly Row[],
  { seed = 0, quick = false }: Pick<EvaluateOptions, "seed" | "quick"> = {},
): ScoreResult {
  const interval = metric.proportion
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

const bootstrapOf = (metric: Metric, rows: readonly Row[], seed: number) => bootstrapInterval(rows, metric.value, seed);

const hits = (rows: readonly Row[]): number => rows.reduce((sum, [hit]) => sum + hit!, 0);

/** How a metric changes between two models' rows on the same samples, with its paired test. */
export function changeOf(
  metric: Metric,
  before: readonly Row[],
  after: readonly Row[],
  { seed = 0, quick = false }: Pick<EvaluateOptions, "seed" | "quick"> = {},
): ScoreChange {
  const [first, second] = [metric.value(before), metric.value(after)];
  const test = metric.proportion
    ? mcnemar(count(before, after), count(after, before), before.length)
    : quick
      ? undefined
      : pairedBootstrap(before, after, metric.value, seed);
  return {
    metric: metric.name,
    before: first,
    after: second,
    difference: second - first,
    ...(test && { interval: test.interval, p: test.p, test: test.test }),
    better: metric.better,
    ...(metric.unit !== undefined && { unit: metric.unit }),
  };
}

/** Samples that `right` gets right and `wrong` does not. */
function count(right: readonly Row[], wrong: readonly Row[]): number {
  return right.filter((row, i) => row[0] === 1 && wrong[i]![0] === 0).length;
}
