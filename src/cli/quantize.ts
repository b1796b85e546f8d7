import { makeJudge } from "../recipe/judge.ts";
import { type MixedOptions, type MixedResult, quantizeMixed } from "../recipe/mixed.ts";
import { mixedPlans, mixedVerdict, trialLine } from "../report/mixed.ts";
import type { Report } from "../report/report.ts";
import type { OpenData } from "./data.ts";
import { cutData, finalReport, type Job, judgeOptions, stepCaches } from "./job.ts";

/** A model whose layers are to get formats of their own. */
export interface QuantizeJob extends Job {
  readonly data: OpenData;
  readonly search: Omit<MixedOptions, "cache" | "onTrial">;
  readonly work?: string;
}

/** Searches for the formats of all layers, and measures what came of it on the confirmation samples. */
export async function searchFormats(
  job: QuantizeJob,
): Promise<{ readonly result: MixedResult; readonly report: Report }> {
  const { env, graph, data, search, work } = job;
  const parts = await cutData(job, data);
  const judge = await makeJudge(graph, { ...judgeOptions(job), parts });
  const cache = work === undefined ? undefined : await stepCaches(job, work, [parts.calibration]);
  // of what the techniques tell, a line a trial is enough
  const context = { ...env.context(parts.calibration), log() {} };
  const result = await quantizeMixed(graph, context, judge, {
    ...search,
    ...(cache && { cache }),
    onTrial: (trial) => env.watcher.note(trialLine(trial)),
  });
  const report = await finalReport(job, parts, result.graph, `${job.name}, quantized layer by layer`);
  const { before } = await judge.select(graph);
  const verdict = mixedVerdict(result, search, before.metric, parts.samples);
  return { result, report: { ...report, ledger: result.ledger, plans: mixedPlans(result), verdict } };
}
