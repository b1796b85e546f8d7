import { basename } from "node:path";
import type { Command } from "commander";
import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import { metricOf } from "../../metrics/index.ts";
import { load } from "../../platform/node.ts";
import { compare } from "../../report/compare.ts";
import { reportSections } from "../../report/document.ts";
import { renderTerminal } from "../../report/terminal.ts";
import { addDataFlags, openData } from "../data.ts";
import { environment, terminalOptions } from "../environment.ts";
import { addCommon, type CommonFlags, count, seconds } from "../flags.ts";
import { measuring } from "../measuring.ts";
import { checkPaths } from "../paths.ts";
import { writeReport } from "../report-file.ts";

/** Flags that say how to measure. */
export interface MeasureFlags extends CommonFlags {
  readonly data: string;
  readonly metric: readonly string[];
  readonly limit?: number;
  readonly batch?: number;
  readonly seconds: number;
  readonly report?: string;
}

/** `pare compare`: models on the same samples, the first being the reference. */
export function define(command: Command, signal: AbortSignal): void {
  command.argument("<models...>", "ONNX files, the first being the reference");
  addMeasureFlags(command);
  command.action((models: readonly string[], flags: MeasureFlags) => {
    if (models.length < 2)
      fail("pare compare", "one model has nothing to be compared with", "Give two or more, or use evaluate");
    return measure(command, models, flags, signal);
  });
}

/** Flags of `evaluate` and `compare`. */
export function addMeasureFlags(command: Command): void {
  command
    .option(
      "--metric <name>",
      "a metric, the first one leads; repeat for more (default: what suits the model)",
      collect,
      [],
    )
    .option("--limit <number>", "samples to score on, at most", count)
    .option("--batch <number>", "samples a run while scoring", count)
    .option("--seconds <time>", "time to spend on timing each model; 0 times nothing", seconds, 1)
    .option("--report <file>", "write a report: .html, .md or .json");
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, true);
}

function collect(text: string, before: readonly string[]): string[] {
  return [...before, ...text.split(",")];
}

/** Measures models, prints the result and writes the report. */
export async function measure(
  command: Command,
  paths: readonly string[],
  flags: MeasureFlags,
  signal: AbortSignal,
): Promise<void> {
  checkPaths({ inputs: [...paths, flags.data], report: flags.report });
  const env = await environment(flags, signal);
  const models: { name: string; graph: Graph }[] = [];
  for (const path of paths) models.push({ name: nameOf(path, paths), graph: await load(path) });
  const { dataset, sidecar } = await openData(command, env, paths[0]!, models[0]!.graph);
  const names = flags.metric.length > 0 ? flags.metric : (sidecar.metrics ?? []);
  const report = await compare(models, dataset, {
    ...measuring(env),
    title:
      models.length > 1
        ? `${models
            .slice(1)
            .map(({ name }) => name)
            .join(", ")} against ${models[0]!.name}`
        : models[0]!.name,
    seconds: flags.seconds,
    ...(names.length > 0 && { metrics: names.map(metricOf) }),
    ...(flags.limit !== undefined && { limit: flags.limit }),
    ...(flags.batch !== undefined && { batch: flags.batch }),
  });
  env.print(renderTerminal(reportSections(report), terminalOptions()));
  env.json(report);
  // last: what was measured is not lost where it can't be written
  if (flags.report !== undefined) await writeReport(report, flags.report);
}

/** A file's name alone, unless two models share it. */
function nameOf(path: string, all: readonly string[]): string {
  const name = basename(path);
  return all.filter((other) => basename(other) === name).length > 1 ? path : name;
}
