import { basename } from "node:path";
import type { Dataset } from "../data/dataset.ts";
import { graphDigest } from "../formats/digest.ts";
import type { Graph } from "../graph/graph.ts";
import { type Metric, metricOf } from "../metrics/index.ts";
import { dataDigest, type StepCache, stepKeys } from "../recipe/cache.ts";
import type { JudgeOptions } from "../recipe/judge.ts";
import { type Parts, splitData } from "../recipe/split.ts";
import { compare } from "../report/compare.ts";
import type { Report } from "../report/report.ts";
import type { Step } from "../techniques/technique.ts";
import type { OpenData } from "./data.ts";
import type { Environment } from "./environment.ts";
import type { CommonFlags } from "./flags.ts";
import { measuring } from "./measuring.ts";
import { workFolder } from "./work-folder.ts";

/** Flags of commands that change a model under a judge. */
export interface JobFlags extends CommonFlags {
  readonly output: string;
  readonly metric?: string;
  readonly limit?: number;
  readonly calibration: number;
}

/** A model to change, and what to judge the result with. */
export interface Job {
  readonly env: Environment;
  readonly graph: Graph;
  readonly name: string;
  readonly flags: JobFlags;
  readonly data?: OpenData;
}

/** The data in parts that share no sample; with `learn`, one of them to train on. */
export function cutData({ env, flags }: Job, { dataset }: OpenData, learn = false): Promise<Parts> {
  const { calibration, limit } = flags;
  return splitData(dataset, { seed: env.seed, calibration, learn, ...(limit !== undefined && { limit }) });
}

/** The metrics that flags or sidecar name; those that suit the model if absent. */
export function metricsOf({ flags, data }: Job): readonly Metric[] | undefined {
  const names = flags.metric !== undefined ? [flags.metric] : (data?.sidecar.metrics ?? []);
  return names.length > 0 ? names.map(metricOf) : undefined;
}

/** What a judge needs beside the data. */
export function judgeOptions(job: Job): Omit<JudgeOptions, "parts"> {
  const { env } = job;
  const metrics = metricsOf(job);
  const { runtime, seed, signal } = env;
  return { runtime, seed, signal, progress: env.watcher.progress, ...(metrics && { metrics }) };
}

/**
 * Finished steps in a folder, for every chain of steps.
 *
 * @param data what the steps look at
 */
export async function stepCaches(
  { env, graph }: Job,
  folder: string,
  data: readonly Dataset[],
): Promise<(steps: readonly Step[]) => Promise<StepCache>> {
  const model = await graphDigest(graph);
  const digests: string[] = [];
  for (const each of data) digests.push(await dataDigest(each));
  const parts = { model, data: digests.join(), runtime: env.runtime, seed: env.seed };
  return async (steps) => workFolder(folder, await stepKeys(parts, steps));
}

/** The original and what came of it, measured on the confirmation samples. */
export function finalReport(job: Job, parts: Parts, result: Graph | undefined, title?: string): Promise<Report> {
  const { env, graph, name, flags } = job;
  const metrics = metricsOf(job);
  const file = basename(flags.output);
  const made = result ? [{ name: file === name ? flags.output : file, graph: result }] : [];
  return compare([{ name, graph }, ...made], parts.confirmation, {
    ...measuring(env),
    title: title ?? `${name}, compressed`,
    ...(metrics && { metrics }),
  });
}
