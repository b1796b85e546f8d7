import { fail } from "../errors.ts";
import type { Thread } from "../platform/thread.ts";
import type { Batch, Dataset } from "./dataset.ts";
import type { Files } from "./files.ts";
import { heldCount, sortSplits } from "./samples.ts";
import type { DatasetOptions } from "./source.ts";
import { type Answer, type Cut, type DatasetFacts, opening, type Request, unpackBatch, unpackError } from "./wire.ts";

/**
 * Opens a dataset in another thread, where its batches are read, decoded and changed while this one computes.
 *
 * @returns undefined where that can't be done (no thread, a function among the options, an error while opening):
 *   opening it here does it, or tells what is wrong
 */
export async function openInBackground(
  path: string,
  files: Files,
  options: DatasetOptions,
): Promise<Dataset | undefined> {
  const { log, tokenize, background: _, ...plain } = options;
  if (tokenize || !files.thread) return undefined;
  const ending = import.meta.url.slice(import.meta.url.lastIndexOf("."));
  let thread: Thread | undefined;
  try {
    thread = await files.thread(new URL(`./serve${ending}`, import.meta.url).href);
    const link = new Link(thread);
    const { facts, notes } = await link.open({ kind: "open", path, options: plain });
    for (const note of notes) log?.(note);
    link.log = log;
    return remoteDataset(link, facts);
  } catch {
    thread?.close();
    return undefined;
  }
}

function remoteDataset(link: Link, facts: DatasetFacts, cuts: readonly Cut[] = []): Dataset {
  const { name, sizes, classes, divisible } = facts;
  const known = new Map(sizes);
  const splits = [...known.keys()];
  const size = (split = splits[0]!): number | undefined => {
    if (known.has(split)) return known.get(split);
    return fail(name, `it has no split '${split}'`, `It has ${splits.map((s) => `'${s}'`).join(", ")}`);
  };
  const holdOut = (split: string, share: number, seed: number): Dataset => {
    const count = size(split) ?? 0;
    const held = heldCount(name, count, share);
    const parts = sortSplits(new Map([...known, [split, count - held], ["val", held]]));
    return remoteDataset(link, { ...facts, sizes: [...parts] }, [...cuts, { split, share, seed }]);
  };
  return {
    name,
    splits,
    size,
    ...(classes && { classes }),
    ...(divisible && { holdOut }),
    batches: (options) => link.stream({ batches: options }, cuts),
    planned: (plan) => link.stream({ planned: plan }, cuts),
    close: () => link.close(),
  };
}

type Start = Extract<Request, { kind: "start" }>;

/** Requests and answers between this thread and the dataset's. */
class Link {
  readonly #thread: Thread;
  /** Who waits for answers, by stream. */
  readonly #listeners = new Map<number, (answer: Answer) => void>();
  #streams = 0;
  #waiting = 0;
  #ended: Answer | undefined;
  log: DatasetOptions["log"];

  constructor(thread: Thread) {
    this.#thread = thread;
    thread.listen(
      (message) => {
        const answer = message as Answer;
        if (answer.kind === "log") this.log?.(answer.message);
        else this.#listeners.get(answer.stream)?.(answer);
      },
      (reason) => this.#end(reason instanceof Error ? reason.message : String(reason)),
    );
  }

  async open(request: Request): Promise<{ readonly facts: DatasetFacts; readonly notes: readonly string[] }> {
    const notes: string[] = [];
    this.log = (note) => notes.push(note);
    for await (const answer of this.#answers(opening, request)) {
      if (answer.kind === "opened") return { facts: answer.facts, notes };
    }
    throw new Error("the thread did not answer");
  }

  /** Batches as they arrive; taking one asks for another. */
  async *stream(what: Start["what"], cuts: readonly Cut[]): AsyncGenerator<Batch> {
    const stream = this.#streams++;
    try {
      for await (const answer of this.#answers(stream, { kind: "start", stream, what, cuts })) {
        if (answer.kind === "done") return;
        if (answer.kind !== "batch") continue;
        this.#thread.post({ kind: "more", stream } satisfies Request);
        yield unpackBatch(answer.batch);
      }
    } finally {
      this.#thread.post({ kind: "stop", stream } satisfies Request);
    }
  }

  close(): void {
    this.#thread.close();
    this.#end("the dataset was closed");
  }

  async *#answers(stream: number, request: Request): AsyncGenerator<Answer> {
    const arrived: Answer[] = this.#ended ? [this.#ended] : [];
    let wake = (): void => {};
    this.#listeners.set(stream, (answer) => {
      arrived.push(answer);
      wake();
    });
    this.#thread.post(request);
    try {
      for (;;) {
        if (arrived.length === 0) await this.#waited(new Promise<void>((resolve) => (wake = resolve)));
        const answer = arrived.shift()!;
        if (answer.kind === "failed") throw unpackError(answer.error);
        yield answer;
      }
    } finally {
      this.#listeners.delete(stream);
    }
  }

  /** The program waits for the thread only while it needs an answer. */
  async #waited(answer: Promise<void>): Promise<void> {
    if (this.#waiting++ === 0) this.#thread.hold(true);
    await answer;
    if (--this.#waiting === 0) this.#thread.hold(false);
  }

  #end(message: string): void {
    this.#ended = { kind: "failed", stream: opening, error: { message, told: false } };
    for (const listener of this.#listeners.values()) listener(this.#ended);
  }
}
