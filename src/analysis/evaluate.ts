import type { Dataset } from "../data/dataset.ts";
import { fixedBatch as fixedBatchOf, runBatch } from "../data/fixed-batch.ts";
import { evaluationSplit } from "../data/samples.ts";
import { requiredInputs } from "../data/synthetic.ts";
import { fail, PareError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { changeOf, type ResamplingOptions, type ScoreChange, type ScoreResult, scoreOf } from "../metrics/change.ts";
import { defaultMetrics, type Judged, type Metric, type Row } from "../metrics/index.ts";
import { givesProbabilities } from "../metrics/probabilities.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { addSums, type Closeness, closenessOf, type Sums } from "./closeness.ts";

/** A model to evaluate, and how to call it in results. */
export interface NamedModel {
  readonly name: string;
  readonly graph: Graph;
}

/** How far an output is from the first model's, over all samples. */
export interface OutputDivergence extends Closeness {
  readonly output: string;
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
export interface EvaluateOptions extends ResamplingOptions {
  /** The first one leads; chosen by {@link defaultMetrics} if absent. */
  readonly metrics?: readonly Metric[];
  /** Samples a run; 32, or what the models' inputs fix, if absent. */
  readonly batch?: number;
  /** "test" or "val" where there is one, else the default split, if absent. */
  readonly split?: string;
  /** At most this many samples, drawn at random by the seed: a split may be sorted by class. */
  readonly limit?: number;
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
  const [first] = models;
  if (!first) fail("evaluate", "there is no model");
  for (const model of models) refuseOtherInputs(first, model);
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

/** Samples are made for the first model's inputs: another model must get by with them. */
function refuseOtherInputs(first: NamedModel, other: NamedModel): void {
  const fed = first.graph.inputs.map(({ name }) => name);
  const missing = requiredInputs(other.graph).find(({ name }) => !fed.includes(name));
  if (!missing) return;
  const what = `takes the input '${missing.name}', but '${first.name}' has only ${fed.join(", ") || "none"}`;
  fail(other.name, what, "Only models with the same inputs can be given the same samples");
}

/** The size of the batch axis that any of the models fixes. */
export function fixedBatch(models: readonly NamedModel[]): number | undefined {
  return models.map(({ graph }) => fixedBatchOf(graph)).find((size) => size !== undefined);
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
  const ofFirst = givesProbabilities(models[0]!.graph);
  // quantized and folded models may hide it: the same scores must be read the same way
  const probabilities = models.map(({ graph }) => givesProbabilities(graph) ?? ofFirst);
  const divergences = models.map(() => new Map<string, Sums>());
  let metrics = options.metrics;
  let rows: Row[][][] = [];
  let samples = 0;
  const { limit, seed = 0 } = options;
  for await (const batch of dataset.batches({ batch: size, split, ...(limit !== undefined && { limit, seed }) })) {
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
        if (canJudge(metric, judged)) for (const row of metric.rows(judged)) rows[m]![k]!.push(row);
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

function canJudge({ needs }: Metric, { labels, reference }: Judged): boolean {
  if (needs === "reference") return reference !== undefined;
  return needs !== "labels or reference" || labels !== undefined || reference !== undefined;
}

function addDivergence(sums: Map<string, Sums>, outputs: Tensors, reference: Tensors): void {
  for (const [name, output] of Object.entries(outputs)) {
    const expected = reference[name];
    if (!expected || expected.size !== output.size || dtypes[output.dtype].kind === "string") continue;
    if (dtypes[expected.dtype].kind !== "float") continue;
    sums.set(name, addSums(sums.get(name), toFloat32(output), toFloat32(expected)));
  }
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
            .filter(({ k }) => rows[0]![k]!.length > 0)
            .map(({ metric, k }) => changeOf(metric, rows[0]![k]!, own[k]!, options)),
    outputs: [...divergences[m]!].map(([output, sums]) => ({ output, ...closenessOf(sums) })),
  };
}
