import type { Graph } from "../graph/graph.ts";
import { makeJudge } from "../recipe/judge.ts";
import { type MixedOptions, type MixedResult, quantizeMixed } from "../recipe/mixed.ts";
import { mixedPlans, mixedVerdict, trialLine } from "../report/mixed.ts";
import type { Report } from "../report/report.ts";
import type { OpenData } from "./data.ts";
import { cutData, finalReport, type Job, judgeOptions, stepCaches } from "./job.ts";

/** A model whose layers are to get formats of their own. */
export interface QuantizeJob extends Job {
  readonly data: OpenData;
  readonly search: Omit<MixedOptions, "cache" | "lastLook" | "onTrial">;
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
  const reports = new Map<Graph | undefined, Report>();
  const reportOn = async (made: Graph | undefined): Promise<Report> => {
    const report = reports.get(made) ?? (await finalReport(job, parts, made, `${job.name}, quantized layer by layer`));
    reports.set(made, report);
    return report;
  };
  const result = await quantizeMixed(graph, context, judge, {
    ...search,
    ...(cache && { cache }),
    async lastLook(made) {
      const { latencyRatio = 1, latencyInterval = [1, 1] } = (await reportOn(made)).comparisons[0]!;
      return { latency: latencyRatio, latencyInterval };
    },
    onTrial: (trial) => env.watcher.note(trialLine(trial)),
  });
  const report = await reportOn(result.graph);
  const { before } = await judge.select(graph);
  const verdict = mixedVerdict(result, search, before.metric, parts.samples);
  return { result, report: { ...report, ledger: result.ledger, plans: mixedPlans(result), verdict } };
}
