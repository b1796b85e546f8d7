import { hideTokens } from "../data/mask-tokens.ts";
import type { Graph } from "../graph/graph.ts";
import type { Row } from "../metrics/index.ts";
import { givesProbabilities } from "../metrics/probabilities.ts";
import { random } from "../random.ts";
import type { TrainContext } from "./train.ts";

/** Samples a batch while validating. */
const validationBatch = 128;

/** The metric over the validation split; where tokens are hidden, the same ones every time. */
export async function scoreOf(model: Graph, context: TrainContext): Promise<number> {
  const { runtime, data, metric, validationSplit, tokens, signal } = context;
  const session = await runtime.open(model);
  const probabilities = givesProbabilities(model);
  const rows: Row[] = [];
  const split = validationSplit === undefined ? {} : { split: validationSplit };
  try {
    for await (const read of data.batches({ batch: validationBatch, ...split })) {
      signal.throwIfAborted();
      const batch = tokens ? hideTokens(read, tokens, random(0).fork(`${rows.length}`)) : read;
      const outputs = await session.run(batch.inputs);
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
  return metric!.value(rows);
}
