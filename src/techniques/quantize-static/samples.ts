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
  if (trials === 0) return { calibration: stream(graph, context, 0, limit), trial: [], heldBack: false };
  const others = await take(stream(graph, context, limit, trials));
  if (others.length >= trials / 2)
    return { calibration: stream(graph, context, 0, limit), trial: others, heldBack: false };
  let count = others.length;
  for await (const _ of stream(graph, context, 0, limit)) count++;
  if (count < fewest) {
    const all = stream(graph, context, 0, count);
    return { calibration: all, trial: await take(all), heldBack: false };
  }
  const held = Math.min(trials, Math.floor(count / 4));
  const trial = await take(stream(graph, context, count - held, held));
  return { calibration: stream(graph, context, 0, count - held), trial, heldBack: true };
}

/** Samples from the `skip`th on as feeds, one a run, or as many as a fixed batch size asks for. */
function stream(graph: Graph, context: Context, skip: number, limit: number): AsyncIterable<Tensors> {
  const data = context.data ?? fail("quantize-static", "needs samples to find ranges on", "Give data");
  const first = graph.inputs.find(({ type }) => type?.kind === "tensor" && (type.shape?.length ?? 0) > 0)?.type;
  const fixed = first?.kind === "tensor" ? first.shape?.[0] : undefined;
  const batch = typeof fixed === "number" && fixed > 0 ? fixed : 1;
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
