import { basename } from "node:path";
import { graphDigest } from "../formats/digest.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import { type Metric, metricOf } from "../metrics/index.ts";
import { nodeCompressor } from "../platform/node-compress.ts";
import { dataDigest, type StepCache, stepKeys } from "../recipe/cache.ts";
import { compress } from "../recipe/compress.ts";
import { makeJudge } from "../recipe/judge.ts";
import type { LedgerEntry } from "../recipe/ledger.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { run } from "../recipe/run.ts";
import { type Parts, splitData } from "../recipe/split.ts";
import type { Target } from "../recipe/target.ts";
import { compare } from "../report/compare.ts";
import { planReports, verdictReport } from "../report/compress.ts";
import { ledgerLine } from "../report/document.ts";
import type { Report } from "../report/report.ts";
import type { Step } from "../techniques/technique.ts";
import type { OpenData } from "./data.ts";
import type { Environment } from "./environment.ts";
import type { CommonFlags } from "./flags.ts";
import { machineOf } from "./machine.ts";
import { peakMemoryOf } from "./memory.ts";
import { workFolder } from "./work-folder.ts";

/** Flags of `pare compress`. */
export interface CompressFlags extends CommonFlags {
  readonly output: string;
  readonly data?: string;
  readonly recipe?: string;
  readonly target: Target;
  readonly maxDrop: number;
  readonly metric?: string;
  readonly limit?: number;
  readonly calibration: number;
  readonly timeLimit: number;
  readonly work?: string;
  readonly report?: string;
}

/** A compression to do. */
export interface Job {
  readonly env: Environment;
  readonly graph: Graph;
  readonly name: string;
  readonly flags: CompressFlags;
  readonly data?: OpenData;
}

/** A finished compression; without a graph, nothing was worth handing out. */
export interface Done {
  readonly graph?: Graph;
  readonly ledger: readonly LedgerEntry[];
  readonly report?: Report;
}

/** Runs a recipe: every step measured on the selection samples, the whole on the confirmation samples. */
export async function runRecipe(job: Job, { steps, name }: Recipe): Promise<Done> {
  const { env, graph, data } = job;
  const parts = data && (await cut(job, data));
  const judge = parts && (await makeJudge(graph, { ...judgeOptions(job), parts }));
  const cache = await cacheOf(job, parts, steps);
  const result = await run(graph, steps, env.context(parts?.calibration), {
    measure: judge
      ? (changed) => judge.measure(changed)
      : async (changed) => ({ bytes: onnxSize(changed), scores: [] }),
    onEntry: (entry) => env.watcher.note(ledgerLine(entry)),
    ...(cache && { cache }),
  });
  if (!parts) return result;
  const report = await finalReport(job, parts, result.graph, name === undefined ? undefined : `${job.name}: ${name}`);
  return { ...result, report: { ...report, ledger: result.ledger } };
}

/** Searches for the best plan within the budget, and looks at it once more before it is handed out. */
export async function searchPlan(job: Job): Promise<Done> {
  const { env, graph, flags } = job;
  const data = job.data!;
  const parts = await cut(job, data);
  const judge = await makeJudge(graph, { ...judgeOptions(job), parts });
  const [metric] = (await judge.measure(graph)).scores;
  let report: Report | undefined;
  const found = await compress(graph, env.context(parts.calibration), judge, {
    target: flags.target,
    maxDrop: flags.maxDrop,
    timeLimit: flags.timeLimit,
    async lastLook(changed) {
      report = await finalReport(job, parts, changed);
      const { latencyRatio = 1, latencyInterval = [1, 1], slower } = report.comparisons[0]!;
      return { latency: latencyRatio, latencyInterval, slower };
    },
    ...(flags.work !== undefined && { cache: (steps) => cacheOf(job, parts, steps) as Promise<StepCache> }),
  });
  report ??= await finalReport(job, parts, undefined);
  const name = found.confirmed?.after.metric ?? metric?.metric ?? "score";
  const verdict = verdictReport(found, flags, name, parts.samples);
  const whole = { ...report, ledger: found.ledger, plans: planReports(found.plans), verdict };
  return { ledger: found.ledger, report: whole, ...(found.graph && { graph: found.graph }) };
}

function cut({ env, flags }: Job, { dataset }: OpenData): Promise<Parts> {
  const { calibration, limit } = flags;
  return splitData(dataset, { seed: env.seed, calibration, ...(limit !== undefined && { limit }) });
}

function metricsOf({ flags, data }: Job): readonly Metric[] | undefined {
  const names = flags.metric !== undefined ? [flags.metric] : (data?.sidecar.metrics ?? []);
  return names.length > 0 ? names.map(metricOf) : undefined;
}

function judgeOptions(job: Job) {
  const { env, flags } = job;
  const metrics = metricsOf(job);
  const { runtime, seed, signal } = env;
  return {
    runtime,
    seed,
    signal,
    progress: env.watcher.progress,
    ...(metrics && { metrics }),
    ...(flags.target === "memory" && { memory: (graph: Graph) => peakMemoryOf(graph, runtime, signal) }),
  };
}

async function cacheOf(job: Job, parts: Parts | undefined, steps: readonly Step[]): Promise<StepCache | undefined> {
  const { env, graph, flags } = job;
  if (flags.work === undefined) return undefined;
  const data = parts ? await dataDigest(parts.calibration) : "";
  const keys = await stepKeys({ model: await graphDigest(graph), data, runtime: env.runtime, seed: env.seed }, steps);
  return workFolder(flags.work, keys);
}

/** The original and what came of it, measured on the confirmation samples. */
function finalReport(job: Job, parts: Parts, result: Graph | undefined, title?: string): Promise<Report> {
  const { env, graph, name, flags } = job;
  const metrics = metricsOf(job);
  const file = basename(flags.output);
  const made = result ? [{ name: file === name ? flags.output : file, graph: result }] : [];
  return compare([{ name, graph }, ...made], parts.confirmation, {
    runtime: env.runtime,
    machine: machineOf(env.runtime),
    title: title ?? `${name}, compressed`,
    seed: env.seed,
    signal: env.signal,
    progress: env.watcher.progress,
    compressor: nodeCompressor,
    peakMemory: (model) => peakMemoryOf(model, env.runtime, env.signal),
    command: `pare ${process.argv.slice(2).join(" ")}`,
    ...(metrics && { metrics }),
  });
}
