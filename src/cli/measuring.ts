import { nodeCompressor } from "../platform/node-compress.ts";
import type { CompareOptions } from "../report/compare.ts";
import type { Environment } from "./environment.ts";
import { machineOf } from "./machine.ts";
import { peakMemoryOf } from "./memory.ts";

/** What commands that compare models have in common: where they run, who watches, and all that can be measured here. */
export function measuring({ runtime, seed, signal, watcher }: Environment): Omit<CompareOptions, "title"> {
  return {
    runtime,
    machine: machineOf(runtime),
    seed,
    signal,
    progress: watcher.progress,
    compressor: nodeCompressor,
    peakMemory: (graph) => peakMemoryOf(graph, runtime, signal),
    command: commandLine(),
  };
}

/** The command that runs, as a shell takes it. */
export function commandLine(args: readonly string[] = process.argv.slice(2)): string {
  const quoted = args.map((text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`));
  return ["pare", ...quoted].join(" ");
}
