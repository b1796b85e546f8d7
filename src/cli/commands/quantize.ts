import { basename } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { stringify } from "yaml";
import { fail, messageOf } from "../../errors.ts";
import { load, save } from "../../platform/node.ts";
import { parseSizeTarget, type SizeTarget } from "../../recipe/iterate-size.ts";
import type { MixedTrial } from "../../recipe/mixed.ts";
import { formatNames, formatsOf } from "../../recipe/mixed-formats.ts";
import type { DamageMeasure } from "../../recipe/mixed-sensitivity.ts";
import { reportSections } from "../../report/document.ts";
import { renderTerminal } from "../../report/terminal.ts";
import { addDataFlags, keepPreprocess, openData } from "../data.ts";
import { environment, terminalOptions } from "../environment.ts";
import { addCommon, count, share } from "../flags.ts";
import { interruptedAs, keptIn } from "../interrupt.ts";
import type { JobFlags } from "../job.ts";
import { checkPaths } from "../paths.ts";
import { searchFormats } from "../quantize.ts";
import { writeReport } from "../report-file.ts";
import { writeText } from "../text-file.ts";

interface Flags extends JobFlags {
  readonly data: string;
  readonly formats?: readonly string[];
  readonly target?: SizeTarget;
  readonly maxDrop?: number;
  readonly damage?: DamageMeasure;
  readonly samples: number;
  readonly minElements: number;
  readonly savePlan?: string;
  readonly work?: string;
  readonly report?: string;
}

/** The budget of a search that has no target. */
const usualDrop = 0.01;

/** `pare quantize`: every layer in the format that pays. */
export function define(command: Command, signal: AbortSignal): void {
  command
    .argument("<model>", "an ONNX or Keras file")
    .requiredOption("-o, --output <file>", "the file to write")
    .option("--formats <names>", `what layers may take: ${formatNames.join(", ")} (default: all)`, formats)
    .option(
      "--max-drop <share>",
      "loss budget: points of a share (1% is one point), relative for other metrics (default: 1% without a target, none with one)",
      share,
    )
    .option("--target <size>", "stop at this size: bytes=25%, bytes=200kB, ms=60%, ms=1.5", sizeTarget)
    .addOption(
      new Option(
        "--damage <measure>",
        "what a layer does to the outputs: kl of class probabilities, or noise as a share of the signal; fisher: that of the two which suits the metric, estimated from second derivatives instead of measured (default: measured, what suits the metric)",
      ).choices(["kl", "noise", "fisher"]),
    )
    .option("--samples <number>", "samples that single layers are judged on", count, 32)
    .option(
      "--min-elements <number>",
      "layers with fewer weights have no format of their own: they are integers where others are, or float",
      count,
      1024,
    )
    .option("--save-plan <file>", "write the plan as a recipe (YAML), to edit and to run with compress --recipe")
    .option("--metric <name>", "the metric that the budget is about (default: what suits the model and its labels)")
    .option("--limit <number>", "samples to choose and confirm with, at most", count)
    .option("--calibration <number>", "samples for techniques to look at", count, 256)
    .option("--work <folder>", "keep finished steps there, and take them from there when run again")
    .option("--report <file>", "write a report: .html, .md or .json");
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, true);
  command.action((model: string, flags: Flags) => quantize(command, model, flags, signal));
}

async function quantize(command: Command, model: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { output, report: reportPath, savePlan, target, damage, samples, minElements, work } = flags;
  checkPaths({ inputs: [model, flags.data], output, report: reportPath, plan: savePlan, work });
  const env = await environment(flags, signal);
  const graph = await load(model);
  const data = await openData(command, env, model, graph);
  const maxDrop = flags.maxDrop ?? (target ? undefined : usualDrop);
  const search = {
    ...{ samples, minElements },
    ...(flags.formats && { formats: flags.formats }),
    ...(target && { target }),
    ...(damage && { damage }),
    ...(maxDrop !== undefined && { maxDrop }),
  };
  const job = { ...{ env, graph, flags, data, search, name: basename(model) }, ...(work !== undefined && { work }) };
  const { result, report } = await interruptedAs(
    signal,
    () => keptIn(work),
    () => searchFormats(job),
  );
  if (result.graph) await save(keepPreprocess(result.graph, data), output, { signal });
  if (savePlan !== undefined && result.chosen) writeText(savePlan, planText(result.chosen, basename(model)));
  env.print(renderTerminal(reportSections(report), terminalOptions()));
  env.json(report);
  if (reportPath !== undefined) await writeReport(report, reportPath);
  if (!result.graph) refuse(output, maxDrop);
}

/** A plan as a recipe file. */
function planText({ steps, meanBits }: MixedTrial, model: string): string {
  const named = steps.map(([name, options]) => ({ [name]: options }));
  const name = `${model}, ${meanBits.toFixed(2)} bits a weight`;
  return stringify({ name, steps: ["simplify", ...named] }, { lineWidth: 0 });
}

function refuse(output: string, maxDrop: number | undefined): never {
  const budget = maxDrop === undefined ? "" : ` within the budget of ${(100 * maxDrop).toFixed(2)} %`;
  return fail(
    output,
    `was not written: no choice of formats gains what was asked for${budget}`,
    "Raise --max-drop or allow more --formats; the findings above say what stood in the way",
  );
}

/** The value of `--formats`. */
function formats(text: string): readonly string[] {
  const names = text.split(",").map((part) => part.trim());
  try {
    return formatsOf(names).map(({ name }) => name);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

function sizeTarget(text: string): SizeTarget {
  return parseSizeTarget(text);
}
