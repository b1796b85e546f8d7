import { appendFileSync } from "node:fs";
import type { HoldOut } from "../data/hold-out.ts";
import { onlySplits } from "../data/only-splits.ts";
import { fail, messageOf } from "../errors.ts";
import { folderStore } from "../platform/node-checkpoints.ts";
import type { Parts } from "../recipe/split.ts";
import type { TrainingContext } from "../techniques/technique.ts";
import type { TrainRecord } from "../training/train.ts";
import type { OpenData } from "./data.ts";
import type { Environment } from "./environment.ts";
import { type Interrupted, interruptedAs } from "./interrupt.ts";

/**
 * Work that puts away a checkpoint when it is interrupted: it gets the time for that, and the message tells where it is.
 *
 * @param where how far the work was, for the message
 */
export async function untilInterrupted<T>(
  { watcher, signal }: Environment,
  folder: string,
  work: () => Promise<T>,
  where = (): string => "",
): Promise<T> {
  const stopping = (): void => {
    (signal.reason as Interrupted).wait();
    watcher.note("stopping after this step; Ctrl-C again ends at once");
  };
  signal.addEventListener("abort", stopping);
  const said = (): string => `${where()}. The same command continues from there: the checkpoint is in ${folder}.`;
  try {
    return await interruptedAs(signal, said, work);
  } finally {
    signal.removeEventListener("abort", stopping);
  }
}

/** Appends a line of JSON to the metrics log that `--log` names. */
export function appendLine(path: string, entry: TrainRecord): void {
  try {
    appendFileSync(path, `${JSON.stringify(entry)}\n`);
  } catch (error) {
    fail(path, `can't be written (${messageOf(error)})`, "Check --log", error);
  }
}

/** A model that is retrained under a judge. */
export interface JudgedTraining {
  readonly flags: { readonly log?: string };
  readonly data: OpenData;
  /** Opens the data once more, in another thread, to train on. */
  openTraining(): Promise<OpenData>;
}

/** What steps under a judge learn from, never what scores them, and where their checkpoints are. */
export async function judgedTraining(
  { flags: { log }, data: { dataset }, openTraining }: JudgedTraining,
  parts: Parts,
  work: string,
): Promise<TrainingContext & { close(): void }> {
  const opened = dataset.splits.length > 1 ? (await openTraining()).dataset : undefined;
  const scored = parts.selection.splits[0];
  const others = opened?.splits.filter((split) => split !== scored) ?? [];
  return {
    data: opened ? onlySplits(opened, others) : parts.training,
    store: await folderStore(work),
    ...(log !== undefined && { record: (entry: TrainRecord) => appendLine(log, entry) }),
    close: () => opened?.close?.(),
  };
}

/** How data to train on is opened: in another thread, and with a share held out where epochs are chosen by it. */
export function trainingData(
  options: readonly Readonly<Record<string, unknown>>[],
  seed: number,
): { readonly background: true; readonly holdOut?: HoldOut } {
  const share = Math.max(0, ...options.map(({ holdOut = 0 }) => Number(holdOut)));
  return { background: true, ...(share > 0 && { holdOut: { share, seed } }) };
}
