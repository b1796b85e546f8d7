import { createReadStream, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fail } from "../errors.ts";
import type { KernelTime } from "./runtime.ts";

/** A temporary folder for ONNX Runtime's trace of one session. */
export interface ProfileFolder {
  /** The session option `profileFilePrefix`. */
  readonly prefix: string;
  /** Kernel times from the finished trace. */
  read(): Promise<readonly KernelTime[]>;
  remove(): void;
}

/** Makes a folder for the trace of one session. */
export function profileFolder(): ProfileFolder {
  const folder = mkdtempSync(join(tmpdir(), "pare-profile-"));
  return {
    prefix: join(folder, "trace"),
    async read() {
      const [file] = readdirSync(folder);
      if (!file) return fail("ONNX Runtime", "wrote no profile");
      return kernelTimes(createInterface({ input: createReadStream(join(folder, file)), crlfDelay: Infinity }));
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

interface TraceEvent {
  readonly cat: string;
  readonly name: string;
  /** Microseconds. */
  readonly dur: number;
  readonly args: Readonly<Partial<Record<"op_name" | "provider" | "node_index" | "output_size", string>>>;
}

const kernelSuffix = "_kernel_time";

interface Kernel extends Pick<KernelTime, "node" | "op" | "provider"> {
  /** Milliseconds, run by run. */
  readonly times: number[];
  outputBytes: number;
}

/** Gathers the kernel events of a trace (Chrome's trace event format, one event a line). */
async function kernelTimes(lines: AsyncIterable<string>): Promise<KernelTime[]> {
  const found = new Map<string, Kernel>();
  for await (const line of lines) {
    if (!line.includes(kernelSuffix)) continue;
    const event = JSON.parse(line.slice(line.indexOf("{"), line.lastIndexOf("}") + 1)) as TraceEvent;
    if (event.cat !== "Node" || !event.name.endsWith(kernelSuffix)) continue;
    const { op_name: op = "", provider = "", node_index: index = "", output_size: outputSize } = event.args;
    const node = event.name.slice(0, -kernelSuffix.length);
    const key = `${index} ${op} ${node}`;
    const kernel = found.get(key) ?? { node, op, provider, times: [], outputBytes: 0 };
    kernel.times.push(event.dur / 1000);
    kernel.outputBytes = Number(outputSize ?? 0);
    found.set(key, kernel);
  }
  return [...found.values()].map(({ times, ...kernel }) => ({
    ...kernel,
    ms: times.reduce((a, b) => a + b, 0),
    median: times.toSorted((a, b) => a - b)[times.length >> 1]!,
    runs: times.length,
  }));
}
