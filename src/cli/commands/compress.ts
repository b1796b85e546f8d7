import { rmSync } from "node:fs";
import { basename } from "node:path";
import { type Command, Option } from "commander";
import { fail } from "../../errors.ts";
import { load, save } from "../../platform/node.ts";
import { targets } from "../../recipe/target.ts";
import { reportSections } from "../../report/document.ts";
import type { Report } from "../../report/report.ts";
import { renderTerminal } from "../../report/terminal.ts";
import { trains } from "../../techniques/recovery.ts";
import { type CompressFlags, type CompressJob, type Done, runRecipe, searchPlan } from "../compress.ts";
import { addDataFlags, keepPreprocess, type OpenData, openData } from "../data.ts";
import { environment, terminalOptions } from "../environment.ts";
import { addCommon, count, seconds, share } from "../flags.ts";
import { interruptedAs, keptIn } from "../interrupt.ts";
import { checkPaths } from "../paths.ts";
import { openRecipe } from "../recipe-file.ts";
import { writeReport } from "../report-file.ts";
import { trainingData } from "../training.ts";

/** `pare compress`: searches for what pays within a loss budget, or runs a recipe. */
export function define(command: Command, signal: AbortSignal): void {
  command
    .argument("<model>", "an ONNX or Keras file")
    .requiredOption("-o, --output <file>", "the file to write")
    .option("--recipe <file>", "run this recipe (.yaml, .json, .js, or a preset's name) instead of searching")
    .addOption(new Option("--target <goal>", "what to improve").choices(targets).default("balanced", "balanced"))
    .option(
      "--max-drop <share>",
      "loss budget: points of a share (1% is one point), relative for other metrics",
      share,
      0.01,
    )
    .option("--metric <name>", "the metric that the budget is about (default: what suits the model and its labels)")
    .option("--limit <number>", "samples to choose and confirm with, at most", count)
    .option("--calibration <number>", "samples for techniques to look at", count, 256)
    .option("--time-limit <time>", "try nothing new after this long", seconds, 100)
    .option("--work <folder>", "keep finished steps there, and take them from there when run again")
    .option(
      "--log <file>",
      "with a recipe that trains: append lines of JSON: loss, accuracy, rate and speed over the steps, and each epoch",
    )
    .option("--report <file>", "write a report: .html, .md or .json");
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, false);
  command.action((model: string, flags: CompressFlags) => compressModel(command, model, flags, signal));
}

async function compressModel(
  command: Command,
  model: string,
  flags: CompressFlags,
  signal: AbortSignal,
): Promise<void> {
  const { output, report: reportPath, log } = flags;
  const work = flags.work ?? `${output}.work`;
  checkPaths({ inputs: [model, flags.recipe, flags.data], output, report: reportPath, log, work });
  const recipe = flags.recipe === undefined ? undefined : await openRecipe(flags.recipe);
  if (flags.data === undefined && (!recipe || reportPath !== undefined)) {
    fail("pare compress", "needs data to measure on", "Give --data; only a recipe without report does without");
  }
  const given = command.getOptionValueSource("seed") === "cli";
  const env = await environment(
    { ...flags, seed: given ? (flags.seed ?? 0) : (recipe?.seed ?? flags.seed ?? 0) },
    signal,
  );
  const graph = await load(model);
  const open = (more?: Parameters<typeof openData>[4]): Promise<OpenData> => openData(command, env, model, graph, more);
  const data = flags.data === undefined ? undefined : await open();
  const openTraining: CompressJob["openTraining"] = (options) => open(trainingData(options, env.seed));
  const job: CompressJob = { env, graph, flags, openTraining, name: basename(model), ...(data && { data }) };
  const search = (): Promise<Done> => (recipe ? runRecipe(job, recipe, work) : searchPlan(job));
  const done = await interruptedAs(signal, () => keptIn(flags.work), search);
  if (done.graph) await save(data ? keepPreprocess(done.graph, data) : done.graph, output, { signal });
  if (flags.work === undefined && recipe?.steps.some(({ options }) => trains(options))) {
    rmSync(work, { recursive: true, force: true });
  }
  if (done.report) env.print(renderTerminal(reportSections(done.report), terminalOptions()));
  env.json(done.report ?? { ledger: done.ledger });
  if (reportPath !== undefined && done.report) await writeReport(done.report, reportPath);
  if (!done.graph) refuse(output, done.report);
}

function refuse(output: string, report: Report | undefined): never {
  const { target = "balanced", maxDrop = 0 } = report?.verdict ?? {};
  const aim = {
    balanced: "smaller and no slower",
    size: "smaller",
    latency: "measurably faster",
    memory: "of less memory",
  };
  return fail(
    output,
    `was not written: no plan is ${aim[target]} within the budget of ${(100 * maxDrop).toFixed(2)} %`,
    "Raise --max-drop or --time-limit, or choose another --target; the findings above say what stood in the way",
  );
}
