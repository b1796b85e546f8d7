import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Graph } from "../graph/graph.ts";
import { save } from "../platform/node.ts";
import type { Runtime } from "../platform/runtime.ts";

const run = promisify(execFile);

/**
 * Bytes by which loading and running a model raises a fresh process's resident memory at its peak: weights, activations
 * and the runtime's own copies, without Node. Measured in a process of its own, so that nothing before it counts.
 *
 * @returns undefined where that process failed: for a model that made-up samples do not run, say
 */
export async function peakMemoryOf(graph: Graph, runtime: Runtime, signal: AbortSignal): Promise<number | undefined> {
  const folder = mkdtempSync(join(tmpdir(), "pare-memory-"));
  try {
    const model = join(folder, "model.onnx");
    await save(graph, model, { signal });
    const ending = import.meta.url.slice(import.meta.url.lastIndexOf("."));
    const child = fileURLToPath(new URL(`./memory-child${ending}`, import.meta.url));
    // sources run under a loader that the child needs as well
    const loader = ending === ".ts" ? process.execArgv : [];
    const args = [...loader, child, model, runtime.provider, String(runtime.threads)];
    const { stdout } = await run(process.execPath, args, { signal });
    const bytes = Number(stdout);
    return Number.isFinite(bytes) && bytes > 0 ? bytes : undefined;
  } catch {
    signal.throwIfAborted();
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
