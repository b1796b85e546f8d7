import { parentPort, workerData } from "node:worker_threads";
import type { Files } from "./files.ts";
import { nodeFiles } from "./node-data.ts";
import { threadReady } from "./node-thread.ts";
import type { ThreadPort } from "./thread.ts";

/*
 * The thread that node-thread.ts starts: imports the module it is told and hands it the way back.
 */

const { serve } = (await import(workerData as string)) as { serve(port: ThreadPort, files: Files): void };
const port = parentPort!;
serve(
  {
    post: (message, moved = []) => port.postMessage(message, moved),
    listen: (message) => void port.on("message", message),
  },
  nodeFiles,
);
port.postMessage(threadReady);
