import type { Dataset } from "../data/dataset.ts";
import { runtime } from "../platform/node.ts";
import type { Runtime } from "../platform/runtime.ts";
import { type Random, random } from "../random.ts";
import type { Context } from "../techniques/technique.ts";
import type { CommonFlags } from "./flags.ts";
import { printable } from "./printable.ts";
import { silent, type Watcher, watcher } from "./progress.ts";

/** What a command works with: the machine, the randomness, the person watching. */
export interface Environment {
  readonly runtime: Runtime;
  readonly seed: number;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly watcher: Watcher;
  /** A context for techniques, with data if there is some. */
  context(data?: Dataset): Context;
  /** The result for a person; nothing under --json. */
  print(text: string): void;
  /** The result for a program, under --json. */
  json(value: unknown): void;
}

/** An environment from the shared flags. */
export async function environment(flags: CommonFlags, signal: AbortSignal): Promise<Environment> {
  const { seed = 0, json = false, quiet = false, threads, device } = flags;
  const engine = await runtime({
    ...(device !== undefined && { provider: device }),
    ...(threads !== undefined && { threads }),
  });
  const eyes = quiet ? silent : await watcher();
  const stream = random(seed);
  return {
    runtime: engine,
    seed,
    random: stream,
    signal,
    watcher: eyes,
    context: (data) => ({
      runtime: engine,
      random: stream,
      signal,
      log: eyes.note,
      progress: eyes.progress,
      skip() {},
      show() {},
      ...(data && { data }),
    }),
    print(text) {
      eyes.clear();
      if (!json) process.stdout.write(printable(text));
    },
    json(value) {
      eyes.clear();
      if (json) process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
    },
  };
}

/** How to render for this terminal: its width, and colour only where a person sees it. */
export function terminalOptions(): { readonly width: number; readonly colour: boolean } {
  const { isTTY, columns } = process.stdout;
  const width = isTTY ? Math.max(60, Math.min(columns ?? 80, 140)) : 80;
  return { width, colour: Boolean(isTTY) && !process.env.NO_COLOR };
}
