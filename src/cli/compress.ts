import { onnxSize } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import type { StepCache } from "../recipe/cache.ts";
import { compress } from "../recipe/compress.ts";
import { makeJudge } from "../recipe/judge.ts";
import type { LedgerEntry } from "../recipe/ledger.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { run } from "../recipe/run.ts";
import type { Parts } from "../recipe/split.ts";
import type { Target } from "../recipe/target.ts";
import { planReports, verdictReport } from "../report/compress.ts";
import { ledgerLine } from "../report/document.ts";
import type { Report } from "../report/report.ts";
import { trains } from "../techniques/recovery.ts";
import type { Step, TrainingContext } from "../techniques/technique.ts";
import type { OpenData } from "./data.ts";
import { cutData, finalReport, type Job, type JobFlags, judgeOptions, stepCaches } from "./job.ts";
import { peakMemoryOf } from "./memory.ts";
import { judgedTraining, untilInterrupted } from "./training.ts";

/** Flags of `pare compress`. */
export interface CompressFlags extends JobFlags {
  readonly data?: string;
  readonly log?: string;
  readonly recipe?: string;
  readonly target: Target;
  readonly maxDrop: number;
  readonly timeLimit: number;
  readonly work?: string;
  readonly report?: string;
}

/** A compression to do. */
export interface CompressJob extends Job {
  readonly flags: CompressFlags;
  /** Opens the data once more, in another thread, for steps with these options to train on. */
  openTraining(options: readonly Step["options"][]): Promise<OpenData>;
}

/** A finished compression; without a graph, nothing was worth handing out. */
export interface Done {
  readonly graph?: Graph;
  readonly ledger: readonly LedgerEntry[];
  readonly report?: Report;
}

/**
 * Runs a recipe: every step measured on the selection samples, the whole on the confirmation samples. Steps that train
 * learn from neither.
 *
 * @param work where checkpoints of training go
 */
export async function runRecipe(job: CompressJob, recipe: Recipe, work: string): Promise<Done> {
  const { env, data } = job;
  const learning = recipe.steps.map(({ options }) => options).filter(trains);
  const parts = data && (await cutData(job, data, learning.length > 0));
  if (!parts || learning.length === 0) return runSteps(job, recipe, parts);
  const openTraining = (): Promise<OpenData> => job.openTraining(learning);
  const training = await judgedTraining({ flags: job.flags, data, openTraining }, parts, work);
  try {
    return await untilInterrupted(env, work, () => runSteps(job, recipe, parts, training));
  } finally {
    training.close();
  }
}

async function runSteps(
  job: CompressJob,
  { steps, name }: Recipe,
  parts: Parts | undefined,
  training?: TrainingContext,
): Promise<Done> {
  const { env, graph } = job;
  const judge = parts && (await makeJudge(graph, { ...judgeOptions(job), parts }));
  const caches = await cachesOf(job, parts, training !== undefined);
  const cache = await caches?.(steps);
  const context = { ...env.context(parts?.calibration), ...(training && { training }) };
  const result = await run(graph, steps, context, {
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
export async function searchPlan(job: CompressJob): Promise<Done> {
  const { env, graph, flags } = job;
  const data = job.data!;
  const parts = await cutData(job, data);
  const { runtime, signal } = env;
  const memory = (changed: Graph): Promise<number | undefined> => peakMemoryOf(changed, runtime, signal);
  const judge = await makeJudge(graph, { ...judgeOptions(job), parts, ...(flags.target === "memory" && { memory }) });
  const cache = await cachesOf(job, parts);
  const [metric] = (await judge.measure(graph)).scores;
  const looks: Report[] = [];
  const found = await compress(graph, env.context(parts.calibration), judge, {
    target: flags.target,
    maxDrop: flags.maxDrop,
    timeLimit: flags.timeLimit,
    async lastLook(changed) {
      const look = await finalReport(job, parts, changed);
      looks.push(look);
      const { latencyRatio = 1, latencyInterval = [1, 1], slower } = look.comparisons[0]!;
      return { latency: latencyRatio, latencyInterval, slower };
    },
    ...(cache && { cache }),
  });
  // what was looked at last may have been refused; of a model that is not written nothing is shown
  const report = (found.graph && looks.at(-1)) ?? (await finalReport(job, parts, undefined));
  const name = found.confirmed?.after.metric ?? metric?.metric ?? "score";
  const verdict = verdictReport(found, flags, name, parts.samples);
  const whole = { ...report, ledger: found.ledger, plans: planReports(found.plans), verdict };
  return { ledger: found.ledger, report: whole, ...(found.graph && { graph: found.graph }) };
}

async function cachesOf(
  job: CompressJob,
  parts: Parts | undefined,
  learn = false,
): Promise<((steps: readonly Step[]) => Promise<StepCache>) | undefined> {
  const { work } = job.flags;
  const looked = parts ? [parts.calibration, ...(learn ? [parts.training] : [])] : [];
  return work === undefined ? undefined : stepCaches(job, work, looked);
}
