/** Another thread that runs a module of pare, as the starting side sees it. */
export interface Thread {
  /** Sends a message that can be cloned; the buffers in `moved` change hands. */
  post(message: unknown, moved?: readonly ArrayBuffer[]): void;
  /** Takes every message from now on, and the reason if the thread ends. */
  listen(message: (message: unknown) => void, ended: (reason: unknown) => void): void;
  /** Whether the program waits for the thread before it ends; at first it does not. */
  hold(held: boolean): void;
  /** Ends the thread; `ended` is not called. */
  close(): void;
}

/** The other end: what a thread's module gets. */
export interface ThreadPort {
  post(message: unknown, moved?: readonly ArrayBuffer[]): void;
  listen(message: (message: unknown) => void): void;
}
