import { fail } from "../errors.ts";
import { bootstrapInterval, type Interval, quantile } from "../metrics/statistics.ts";
import type { Runtime, Session, Tensors } from "../platform/runtime.ts";
import { random } from "../random.ts";
import type { NamedModel } from "./evaluate.ts";

/** Time of one inference of a model, milliseconds. */
export interface ModelLatency {
  readonly name: string;
  readonly median: number;
  readonly quartiles: readonly [low: number, high: number];
  /** 10th and 90th percentile. */
  readonly deciles: readonly [low: number, high: number];
  readonly minimum: number;
  /** Timed runs. */
  readonly runs: number;
  /** Samples an inference. */
  readonly batch: number;
  /** Time over the first model's: median over blocks of runs that stood side by side. Absent for the first. */
  readonly ratio?: number;
  /** 95 % bootstrap interval of `ratio` over blocks. */
  readonly ratioInterval?: Interval;
}

/** What {@link measureLatency} finds: plain JSON. */
export interface LatencyResult {
  readonly version: 1;
  readonly runtime: string;
  readonly provider: string;
  readonly threads: number;
  readonly models: readonly ModelLatency[];
  /** Milliseconds of every timed run, by model, in the order they were made. */
  readonly times: readonly (readonly number[])[];
}

/** Choices for {@link measureLatency}. */
export interface LatencyOptions {
  /** Seconds to spend on each model, about, but for 10 runs at least; 1 if absent. */
  readonly seconds?: number;
  /** Untimed runs of each model first, 2 of them at least, the others within `seconds`; 5 if absent. */
  readonly warmUp?: number;
  readonly threads?: number;
  /** Samples an inference, for the record; the first axis of the first feed if absent. */
  readonly batch?: number;
  /** Of the order of runs. */
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/** Runs in a block: the first is not timed, since the model before it has left its data in the caches. */
const timedRuns = 3;
/** Milliseconds of a run from which on the caches no longer matter: a block is one run, timed. */
const slowRun = 100;
const fewestBlocks = 10;
const mostBlocks = 200;

/**
 * Times models against each other. Blocks of runs, one a model and in a random order each time, so that a machine that
 * slows down or speeds up does so for all of them.
 *
 * @param feeds what every model is fed, the same for all
 * @throws PareError where the runtime refuses a model or the feeds
 */
export async function measureLatency(
  models: readonly NamedModel[],
  runtime: Runtime,
  feeds: Tensors,
  options: LatencyOptions = {},
): Promise<LatencyResult> {
  const { seconds = 1, warmUp = 5, threads = runtime.threads, seed = 0, signal } = options;
  if (models.length === 0) fail("latency", "there is no model");
  const sessions: Session[] = [];
  try {
    for (const { graph } of models) sessions.push(await runtime.open(graph, { threads }));
    let slowest = 0;
    for (const session of sessions) slowest = Math.max(slowest, await warm(session, feeds, warmUp, seconds, signal));
    const runs = slowest < slowRun ? { untimed: 1, timed: timedRuns } : { untimed: 0, timed: 1 };
    const wanted = Math.round((1000 * seconds) / (slowest * (runs.untimed + runs.timed)));
    const count = Math.min(mostBlocks, Math.max(fewestBlocks, wanted));
    const blocks = await timeBlocks(sessions, feeds, { count, ...runs }, seed, signal);
    const batch = options.batch ?? Object.values(feeds)[0]?.shape[0] ?? 1;
    return {
      version: 1,
      runtime: runtime.name,
      provider: runtime.provider,
      threads,
      models: models.map(({ name }, m) => summarize(name, batch, blocks[m]!, m === 0 ? undefined : blocks[0]!, seed)),
      times: blocks.map((own) => own.flat()),
    };
  } finally {
    for (const session of sessions) await session.release();
  }
}

async function timeOnce(session: Session, feeds: Tensors): Promise<number> {
  const start = performance.now();
  await session.run(feeds);
  return performance.now() - start;
}

/** Runs untimed, and returns the shortest time seen. */
async function warm(
  session: Session,
  feeds: Tensors,
  runs: number,
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  const start = performance.now();
  let shortest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < Math.max(1, runs); i++) {
    signal?.throwIfAborted();
    // the first run may prepare what later ones use
    if (i >= 2 && performance.now() - start > 1000 * seconds) break;
    shortest = Math.min(shortest, await timeOnce(session, feeds));
  }
  return Math.max(shortest, 0.001);
}

/** How many blocks, and the runs in each. */
interface Blocks {
  readonly count: number;
  readonly untimed: number;
  readonly timed: number;
}

/** Times by model, then by block. */
async function timeBlocks(
  sessions: readonly Session[],
  feeds: Tensors,
  { count, untimed, timed }: Blocks,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<number[][][]> {
  const stream = random(seed);
  const times: number[][][] = sessions.map(() => []);
  for (let block = 0; block < count; block++) {
    for (const m of stream.shuffle(sessions.map((_, i) => i))) {
      signal?.throwIfAborted();
      for (let k = 0; k < untimed; k++) await sessions[m]!.run(feeds);
      const own: number[] = [];
      for (let k = 0; k < timed; k++) own.push(await timeOnce(sessions[m]!, feeds));
      times[m]!.push(own);
    }
  }
  return times;
}

function summarize(
  name: string,
  batch: number,
  blocks: readonly (readonly number[])[],
  reference: readonly (readonly number[])[] | undefined,
  seed: number,
): ModelLatency {
  const sorted = blocks.flat().sort((a, b) => a - b);
  const ratios = reference?.map((block, i) => median(blocks[i]!) / median(block));
  const interval = ratios && bootstrapInterval(ratios, median, seed);
  return {
    name,
    median: quantile(sorted, 0.5),
    quartiles: [quantile(sorted, 0.25), quantile(sorted, 0.75)],
    deciles: [quantile(sorted, 0.1), quantile(sorted, 0.9)],
    minimum: sorted[0]!,
    runs: sorted.length,
    batch,
    ...(ratios && { ratio: median(ratios) }),
    ...(interval && { ratioInterval: interval }),
  };
}

function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}
