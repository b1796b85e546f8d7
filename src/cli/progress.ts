import type { SingleBar } from "cli-progress";
import { printable } from "./printable.ts";

/** Lines and progress for the person watching, on stderr: stdout belongs to results. */
export interface Watcher {
  /** One line. */
  note(message: string): void;
  /** How far a long step is: a bar with the time left on a terminal, now and then a line elsewhere. */
  progress(done: number, total: number, what: string, detail?: string): void;
  /** Takes the bar away. */
  clear(): void;
}

const lineEveryMs = 5000;

/** A watcher that says nothing. */
export const silent: Watcher = { note() {}, progress() {}, clear() {} };

/** A watcher for stderr; with a bar where that is a terminal. */
export async function watcher(): Promise<Watcher> {
  return process.stderr.isTTY ? barWatcher() : lineWatcher();
}

function lineWatcher(): Watcher {
  let [last, counted, before] = [0, "", 0];
  return {
    note: (message) => void process.stderr.write(`${printable(message)}\n`),
    progress(done, total, what, detail) {
      const now = performance.now();
      if (what !== counted || done < before) last = now;
      [counted, before] = [what, done];
      if (now - last < lineEveryMs) return;
      last = now;
      process.stderr.write(`  ${done} of ${total} ${what}${detail ? `, ${detail}` : ""}\n`);
    },
    clear() {},
  };
}

/** The bar that is on the terminal: its timer keeps the process alive, and the cursor is hidden as long as it is there. */
let bar: SingleBar | undefined;

/** Takes the bar away, if there is one, and gives the cursor back. */
export function clearProgress(): void {
  bar?.stop();
  bar = undefined;
}

async function barWatcher(): Promise<Watcher> {
  const { default: bars } = await import("cli-progress");
  let shown = "";
  process.on("exit", clearProgress);
  return {
    clear: clearProgress,
    note(message) {
      clearProgress();
      process.stderr.write(`${printable(message)}\n`);
    },
    progress(done, total, what, detail = "") {
      if (bar && what === shown && done < total) {
        bar.setTotal(total);
        bar.update(done, { detail });
        return;
      }
      clearProgress();
      if (done >= total) return;
      shown = what;
      const format = `  {bar} {value} of {total} ${what}, {eta_formatted} left  {detail}`;
      bar = new bars.SingleBar({
        format,
        clearOnComplete: true,
        hideCursor: true,
        barsize: 24,
        stream: process.stderr,
      });
      bar.start(total, done, { detail });
    },
  };
}
