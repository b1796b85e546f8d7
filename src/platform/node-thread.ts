import { Worker } from "node:worker_threads";
import type { Thread } from "./thread.ts";

/** What a thread posts once its module is loaded. */
export const threadReady = "ready";

/**
 * Starts a thread that imports a module of pare and calls its export `serve(port, files)`.
 *
 * @param module its address
 * @throws where the thread can't be started: in a program bundled into one file, its files are not there
 */
export async function startThread(module: string): Promise<Thread> {
  const worker = startWorker(module);
  await new Promise<void>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (status) => reject(new Error(`it ended with status ${status}`)));
  });
  forget(worker);
  worker.unref();
  return {
    post: (message, moved = []) => worker.postMessage(message, moved),
    listen(message, ended) {
      worker.on("message", message);
      worker.on("error", ended);
      worker.on("exit", (status) => ended(new Error(`the thread ended with status ${status}`)));
    },
    hold: (held) => (held ? worker.ref() : worker.unref()),
    close() {
      forget(worker);
      worker.on("error", () => {});
      void worker.terminate();
    },
  };
}

/** Without names, Node would remove listeners of its own. */
function forget(worker: Worker): void {
  for (const event of ["message", "error", "exit"]) worker.removeAllListeners(event);
}

function startWorker(module: string): Worker {
  if (!import.meta.url.endsWith(".ts")) {
    return new Worker(new URL("./node-thread-entry.js", import.meta.url), { workerData: module });
  }
  // sources run under tsx, which does not reach threads by itself
  const entry = JSON.stringify(new URL("./node-thread-entry.ts", import.meta.url).href);
  const code = `import("tsx/esm/api").then(({ register }) => { register(); return import(${entry}); })`;
  return new Worker(code, { eval: true, workerData: module });
}
