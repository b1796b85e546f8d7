import { arch, cpus, platform, release } from "node:os";
import type { Runtime } from "../platform/runtime.ts";
import type { Report } from "../report/report.ts";

/** The machine that measures, for reports. */
export function machineOf(runtime: Runtime): Report["machine"] {
  const processors = cpus();
  return {
    runtime: runtime.name,
    provider: runtime.provider,
    threads: runtime.threads,
    processor: `${processors[0]?.model.trim() ?? "unknown"} (${processors.length} cores)`,
    platform: `${platform()} ${release()} ${arch()}, Node ${process.versions.node}`,
  };
}
