import { rmSync } from "node:fs";
import { basename } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { didYouMean, fail, messageOf } from "../../errors.ts";
import { optionFields, valueOfText } from "../../options.ts";
import { load, save } from "../../platform/node.ts";
import { type CutterName, cutter, cutterNames, cutterTechnique } from "../../recipe/iterate-cutters.ts";
import { parseSizeTarget, type SizeTarget } from "../../recipe/iterate-size.ts";
import { reportSections } from "../../report/document.ts";
import { renderTerminal } from "../../report/terminal.ts";
import { recoveryOptions, trains } from "../../techniques/recovery.ts";
import { checkSelection, selectionOptions } from "../../techniques/selection.ts";
import { addDataFlags, keepPreprocess, type OpenData, openData } from "../data.ts";
import { environment, terminalOptions } from "../environment.ts";
import { addCommon, addFlags, count, readFlags, share } from "../flags.ts";
import { checkPaths } from "../paths.ts";
import { type PruneFlags, type PruneJob, pruneInRounds } from "../prune.ts";
import { writeReport } from "../report-file.ts";
import { trainingData } from "../training.ts";

interface Flags extends PruneFlags {
  readonly by: readonly CutterName[];
  readonly target?: readonly SizeTarget[];
  readonly maxDrop?: number;
  readonly step: number;
  readonly tolerance: number;
  readonly rounds?: number;
}

/** The budget of a search that has no target. */
const usualDrop = 0.01;

/** What the techniques that rounds apply have in common. */
const sharedOptions = z.object({ ...selectionOptions, ...recoveryOptions.shape });

/** `pare prune`: cuts, repairs and retrains round by round, within a loss budget or down to a size. */
export function define(command: Command, signal: AbortSignal): void {
  command
    .argument("<model>", "an ONNX or Keras file")
    .requiredOption("-o, --output <file>", "the file to write")
    .addOption(
      new Option("--by <what>", `what to cut, in turn: ${cutterNames.join(", ")}`)
        .argParser(cutters)
        .default([cutterNames[0]!], cutterNames[0]),
    )
    .option(
      "--max-drop <share>",
      "loss budget: points of a share (1% is one point), relative for other metrics (default: 1% without a target, none with one)",
      share,
    )
    .option(
      "--target <size>",
      "stop at this size: sparsity=0.9, macs=50%, parameters=0.3, bytes=200kB, ms=1.5; several with commas",
      sizeTargets,
    )
    .option(
      "--step <share>",
      "share of what is left that a round cuts; halved where that breaks the budget",
      share,
      0.2,
    )
    .option("--tolerance <share>", "smallest step", share, 0.02)
    .option("--rounds <number>", "rounds at most", count);
  for (const name of cutterNames) {
    const { name: technique } = cutterTechnique(name);
    command.option(
      `--${technique} <options>`,
      `its options, as name=value,name=value or JSON, when cutting ${name}`,
      texts,
    );
  }
  command
    .option("--metric <name>", "the metric that the budget is about (default: what suits the model and its labels)")
    .option("--limit <number>", "samples to choose and confirm with, at most", count)
    .option("--calibration <number>", "samples for techniques to look at", count, 256)
    .option(
      "--work <folder>",
      "keep finished rounds and checkpoints there: the same command started again continues from them (default: <output>.work, removed at the end)",
    )
    .option(
      "--log <file>",
      "append lines of JSON: loss, accuracy, rate and speed over the steps of training, and each epoch",
    )
    .option("--report <file>", "write a report: .html, .md or .json");
  addFlags(command, sharedOptions);
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, true);
  command.action((model: string, flags: Flags) => prune(command, model, flags, signal));
}

