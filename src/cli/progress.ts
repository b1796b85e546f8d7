import type { SingleBar } from "cli-progress";

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
    note: (message) => void process.stderr.write(`${message}\n`),
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

async function barWatcher(): Promise<Watcher> {
  const { default: bars } = await import("cli-progress");
  let bar: SingleBar | undefined;
  let shown = "";
  const clear = (): void => {
    bar?.stop();
    bar = undefined;
  };
  return {
    clear,
    note(message) {
      clear();
      process.stderr.write(`${message}\n`);
    },
    progress(done, total, what, detail = "") {
      if (bar && what === shown && done < total) {
        bar.setTotal(total);
        bar.update(done, { detail });
        return;
      }
      clear();
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
