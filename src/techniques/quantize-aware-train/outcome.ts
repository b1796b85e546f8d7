import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Context } from "../technique.ts";
import { type Settled, settle } from "./export.ts";
import { type Forms, formsOf } from "./forms.ts";
import { integerJob, type Job, weightsJob } from "./jobs.ts";
import { offTies } from "./off-ties.ts";
import type { Options } from "./options.ts";
import { train } from "./train.ts";

/** A simulation as it was trained, and what came of it. */
export interface Outcome {
  readonly forms: Forms;
  readonly job: Job;
  /** The simulation as training left it, and with its steps off ties: what is handed out computes the latter. */
  readonly trained: Graph;
  readonly learned: Graph;
  readonly settled: Settled;
  /** What is handed out. */
  readonly written: Graph;
}

/**
 * Places fake quantization in a model, trains it, and writes the integers; undefined where nothing can be an integer.
 *
 * @throws PareError where there is no data, or it does not fit the model
 */
export async function outcomeOf(input: Graph, options: Options, given: Context): Promise<Outcome | undefined> {
  const context = withData(given);
  const forms = await formsOf(input, options, context);
  const job =
    options.activationBits === 32 ? weightsJob(forms, options, context) : await integerJob(forms, options, context);
  if (!job) return undefined;
  const clusters = job.clusters ? [job.clusters] : [];
  const trained =
    options.epochs > 0 ? await train(job.simulation, input, clusters, options, given) : job.simulation.graph;
  const learned = offTies(job.simulation, trained);
  const settled = await settle(forms, job.simulation, learned, job.sitesOf, context);
  return { forms, job, trained, learned, settled, written: job.write(settled, learned) };
}

/** The context with the training data as its data. */
export function withData(context: Context): Context & Required<Pick<Context, "data">> {
  const data = context.training?.data ?? context.data;
  if (!data) return fail("quantize-aware-train", "needs samples to find ranges on", "Give data");
  return { ...context, data };
}
