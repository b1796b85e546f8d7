import { rmSync } from "node:fs";
import type { Command } from "commander";
import { fail } from "../../errors.ts";
import { onnxSize } from "../../formats/onnx/index.ts";
import type { Graph } from "../../graph/graph.ts";
import { load, save } from "../../platform/node.ts";
import { folderStore } from "../../platform/node-checkpoints.ts";
import type { Measurement } from "../../recipe/ledger.ts";
import { run } from "../../recipe/run.ts";
import { ledgerLine, skipLines } from "../../report/document.ts";
import { exhibitSections } from "../../report/exhibits.ts";
import { renderTerminal } from "../../report/terminal.ts";
import { trains } from "../../techniques/recovery.ts";
import { checkSelection } from "../../techniques/selection.ts";
import type { Technique, TrainingContext } from "../../techniques/technique.ts";
import type { TrainRecord } from "../../training/train.ts";
import type { CommandModule } from "../commands.ts";
import { addDataFlags, keepPreprocess, openData } from "../data.ts";
import { environment, terminalOptions } from "../environment.ts";
import { addCommon, addFlags, type CommonFlags, readFlags } from "../flags.ts";
import { interruptedAs } from "../interrupt.ts";
import { checkPaths } from "../paths.ts";
import { writeReport } from "../report-file.ts";
import { appendLine, trainingData, untilInterrupted } from "../training.ts";

interface Flags extends CommonFlags {
  readonly output: string;
  readonly data?: string;
  readonly work?: string;
  readonly log?: string;
  readonly report?: string;
  readonly teacher?: string;
}

/** `pare <technique>`: one technique, its flags derived from the schema of its options. */
export function techniqueCommand(technique: Technique): CommandModule {
  return {
    define(command, signal) {
      command.argument("<model>", "an ONNX or Keras file").requiredOption("-o, --output <file>", "the file to write");
      addFlags(command, technique.options);
      if (retrains(technique)) {
        command.option("--teacher <file>", "learn from this model instead of from the one before the technique");
      }
      if (retrains(technique) || learnsRounding(technique)) {
        command.option(
          "--work <folder>",
          "checkpoints of training: the same command started again continues from there (default: <output>.work, removed at the end)",
        );
      }
      if (retrains(technique)) {
        command.option(
          "--log <file>",
          "append lines of JSON: loss, accuracy, rate and speed over the steps, and each epoch",
        );
      }
      command.option("--report <file>", "measure both models and write a report: .html, .md or .json");
      addCommon(command, "json", "quiet", "threads", "seed", "device");
      if (technique.data !== "unused") addDataFlags(command, technique.data === "required");
      command.action((model: string, flags: Flags) => apply(command, technique, model, flags, signal));
    },
  };
}

async function apply(
  command: Command,
  technique: Technique,
  model: string,
  flags: Flags,
  signal: AbortSignal,
): Promise<void> {
  const { output, report, log, work = `${output}.work` } = flags;
  checkPaths({ inputs: [model, flags.data, flags.teacher], output, report, log, work });
  const step = technique(readFlags(command, technique.options));
  const env = await environment(flags, signal);
  const graph = await load(model);
  checkSelection(step.options, graph, `pare ${technique.name}`);
  const training = trains(step.options);
  if (flags.teacher !== undefined && !(training && step.options.distill)) {
    fail("--teacher", "nothing learns from it", training ? "Leave out --no-distill" : "Give --epochs");
  }
  if (log !== undefined && !training) fail("--log", "nothing is trained", "Give --epochs, or leave it out");
  const works = training || (learnsRounding(technique) && step.options.rounding !== "nearest");
  const data =
    flags.data === undefined
      ? undefined
      : await openData(command, env, model, graph, training ? trainingData([step.options], env.seed) : {});
  const context = env.context(data?.dataset);
  const measure = async (measured: Graph): Promise<Measurement> => ({ bytes: onnxSize(measured), scores: [] });
  const result = works
    ? await untilInterrupted(env, work, async () =>
        run(graph, [step], { ...context, training: await trainingContext(work, flags) }, { measure }),
      )
    : await run(graph, [step], context, { measure });
  const entry = result.ledger[0]!;
  const made = data ? keepPreprocess(result.graph, data) : result.graph;
  const saved = await save(made, output, { signal });
  if (works && flags.work === undefined) rmSync(work, { recursive: true, force: true });
  env.print(`${[ledgerLine(entry), ...skipLines(entry)].join("\n")}\n`);
  const found = exhibitSections(result.ledger);
  if (found.length > 0) env.print(`\n${renderTerminal(found, terminalOptions())}`);
  env.json({ input: model, output: saved.path, bytes: saved.bytes, ledger: result.ledger });
  if (report !== undefined) {
    const { techniqueReport } = await import("../technique-report.ts");
    const [input, changed] = [
      { path: model, graph },
      { path: saved.path, graph: made },
    ];
    const measured = await interruptedAs(
      signal,
      () => `. ${saved.path} is written, its report is not.`,
      () => techniqueReport(env, { input, output: changed, entry, ...(data && { data }) }),
    );
    await writeReport(measured, report);
  }
  data?.dataset.close?.();
}

/** Whether a technique can retrain. */
function retrains({ options }: Technique): boolean {
  return "epochs" in options.shape;
}

/** Whether a technique can learn which way weights are rounded. */
function learnsRounding({ options }: Technique): boolean {
  return "rounding" in options.shape;
}

async function trainingContext(work: string, { log, teacher }: Flags): Promise<TrainingContext> {
  return {
    store: await folderStore(work),
    ...(teacher !== undefined && { teacher: await load(teacher) }),
    ...(log !== undefined && { record: (entry: TrainRecord) => appendLine(log, entry) }),
  };
}
