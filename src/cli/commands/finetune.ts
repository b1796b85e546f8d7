import { appendFileSync } from "node:fs";
import type { Command } from "commander";
import type { Graph } from "../../graph/graph.ts";
import { load, save } from "../../platform/node.ts";
import { folderStore } from "../../platform/node-checkpoints.ts";
import { finetune, finetuneOptions } from "../../training/finetune.ts";
import type { TrainRecord, TrainResult } from "../../training/train.ts";
import { addDataFlags, keepPreprocess, type OpenData, openData } from "../data.ts";
import { type Environment, environment } from "../environment.ts";
import { addCommon, addFlags, type CommonFlags, readFlags } from "../flags.ts";
import { checkOutput } from "../model-files.ts";

/** Flags that training commands share. */
export interface TrainFlags extends CommonFlags {
  readonly output: string;
  readonly data: string;
  readonly teacher?: string;
  readonly validation?: string;
  readonly work?: string;
  readonly log?: string;
}

/** Adds what training commands have in common. */
export function addTrainFlags(command: Command, schema: typeof finetuneOptions): void {
  command.requiredOption("-o, --output <file>", "the file to write");
  command.option("--teacher <file>", "a model whose outputs are soft targets");
  command.option("--validation <split>", "split to choose the best epoch by (default: val, where there is one)");
  command.option("--work <folder>", "checkpoints: the same command started again continues from there");
  command.option("--log <file>", "append one line of JSON an epoch");
  addFlags(command, schema);
  addCommon(command, "json", "quiet", "threads", "seed", "device");
  addDataFlags(command, true);
}

/** `pare finetune`: trains a model further. */
export function define(command: Command, signal: AbortSignal): void {
  command.argument("<model>", "an ONNX file");
  addTrainFlags(command, finetuneOptions);
  command.action(async (model: string, flags: TrainFlags) => {
    checkOutput(flags.output, [model]);
    const env = await environment(flags, signal);
    const graph = await load(model);
    const data = await openData(command, env, model, graph);
    await trainModel(command, env, { graph, name: model, data, flags, schema: finetuneOptions });
  });
}

interface Job {
  readonly graph: Graph;
  /** The model file, or the architecture. */
  readonly name: string;
  readonly data: OpenData;
  readonly flags: TrainFlags;
  readonly schema: typeof finetuneOptions;
}

/** Trains, saves and reports. */
export async function trainModel(command: Command, env: Environment, job: Job): Promise<void> {
  const { graph, name, data, flags, schema } = job;
  const options = readFlags(command, schema);
  const { watcher, seed } = env;
  const result = await finetune(graph, options, {
    runtime: env.runtime,
    data: data.dataset,
    seed,
    signal: env.signal,
    log: watcher.note,
    ...(flags.teacher !== undefined && { teacher: await load(flags.teacher) }),
    ...(flags.validation !== undefined && { validationSplit: flags.validation }),
    ...(flags.work !== undefined && { store: await folderStore(flags.work) }),
    run: JSON.stringify([name, flags.data, flags.teacher ?? "", options, seed]),
    progress: ({ step, steps, loss, samplesPerSecond }) =>
      watcher.progress(step, steps, "steps", `loss ${loss.toPrecision(3)}, ${samplesPerSecond.toFixed(0)} samples/s`),
    record: (entry) => {
      watcher.note(epochLine(entry));
      if (flags.log !== undefined) appendFileSync(flags.log, `${JSON.stringify(entry)}\n`);
    },
  });
  const saved = await save(keepPreprocess(result.model, data), flags.output, { signal: env.signal });
  env.print(`${summary(result, saved.path)}\n`);
  env.json({ input: name, output: saved.path, bytes: saved.bytes, best: result.best, epochs: result.records });
}

function epochLine({ epoch, loss, rate, score, seconds }: TrainRecord): string {
  const judged = score === undefined ? "" : `  score ${score.toPrecision(4)}`;
  return `epoch ${epoch}  loss ${loss.toPrecision(4)}${judged}  rate ${rate.toPrecision(2)}  ${seconds.toFixed(1)} s`;
}

function summary({ best, records }: TrainResult, path: string): string {
  const last = records.at(-1);
  const score = best.score === undefined ? "" : `, score ${best.score.toPrecision(4)} (epoch ${best.epoch})`;
  return `${path}: ${records.length} epochs, loss ${last?.loss.toPrecision(4) ?? "unknown"}${score}`;
}
