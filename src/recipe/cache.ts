import type { Dataset } from "../data/dataset.ts";
import { digest } from "../formats/digest.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { Step } from "../techniques/technique.ts";
import { version } from "../version.ts";
import type { LedgerEntry } from "./ledger.ts";

/** Finished steps, kept outside the process. */
export interface StepCache {
  /** The result of a step of an earlier run, if it was finished and everything before it is the same. */
  get(index: number, step: Step): Promise<{ graph: Graph; entry: LedgerEntry } | undefined>;
  put(index: number, step: Step, graph: Graph, entry: LedgerEntry): Promise<void>;
}

/** The cache of a chain of steps, without the first ones. */
export function laterSteps(cache: StepCache, first: number): StepCache {
  return {
    get: (index, step) => cache.get(index + first, step),
    put: (index, step, graph, entry) => cache.put(index + first, step, graph, entry),
  };
}

/** Everything a step's result depends on beyond the steps before it. */
export interface KeyParts {
  readonly model: string;
  readonly data: string;
  readonly runtime: Runtime;
  readonly seed: number;
}

/**
 * The key of every step: a chain of digests over the model's bytes, the toolkit's and the runtime's versions, the data,
 * the seed, and the names and options of the steps so far.
 */
export async function stepKeys(parts: KeyParts, steps: readonly Step[]): Promise<string[]> {
  const { model, data, runtime, seed } = parts;
  let key = await digest(JSON.stringify([model, data, version, runtime.name, runtime.provider, runtime.threads, seed]));
  const keys: string[] = [];
  for (const { name, options } of steps) {
    key = await digest(JSON.stringify([key, name, options]));
    keys.push(key);
  }
  return keys;
}

const digestSamples = 256;

/** Digest of a dataset: its name and the size and first 256 samples of every split. */
export async function dataDigest(data: Dataset): Promise<string> {
  const parts: string[] = [data.name];
  for (const split of data.splits) {
    parts.push(split, String(data.size(split)));
    for await (const batch of data.batches({ batch: 32, split, limit: digestSamples })) {
      for (const [name, tensor] of [...Object.entries(batch.inputs), ["", batch.labels] as const]) {
        if (tensor && !tensor.strings) parts.push(name, tensor.shape.join(), await digest(tensor.bytes()));
      }
    }
  }
  return digest(parts.join("\n"));
}
