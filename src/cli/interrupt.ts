const nothing = "No file was written or changed.";

/** Why a run was aborted: the reason of the signal given to all long work. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  /** Gives the work as long as it needs to put away what it has; a second Ctrl-C still ends it at once. */
  readonly wait: () => void;
  constructor(message = `interrupted. ${nothing}`, wait = () => {}) {
    super(message);
    this.wait = wait;
  }
}

/**
 * Work whose interruption is told otherwise: by what is there by then.
 *
 * @param said the message, without its first word
 */
export async function interruptedAs<T>(signal: AbortSignal, said: () => string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error === signal.reason ? new Interrupted(`interrupted${said()}`) : error;
  }
}

/** What is said of interrupted work that keeps its steps in a folder, if it has one. */
export function keptIn(work: string | undefined): string {
  return work === undefined ? `. ${nothing}` : `. What is finished is in ${work}: the same command goes on from there.`;
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
    const grace = setTimeout(leave, graceMs).unref();
    controller.abort(new Interrupted(undefined, () => clearTimeout(grace)));
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  return controller.signal;
}
