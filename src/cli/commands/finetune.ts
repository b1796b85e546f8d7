import { rmSync } from "node:fs";
import { basename } from "node:path";
import type { Command } from "commander";
import type { z } from "zod";
import type { Graph } from "../../graph/graph.ts";
import { metrics } from "../../metrics/index.ts";
import { load, save } from "../../platform/node.ts";
import { folderStore } from "../../platform/node-checkpoints.ts";
import { metricValue, percent } from "../../report/format.ts";
import { trainingReport } from "../../report/training.ts";
import { simplify } from "../../techniques/simplify/index.ts";
import { finetune, finetuneOptions } from "../../training/finetune.ts";
import type { EpochRecord, StepProgress, TrainResult } from "../../training/train.ts";
import { addDataFlags, keepPreprocess, type OpenData, openData } from "../data.ts";
import { type Environment, environment } from "../environment.ts";
import { addCommon, addFlags, type CommonFlags, readFlags } from "../flags.ts";
import { machineOf } from "../machine.ts";
import { commandLine } from "../measuring.ts";
import { checkPaths } from "../paths.ts";
import { writeReport } from "../report-file.ts";
import { appendLine, untilInterrupted } from "../training.ts";

/** Flags that training commands share. */
export interface TrainFlags extends CommonFlags {
  readonly output: string;
  readonly data: string;
  readonly teacher?: string;
  readonly lossGraph?: string;
  readonly validation?: string;
  readonly work?: string;
  readonly log?: string;
  readonly report?: string;
  readonly simplify?: boolean;
}

/** Options of {@link finetune}, with defaults of the command's own. */
export type TrainSchema = z.ZodObject & z.ZodType<z.output<typeof finetuneOptions>>;

/** Adds what training commands have in common. */
export function addTrainFlags(command: Command, schema: TrainSchema): void {
  command.requiredOption("-o, --output <file>", "the file to write");
  command.option("--teacher <file>", "a model whose outputs are soft targets");
  command.option(
    "--loss-graph <file>",
    "an ONNX graph in place of a loss: of labels and of the model's outputs, by name",
  );
  command.option("--validation <split>", "split to choose the best epoch by (default: val, or what is held out)");
  command.option(
    "--work <folder>",
    "checkpoints: the same command started again continues from there (default: <output>.work, removed at the end)",
  );
  command.option("--log <file>", "append lines of JSON: loss, accuracy, rate and speed over the steps, and each epoch");
  command.option("--report <file>", "write a report with the curves: .html, .md or .json");
  command.option("--simplify", "fold batch normalization into other layers, and simplify, before saving");
  addFlags(command, schema);
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, true);
}

/** Refuses paths that could not be written, or that are read; `inputs` are those beside the flags. */
export function checkTrainPaths(flags: TrainFlags, inputs: readonly string[] = []): void {
  const { output, report, log, data, teacher, lossGraph } = flags;
  checkPaths({ inputs: [...inputs, data, teacher, lossGraph], output, report, log });
}

/** `pare finetune`: trains a model further. */
export function define(command: Command, signal: AbortSignal): void {
  command.argument("<model>", "an ONNX or Keras file");
  addTrainFlags(command, finetuneOptions);
  command.action(async (model: string, flags: TrainFlags) => {
    checkTrainPaths(flags, [model]);
    const env = await environment(flags, signal);
    const graph = await load(model);
    const data = await openTrainingData(command, env, model, graph, flags, finetuneOptions);
    await trainModel(command, env, { graph, name: model, data, flags, schema: finetuneOptions });
  });
}

/** Opens the data in another thread, with a part held out where no validation split is named. */
export function openTrainingData(
  command: Command,
  env: Environment,
  model: string,
  graph: Graph,
  flags: TrainFlags,
  schema: TrainSchema,
): Promise<OpenData> {
  const share = flags.validation === undefined ? readFlags(command, schema).holdOut : 0;
  return openData(command, env, model, graph, {
    background: true,
    ...(share > 0 && { holdOut: { share, seed: env.seed } }),
  });
}