async function prune(command: Command, model: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { output, report: reportPath } = flags;
  const work = flags.work ?? `${output}.work`;
  checkPaths({ inputs: [model, flags.data], output, report: reportPath, log: flags.log, work });
  const shared = readFlags(command, sharedOptions);
  const options = flags.by.map((name) => ({ ...shared, ...ownOptions(command, name) }));
  const search = searchOf(command, flags, options);
  const env = await environment(flags, signal);
  const graph = await load(model);
  checkSelection(shared, graph, "pare prune");
  const open = (more?: Parameters<typeof openData>[4]): Promise<OpenData> => openData(command, env, model, graph, more);
  const job: PruneJob = {
    ...{ env, graph, flags, search, name: basename(model) },
    data: await open(),
    learn: options.some(trains),
    openTraining: () => open(trainingData([shared], env.seed)),
  };
  const { result, report } = await pruneInRounds(job, work);
  if (result.graph) await save(keepPreprocess(result.graph, job.data), output, { signal });
  if (flags.work === undefined) rmSync(work, { recursive: true, force: true });
  env.print(renderTerminal(reportSections(report), terminalOptions()));
  env.json(report);
  if (reportPath !== undefined) await writeReport(report, reportPath);
  if (!result.graph) refuse(output, search.maxDrop);
}

function refuse(output: string, maxDrop: number | undefined): never {
  const budget = maxDrop === undefined ? "" : ` within the budget of ${(100 * maxDrop).toFixed(2)} %`;
  return fail(
    output,
    `was not written: no round came out smaller${budget}`,
    "Raise --max-drop, cut less at a time (--step, --tolerance) or retrain (--epochs); the findings above say what stood in the way",
  );
}

/** What to cut and when to stop; the default budget is for searches that nothing else would end. */
function searchOf(
  command: Command,
  { by, target = [], step, tolerance, rounds, maxDrop: budget }: Flags,
  options: readonly Readonly<Record<string, unknown>>[],
): PruneJob["search"] {
  const idle = cutterNames.find((name) => ownTexts(command, name).length > 0 && !by.includes(name));
  if (idle !== undefined) {
    fail("pare prune", `--${cutterTechnique(idle).name} is for cutting ${idle}`, `Give --by ${[...by, idle].join()}`);
  }
  if (step === 0) fail("pare prune", "--step 0 cuts nothing", "Give a share above 0");
  const maxDrop = budget ?? (target.length === 0 ? usualDrop : undefined);
  return {
    cutters: by.map((name, i) => cutter(name, options[i])),
    targets: target,
    step,
    tolerance,
    ...(maxDrop !== undefined && { maxDrop }),
    ...(rounds !== undefined && { rounds }),
  };
}

/** Options of one technique as they stand behind its flag: JSON, or `name=value` pairs. */
function ownOptions(command: Command, name: CutterName): Readonly<Record<string, unknown>> {
  const technique = cutterTechnique(name);
  const fields = optionFields(technique.options);
  const who = `pare prune --${technique.name}`;
  const pairs = ownTexts(command, name).flatMap((text): [string, unknown][] => {
    if (text.trimStart().startsWith("{")) return Object.entries(parseJson(text, who));
    return text.split(",").map((pair) => {
      const [, key = "", value = ""] = /^\s*([\w-]+)\s*=\s*(.+?)\s*$/.exec(pair) ?? [];
      if (key === "") fail(who, `'${pair}' is no option`, "Write options as name=value,name=value, or as JSON");
      const field = fields.find((other) => other.key === key || other.flag === key);
      return field ? [field.key, valueOfText(field, value)] : [key, value];
    });
  });
  return Object.fromEntries(pairs);
}

/** What stands behind the flag of a technique: nothing, once or several times. */
function ownTexts(command: Command, name: CutterName): readonly string[] {
  const key = cutterTechnique(name).name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  return (command.getOptionValue(key) ?? []) as readonly string[];
}

function parseJson(text: string, who: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    return fail(who, `is not JSON (${messageOf(error)})`, "Check quotes and braces", error);
  }
}

/** The value of `--by`. */
function cutters(text: string): readonly CutterName[] {
  const names = list(text);
  const unknown = names.find((name) => !cutterNames.some((known) => known === name));
  if (unknown !== undefined || names.length === 0) {
    const hint = didYouMean(unknown ?? "", cutterNames) || `It takes ${cutterNames.join(", ")}.`;
    throw new InvalidArgumentError(hint);
  }
  return [...new Set(names)] as CutterName[];
}

/** The value of `--target`, which may be given several times. */
function sizeTargets(text: string, previous: readonly SizeTarget[] = []): readonly SizeTarget[] {
  return [...previous, ...list(text).map(parseSizeTarget)];
}

function texts(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

function list(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}
