import type { Context } from "./technique.ts";

/** Lets the event loop turn, so that Ctrl-C is seen between weights. */
export async function breathe({ signal }: Pick<Context, "signal">): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal.throwIfAborted();
}
