import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import type { Context } from "../technique.ts";

/** The samples of a run of the technique, apart for two uses. */
export interface Samples {
  readonly calibration: AsyncIterable<Tensors>;
  /** What candidates are compared on, in memory. */
  readonly trial: readonly Tensors[];
  /** Whether `trial` was held back of few samples, so that final ranges should be of both. */
  readonly heldBack: boolean;
  /**
   * A number of samples to learn from: those of the calibration, and further ones where it has fewer; those held back
   * too, since what is learned is judged on samples of its own.
   */
  learning(count: number): AsyncIterable<Tensors>;
}

/** With fewer samples than this, all serve both uses. */
const fewest = 8;

/**
 * Divides the data: `limit` samples to calibrate, and up to `trials` others after them to compare candidates on. Where
 * the data has too few others, a quarter of the samples is held back instead. With 0 `trials` all samples calibrate.
 *
 * @throws PareError where there is no data
 */
export async function divideSamples(graph: Graph, limit: number, trials: number, context: Context): Promise<Samples> {
  const of = (skip: number, count: number): AsyncIterable<Tensors> => stream(graph, context, skip, count);
  const divided = (calibration: AsyncIterable<Tensors>, trial: readonly Tensors[], heldBack: boolean): Samples => ({
    calibration,
    trial,
    heldBack,
    learning: (count) => {
      if (heldBack || count <= limit) return held(of(0, limit), count);
      return held(oneAfterTheOther(calibration, of(limit + trial.length, count - limit)), count);
    },
  });
  if (trials === 0) return divided(of(0, limit), [], false);
  const others = await take(of(limit, trials));
  if (others.length >= trials / 2) return divided(of(0, limit), others, false);
  let count = others.length;
  for await (const _ of of(0, limit)) count++;
  if (count < fewest) {
    const all = of(0, count);
    return divided(all, await take(all), false);
  }
  const back = Math.min(trials, Math.floor(count / 4));
  return divided(of(0, count - back), await take(of(count - back, back)), true);
}

/** Samples that a run takes: one, or as many as a fixed batch size asks for. */
export function batchOf(graph: Graph): number {
  const first = graph.inputs.find(({ type }) => type?.kind === "tensor" && (type.shape?.length ?? 0) > 0)?.type;
  const fixed = first?.kind === "tensor" ? first.shape?.[0] : undefined;
  return typeof fixed === "number" && fixed > 0 ? fixed : 1;
}

/** Samples from the `skip`th on as feeds, one a run, or as many as a fixed batch size asks for. */
function stream(graph: Graph, context: Context, skip: number, limit: number): AsyncIterable<Tensors> {
  const data = context.data ?? fail("quantize-static", "needs samples to find ranges on", "Give data");
  const batch = batchOf(graph);
  const seed = context.random.fork("calibration").int(2 ** 31);
  return {
    async *[Symbol.asyncIterator]() {
      const range = { batch, limit: limit * batch, skip: skip * batch, seed };
      for await (const { inputs, size } of data.batches(range)) if (size === batch) yield inputs;
    },
  };
}

async function take(feeds: AsyncIterable<Tensors>): Promise<Tensors[]> {
  const taken: Tensors[] = [];
  for await (const feed of feeds) taken.push(feed);
  return taken;
}

async function* concatenated(parts: readonly AsyncIterable<Tensors>[]): AsyncGenerator<Tensors> {
  for (const part of parts) yield* part;
}

function oneAfterTheOther(...parts: readonly AsyncIterable<Tensors>[]): AsyncIterable<Tensors> {
  return { [Symbol.asyncIterator]: () => concatenated(parts) };
}

/** Bytes of samples kept in memory, so that they are read and decoded once though they are used many times. */
const budget = 2 ** 28;

/** The first of some feeds, kept in memory after the first time where they are small enough. */
function held(feeds: AsyncIterable<Tensors>, limit: number): AsyncIterable<Tensors> {
  let kept: Tensors[] | undefined;
  return {
    async *[Symbol.asyncIterator]() {
      if (kept) {
        yield* kept;
        return;
      }
      const seen: Tensors[] = [];
      let [count, bytes] = [0, 0];
      for await (const feed of feeds) {
        bytes += Object.values(feed).reduce((sum, { byteLength }) => sum + byteLength, 0);
        if (bytes <= budget) seen.push(feed);
        yield feed;
        if (++count >= limit) break;
      }
      if (bytes <= budget) kept = seen;
    },
  };
}
