import { appendFileSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
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
  mkdirSync(folder, { recursive: true });
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
      appendFileSync(log, `${JSON.stringify({ key, entry } satisfies Line)}\n`);
      const fd = openSync(log, "r");
      fsyncSync(fd);
      closeSync(fd);
    },
  };
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
