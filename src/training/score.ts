import { fixedBatch, runBatch } from "../data/fixed-batch.ts";
import { hideTokens } from "../data/mask-tokens.ts";
import type { Graph } from "../graph/graph.ts";
import { changeOf } from "../metrics/change.ts";
import type { Metric, Row } from "../metrics/index.ts";
import { givesProbabilities } from "../metrics/probabilities.ts";
import { random } from "../random.ts";
import type { TrainContext } from "./train.ts";

/** Samples a batch while validating, unless the model fixes them. */
const validationBatch = 128;

/** The metric's rows over the validation split; where tokens are hidden, the same ones every time. */
export async function validationRows(model: Graph, context: TrainContext): Promise<readonly Row[]> {
  const { runtime, data, metric, validationSplit, tokens, signal } = context;
  const session = await runtime.open(model);
  const probabilities = givesProbabilities(model);
  const rows: Row[] = [];
  const fixed = fixedBatch(model);
  const split = validationSplit === undefined ? {} : { split: validationSplit };
  try {
    for await (const read of data.batches({ batch: fixed ?? validationBatch, ...split })) {
      signal.throwIfAborted();
      const batch = tokens ? hideTokens(read, tokens, random(0).fork(`${rows.length}`)) : read;
      const outputs = await runBatch(session, batch, fixed);
      const judged = {
        outputs,
        size: batch.size,
        ...(probabilities !== undefined && { probabilities }),
        ...(batch.labels && { labels: batch.labels }),
        ...(batch.truth && { truth: batch.truth }),
      };
      rows.push(...metric!.rows(judged));
    }
  } finally {
    await session.release();
  }
  return rows;
}

/**
 * Whether one model scores better than another on the same samples by more than chance: the paired 95 % interval of the
 * difference does not hold 0. Where resamples do not vary there is no interval, and p decides.
 */
export function clearlyBetter(metric: Metric, rows: readonly Row[], than: readonly Row[]): boolean {
  const { difference, p = 1, interval } = changeOf(metric, than, rows);
  const [low, high] = interval ?? (p < 0.05 ? [difference, difference] : [0, 0]);
  return metric.better === "higher" ? low > 0 : high < 0;
}
