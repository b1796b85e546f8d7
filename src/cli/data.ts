import type { Command } from "commander";
import { z } from "zod";
import type { Dataset, DatasetOptions, Sidecar } from "../data/index.ts";
import { type Preprocess, preprocessOfMetadata, preprocessSchema, withPreprocess } from "../data/preprocess.ts";
import { requiredInputs } from "../data/synthetic.ts";
import type { Graph } from "../graph/graph.ts";
import { nodeFiles } from "../platform/node.ts";
import type { Environment } from "./environment.ts";
import { addFlags, readFlags } from "./flags.ts";

/** How to read a dataset, beyond preprocessing. */
const readingSchema = z.object({
  labels: z.string().optional().describe("the label column of a table, or the label array of an archive"),
  task: z
    .enum(["classification", "regression"])
    .optional()
    .describe("whether numeric labels are classes or quantities"),
  window: z.int().min(1).optional().describe("tokens a sample, for files of tokens"),
});

/** Adds `--data` and what goes with it. */
export function addDataFlags(command: Command, required: boolean): void {
  const flags = "--data <path>";
  const help = "dataset: a file, a folder or a JavaScript module; `path#test` picks a split";
  if (required) command.requiredOption(flags, help);
  else command.option(flags, help);
  command.optionsGroup("Reading the data:");
  addFlags(command, readingSchema);
  addFlags(command, preprocessSchema);
}

/** A dataset opened for a model, and what is known about feeding and judging that model. */
export interface OpenData {
  readonly dataset: Dataset;
  readonly sidecar: Partial<Sidecar>;
  readonly preprocess?: Preprocess;
}

/**
 * Opens the dataset that `--data` names. Preprocessing comes from the model's metadata, its sidecar and the flags, the
 * later going before the earlier.
 *
 * @throws PareError where the data is missing, damaged or does not fit the model
 */
export async function openData(
  command: Command,
  env: Environment,
  model: string,
  graph: Graph,
  more: Pick<DatasetOptions, "background" | "holdOut"> = {},
): Promise<OpenData> {
  // commands that take data but are given none need not load the readers
  const { openDataset, readSidecar } = await import("../data/index.ts");
  const sidecar: Partial<Sidecar> = (await readSidecar(model, nodeFiles)) ?? {};
  const flags = readFlags(command, preprocessSchema);
  const merged = { ...preprocessOfMetadata(graph.metadata), ...sidecar.preprocess, ...flags };
  const preprocess = Object.keys(merged).length > 0 ? merged : undefined;
  const { labels, window, task } = readFlags(command, readingSchema);
  const wanted =
    task ?? (sidecar.task === "classification" || sidecar.task === "regression" ? sidecar.task : undefined);
  const dataset = await openDataset(command.getOptionValue("data") as string, nodeFiles, {
    inputs: requiredInputs(graph),
    outputs: graph.outputs,
    log: env.watcher.note,
    ...more,
    ...(preprocess && { preprocess }),
    ...(labels !== undefined && { labels }),
    ...(window !== undefined && { window }),
    ...(wanted && { task: wanted }),
  });
  return { dataset, sidecar, ...(preprocess && { preprocess }) };
}

/** The graph with its preprocessing in the metadata: whoever gets the file knows how to feed it. */
export function keepPreprocess(graph: Graph, { preprocess }: Pick<OpenData, "preprocess">): Graph {
  return preprocess ? { ...graph, metadata: withPreprocess(graph.metadata, preprocess) } : graph;
}
