import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fail, messageOf } from "../errors.ts";
import { load, save } from "../platform/node.ts";
import type { StepCache } from "../recipe/cache.ts";
import type { LedgerEntry } from "../recipe/ledger.ts";

interface Line {
  readonly key: string;
  readonly entry: LedgerEntry;
}

/**
 * A folder that keeps finished steps: the model after each, and a log with a line a step, written only once the model
 * is whole on disk. A killed run finds there everything that was finished.
 *
 * @param keys a key for every step of the plan, of {@link stepKeys}
 */
export function workFolder(folder: string, keys: readonly string[]): StepCache {
  written(folder, () => mkdirSync(folder, { recursive: true }));
  const log = join(folder, "steps.jsonl");
  const known = new Map(readLog(log).map(({ key, entry }) => [key, entry]));
  const modelPath = (key: string): string => join(folder, `${key.slice(0, 32)}.onnx`);
  return {
    async get(index) {
      const key = keys[index]!;
      const entry = known.get(key);
      if (!entry || !existsSync(modelPath(key))) return undefined;
      return { graph: await load(modelPath(key)), entry: { ...entry, resumed: true } };
    },
    async put(index, _step, graph, entry) {
      const key = keys[index]!;
      await save(graph, modelPath(key));
      // a kill may have torn the last line: the next one starts on its own
      const torn = existsSync(log) && !/(^|\n)$/.test(readFileSync(log, "utf8"));
      written(log, () => appendLine(log, `${torn ? "\n" : ""}${JSON.stringify({ key, entry } satisfies Line)}\n`));
    },
  };
}

function appendLine(path: string, line: string): void {
  const file = openSync(path, "a");
  try {
    writeFileSync(file, line);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function written(path: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    fail(path, `can't be written (${messageOf(error)})`, "Check --work, and the room on its disk", error);
  }
}

/** The log's whole lines: a kill in the middle of an append leaves a torn one, which counts as not written. */
function readLog(path: string): Line[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((text) => {
      try {
        return [JSON.parse(text) as Line];
      } catch {
        return [];
      }
    });
}
