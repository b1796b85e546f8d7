import { appendFileSync } from "node:fs";
import { fail, messageOf } from "../errors.ts";
import type { TrainRecord } from "../training/train.ts";
import type { Environment } from "./environment.ts";
import { Interrupted } from "./interrupt.ts";

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
  signal.addEventListener("abort", () => {
    (signal.reason as Interrupted).wait();
    watcher.note("stopping after this step; Ctrl-C again ends at once");
  });
  try {
    return await work();
  } catch (error) {
    if (error !== signal.reason) throw error;
    throw new Interrupted(
      `interrupted${where()}. The same command continues from there: the checkpoint is in ${folder}.`,
    );
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
