/** Why a run was aborted: the reason of the signal given to all long work. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  constructor() {
    super("interrupted");
  }
}

/** Exit status of a program ended by SIGINT: 128 + 2. */
export const interruptedStatus = 130;

const graceMs = 3000;

/**
 * A signal aborted by Ctrl-C (SIGINT) or SIGTERM: work stops at its next check and takes back what it has written.
 * Work that does not heed it is ended after three seconds, or at once by a second Ctrl-C.
 */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const leave = (): never => process.exit(interruptedStatus);
  const interrupt = (): void => {
    if (controller.signal.aborted) leave();
    controller.abort(new Interrupted());
    setTimeout(leave, graceMs).unref();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  return controller.signal;
}
