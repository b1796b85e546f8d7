import { fail } from "../errors.ts";
import { digest, graphDigest } from "../formats/digest.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { CheckpointStore } from "../training/checkpoint.ts";
import type { Judge } from "./judge.ts";
import type { Latency, Measurement } from "./ledger.ts";

const entry = "original-latency";

/** What a search measures. */
export interface Measures {
  readonly original: Measurement;
  measure(graph: Graph): Promise<Measurement>;
}

/**
 * A judge's measurements, with times as they would have been when a search was first started: the original's latency is
 * kept, and the others are scaled as it is. Measured anew it would come out a little differently, and with it how much
 * each round cuts.
 *
 * @param store where it is kept; nowhere if absent
 * @throws PareError where what was kept is damaged
 */
export async function steadyMeasures(
  original: Graph,
  judge: Judge,
  runtime: Runtime,
  store: CheckpointStore | undefined,
): Promise<Measures> {
  const measured = await judge.measure(original);
  const { latency } = measured;
  const kept = latency && store && (await keptLatency(original, latency, runtime, store));
  if (!kept) return { original: measured, measure: (graph) => judge.measure(graph) };
  const pace = kept.median / latency.median;
  return {
    original: { ...measured, latency: kept },
    async measure(graph) {
      const found = await judge.measure(graph);
      return { ...found, ...(found.latency && { latency: scaled(found.latency, pace) }) };
    },
  };
}

function scaled({ median, quartiles: [low, high], ...rest }: Latency, by: number): Latency {
  return { ...rest, median: by * median, quartiles: [by * low, by * high] };
}

/** The latency that the original had in an earlier run of the search; where there was none, the one measured is kept. */
async function keptLatency(
  original: Graph,
  measured: Latency,
  { name, provider, threads }: Runtime,
  store: CheckpointStore,
): Promise<Latency | undefined> {
  const key = await digest(JSON.stringify([await graphDigest(original), name, provider, threads]));
  const bytes = await store.read(entry);
  const kept = bytes && decoded(bytes, store.name);
  if (kept?.key === key) return kept.latency;
  const now: Kept = { key, latency: measured };
  await store.write(entry, new TextEncoder().encode(JSON.stringify(now)));
  return undefined;
}

interface Kept {
  /** Digest of what was timed, and with what. */
  readonly key: string;
  readonly latency: Latency;
}

function decoded(bytes: Uint8Array, folder = "the work folder"): Kept {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Kept;
  } catch (error) {
    return fail(`${folder}: ${entry}`, "is damaged", "Remove the folder to start anew", error);
  }
}
