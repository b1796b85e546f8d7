import { rmSync } from "node:fs";

/** Why a run was aborted: the reason of the signal given to all long work. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  constructor() {
    super("interrupted");
  }
}

/** Exit status of a program ended by SIGINT: 128 + 2. */
export const interruptedStatus = 130;

const graceMs = 1500;
const unfinished = new Set<string>();

/** Files to remove should the process be interrupted: output that is not whole yet. Returns how to withdraw them. */
export function removeOnInterrupt(...paths: string[]): () => void {
  for (const path of paths) unfinished.add(path);
  return () => {
    for (const path of paths) unfinished.delete(path);
  };
}

function removeUnfinished(): void {
  for (const path of unfinished) rmSync(path, { force: true });
}

/**
 * A signal aborted by Ctrl-C (SIGINT) or SIGTERM. Work that does not heed it is ended after a second and a half, or at
 * once by a second Ctrl-C; unfinished files are removed either way.
 */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const leave = (): never => {
    removeUnfinished();
    process.exit(interruptedStatus);
  };
  const interrupt = (): void => {
    if (controller.signal.aborted) leave();
    controller.abort(new Interrupted());
    setTimeout(leave, graceMs).unref();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  process.on("exit", removeUnfinished);
  return controller.signal;
}
