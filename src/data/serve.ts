import { messageOf, PareError } from "../errors.ts";
import type { ThreadPort } from "../platform/thread.ts";
import type { Batch, Dataset } from "./dataset.ts";
import type { Files } from "./files.ts";
import { openDataset } from "./index.ts";
import { plannedBatches } from "./plan.ts";
import { type Answer, type Cut, madeAhead, opening, packBatch, packError, type Request } from "./wire.ts";

/** A stream that is being sent. */
interface Stream {
  /** How many more batches may be sent. */
  wanted: number;
  stopped: boolean;
  /** Lets the sender look again. */
  wake(): void;
}

/** Answers requests for a dataset, in a thread of its own; `background.ts` is the other side. */
export function serve(port: ThreadPort, files: Files): void {
  const answer = (message: Answer, moved?: readonly ArrayBuffer[]): void => port.post(message, moved);
  const streams = new Map<number, Stream>();
  let dataset: Dataset;
  // cutting shuffles all samples, and the same cuts come again with every stream
  const parts = new Map<string, Dataset>();
  const partOf = (cuts: readonly Cut[]): Dataset => {
    const last = cuts.at(-1);
    if (!last) return dataset;
    const key = JSON.stringify(cuts);
    const part = parts.get(key) ?? partOf(cuts.slice(0, -1)).holdOut!(last.split, last.share, last.seed);
    parts.set(key, part);
    return part;
  };
  const open = async ({ path, options }: Extract<Request, { kind: "open" }>): Promise<void> => {
    try {
      dataset = await openDataset(path, files, { ...options, log: (message) => answer({ kind: "log", message }) });
      const { name, splits, classes } = dataset;
      const sizes = splits.map((split) => [split, dataset.size(split)] as const);
      const divisible = dataset.holdOut !== undefined;
      answer({ kind: "opened", stream: opening, facts: { name, sizes, divisible, ...(classes && { classes }) } });
    } catch (error) {
      answer({ kind: "failed", stream: opening, error: packError(error) });
    }
  };
  const start = async ({ stream, what, cuts }: Extract<Request, { kind: "start" }>): Promise<void> => {
    const state: Stream = { wanted: madeAhead, stopped: false, wake() {} };
    streams.set(stream, state);
    try {
      const part = partOf(cuts);
      const batches = "planned" in what ? plannedBatches(part, what.planned) : part.batches(what.batches);
      for await (const batch of batches) {
        while (state.wanted === 0 && !state.stopped) await new Promise<void>((wake) => (state.wake = wake));
        if (state.stopped) break;
        state.wanted--;
        send(answer, stream, batch);
      }
      answer({ kind: "done", stream });
    } catch (error) {
      answer({ kind: "failed", stream, error: packError(error) });
    } finally {
      streams.delete(stream);
    }
  };
  port.listen((message) => {
    const request = message as Request;
    if (request.kind === "open") void open(request);
    else if (request.kind === "start") void start(request);
    else {
      const state = streams.get(request.stream);
      if (!state) return;
      if (request.kind === "more") state.wanted++;
      else state.stopped = true;
      state.wake();
    }
  });
}

function send(answer: (message: Answer, moved: ArrayBuffer[]) => void, stream: number, batch: Batch): void {
  const { packed, moved } = packBatch(batch);
  try {
    answer({ kind: "batch", stream, batch: packed }, moved);
  } catch (error) {
    // structured clone refuses functions
    throw new PareError(`data: what a batch holds beside tensors can't be sent to another thread: ${messageOf(error)}`);
  }
}