interface Job {
  readonly graph: Graph;
  /** The model file, or the architecture. */
  readonly name: string;
  /** Options of the architecture. */
  readonly shape?: Readonly<Record<string, unknown>>;
  readonly data: OpenData;
  readonly flags: TrainFlags;
  readonly schema: TrainSchema;
  /** The model has learned nothing yet. */
  readonly untrained?: boolean;
}

/** Trains, saves and reports. */
export async function trainModel(command: Command, env: Environment, job: Job): Promise<void> {
  const { graph, name, shape = {}, data, flags, schema } = job;
  const options = readFlags(command, schema);
  const work = flags.work ?? `${flags.output}.work`;
  let last: StepProgress | undefined;
  const training = async () =>
    finetune(graph, options, {
      runtime: env.runtime,
      data: data.dataset,
      seed: env.seed,
      signal: env.signal,
      log: env.watcher.note,
      ...(flags.teacher !== undefined && { teacher: await load(flags.teacher) }),
      ...(flags.lossGraph !== undefined && { loss: await load(flags.lossGraph) }),
      ...(job.untrained && { untrained: true }),
      ...(flags.validation !== undefined && { validationSplit: flags.validation }),
      store: await folderStore(work),
      run: JSON.stringify([name, shape, flags.data, flags.teacher ?? "", flags.lossGraph ?? "", options, env.seed]),
      progress(state) {
        last = state;
        env.watcher.progress(state.step, state.steps, "steps", progressText(state));
      },
      record(entry) {
        if (entry.kind === "epoch") env.watcher.note(epochLine(entry));
        if (flags.log !== undefined) appendLine(flags.log, entry);
      },
    });
  const result = await untilInterrupted(env, work, training, () =>
    last ? ` after step ${last.step} of ${last.steps}` : "",
  );
  data.dataset.close?.();
  const made = flags.simplify ? await simplify({}).apply(result.model, env.context()) : result.model;
  const saved = await save(keepPreprocess(made, data), flags.output, { signal: env.signal });
  if (flags.work === undefined) rmSync(work, { recursive: true, force: true });
  env.print(`${summary(result, saved.path)}\n`);
  env.json({ input: name, output: saved.path, bytes: saved.bytes, best: result.best, epochs: result.records });
  if (flags.report === undefined) return;
  const report = trainingReport(result, {
    model: basename(name),
    output: basename(saved.path),
    bytes: saved.bytes,
    batch: options.batch,
    settings: { ...shape, ...options },
    data: data.dataset,
    machine: machineOf(env.runtime),
    seed: env.seed,
    command: commandLine(),
  });
  await writeReport(report, flags.report);
}

function progressText({ loss, accuracy, samplesPerSecond }: StepProgress): string {
  const right = accuracy === undefined ? "" : `accuracy ${percent(accuracy)}, `;
  return `loss ${loss.toPrecision(3)}, ${right}${samplesPerSecond.toFixed(0)} samples/s`;
}

function epochLine({ epoch, loss, accuracy, rate, score, metric, seconds }: EpochRecord): string {
  const right = accuracy === undefined ? "" : `  accuracy ${percent(accuracy)}`;
  const judged = score === undefined ? "" : `  ${metric} ${scoreText(score, metric)}`;
  return `epoch ${epoch}  loss ${loss.toPrecision(4)}${right}${judged}  rate ${rate.toPrecision(2)}  ${seconds.toFixed(1)} s`;
}

function summary({ best, records }: TrainResult, path: string): string {
  const last = records.at(-1);
  const score =
    best.score === undefined ? "" : `, ${last?.metric} ${scoreText(best.score, last?.metric)} (${chosen(best.epoch)})`;
  return `${path}: ${records.length} epochs, loss ${last?.loss.toPrecision(4) ?? "unknown"}${score}`;
}

function chosen(epoch: number): string {
  return epoch === 0 ? "as it was: no epoch was clearly better" : `epoch ${epoch}`;
}

function scoreText(score: number, metric: string | undefined): string {
  return metricValue(score, metric === undefined ? undefined : metrics[metric]?.unit);
}
