import { rmSync } from "node:fs";
import type { Command } from "commander";
import type { DatasetOptions } from "../../data/index.ts";
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
import { checkSelection } from "../../techniques/selection.ts";
import type { Technique, TrainingContext } from "../../techniques/technique.ts";
import type { TrainRecord } from "../../training/train.ts";
import type { CommandModule } from "../commands.ts";
import { addDataFlags, keepPreprocess, openData } from "../data.ts";
import { environment, terminalOptions } from "../environment.ts";
import { addCommon, addFlags, type CommonFlags, readFlags } from "../flags.ts";
import { checkOutput } from "../model-files.ts";
import { checkReport, writeReport } from "../report-file.ts";
import { appendLine, untilInterrupted } from "../training.ts";

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
      if (trains(technique)) {
        command.option("--teacher <file>", "learn from this model instead of from the one before the technique");
      }
      if (trains(technique) || learnsRounding(technique)) {
        command.option(
          "--work <folder>",
          "checkpoints of training: the same command started again continues from there (default: <output>.work, removed at the end)",
        );
      }
      if (trains(technique)) {
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
  checkOutput(flags.output, [model]);
  if (flags.report !== undefined) checkReport(flags.report);
  const step = technique(readFlags(command, technique.options));
  const env = await environment(flags, signal);
  const graph = await load(model);
  checkSelection(step.options, graph, `pare ${technique.name}`);
  const training = trains(technique) && Number(step.options.epochs) > 0;
  if (flags.teacher !== undefined && !(training && step.options.distill)) {
    fail("--teacher", "nothing learns from it", training ? "Leave out --no-distill" : "Give --epochs");
  }
  const works = training || (learnsRounding(technique) && step.options.rounding !== "nearest");
  const data =
    flags.data === undefined
      ? undefined
      : await openData(command, env, model, graph, trainingData(step, training, env));
  const context = env.context(data?.dataset);
  const measure = async (measured: Graph): Promise<Measurement> => ({ bytes: onnxSize(measured), scores: [] });
  const work = flags.work ?? `${flags.output}.work`;
  const result = works
    ? await untilInterrupted(env, work, async () =>
        run(graph, [step], { ...context, training: await trainingContext(work, flags) }, { measure }),
      )
    : await run(graph, [step], context, { measure });
  const entry = result.ledger[0]!;
  const made = data ? keepPreprocess(result.graph, data) : result.graph;
  const saved = await save(made, flags.output, { signal });
  if (works && flags.work === undefined) rmSync(work, { recursive: true, force: true });
  env.print(`${[ledgerLine(entry), ...skipLines(entry)].join("\n")}\n`);
  const found = exhibitSections(result.ledger);
  if (found.length > 0) env.print(`\n${renderTerminal(found, terminalOptions())}`);
  env.json({ input: model, output: saved.path, bytes: saved.bytes, ledger: result.ledger });
  if (flags.report !== undefined) {
    const { techniqueReport } = await import("../technique-report.ts");
    const [input, output] = [
      { path: model, graph },
      { path: saved.path, graph: made },
    ];
    await writeReport(await techniqueReport(env, { input, output, entry, ...(data && { data }) }), flags.report);
  }
  data?.dataset.close?.();
}

/** How data is opened: for training in another thread, where a part is held out as well. */
function trainingData(
  { options }: { readonly options: Readonly<Record<string, unknown>> },
  training: boolean,
  { seed }: { readonly seed: number },
): Pick<DatasetOptions, "background" | "holdOut"> {
  const share = training ? Number(options.holdOut) : 0;
  return { background: training, ...(share > 0 && { holdOut: { share, seed } }) };
}

/** Whether a technique can retrain. */
function trains({ options }: Technique): boolean {
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
