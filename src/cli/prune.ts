import type { Graph } from "../graph/graph.ts";
import { save } from "../platform/node.ts";
import { folderStore } from "../platform/node-checkpoints.ts";
import { type IterateOptions, type IterateResult, iterate } from "../recipe/iterate.ts";
import { makeJudge } from "../recipe/judge.ts";
import { iterateVerdict, originalLine, roundLine, roundReports } from "../report/iterate.ts";
import type { Report } from "../report/report.ts";
import { keepPreprocess, type OpenData } from "./data.ts";
import { cutData, finalReport, type Job, type JobFlags, judgeOptions, stepCaches } from "./job.ts";
import { judgedTraining, untilInterrupted } from "./training.ts";

/** Flags of `pare prune`, but for those of the techniques. */
export interface PruneFlags extends JobFlags {
  readonly data: string;
  readonly work?: string;
  readonly log?: string;
  readonly report?: string;
}

/** A pruning to do. */
export interface PruneJob extends Job {
  readonly flags: PruneFlags;
  readonly data: OpenData;
  readonly search: Pick<IterateOptions, "cutters" | "targets" | "maxDrop" | "step" | "tolerance" | "rounds">;
  /** Something is trained between the rounds. */
  readonly learn: boolean;
  /** Opens the data once more, in another thread, to train on. */
  openTraining(): Promise<OpenData>;
}

/** Prunes in rounds, and measures what came of it on the confirmation samples. */
export async function pruneInRounds(
  job: PruneJob,
  work: string,
): Promise<{ readonly result: IterateResult; readonly report: Report }> {
  const { env, graph, data, search, learn } = job;
  const parts = await cutData(job, data, learn);
  const judge = await makeJudge(graph, { ...judgeOptions(job), parts });
  const training = learn ? await judgedTraining(job, parts, work) : undefined;
  const timed = search.targets?.some(({ quantity }) => quantity === "ms");
  const kept = training ?? (timed ? { store: await folderStore(work) } : undefined);
  const cache = await stepCaches(job, work, [parts.calibration, ...(training ? [parts.training] : [])]);
  let best: { readonly round: number; readonly graph: Graph } | undefined;
  const { note } = env.watcher;
  const rounds = async (): Promise<readonly [IterateResult, Report]> => {
    try {
      // of what the techniques tell, a line a round is enough
      const context = { ...env.context(parts.calibration), log() {}, ...(kept && { training: kept }) };
      const result = await iterate(graph, context, judge, {
        ...search,
        cache,
        onStart: (size, baseline) => note(originalLine(size, baseline)),
        onRound(round, made) {
          note(roundLine(round));
          if (made) best = { round: round.round, graph: made };
        },
      });
      return [result, await finalReport(job, parts, result.graph, `${job.name}, pruned in rounds`)];
    } catch (error) {
      if (best && error === env.signal.reason) await save(keepPreprocess(best.graph, data), job.flags.output);
      throw error;
    } finally {
      training?.close();
    }
  };
  const [result, report] = await untilInterrupted(env, work, rounds, () =>
    best ? `: ${job.flags.output} is the best so far, of round ${best.round}, not confirmed` : "",
  );
  const verdict = iterateVerdict(result, search, parts.samples);
  return { result, report: { ...report, ledger: result.ledger, plans: roundReports(result), verdict } };
}
