import { readFileSync, writeFileSync } from "node:fs";
import type { MemoryMeter } from "./meter.ts";

/** What the process holds of physical memory, bytes. */
export interface Memory {
  /** Now. */
  readonly resident: number;
  /** The most since the process began, or since {@link resetPeakMemory}. */
  readonly peak: number;
}

/** Memory of this process: Linux tells both numbers at once, elsewhere the peak is the operating system's own record. */
export function memory(): Memory {
  const resident = process.memoryUsage.rss();
  try {
    // VmHWM: "high water mark" of the resident set (Linux, proc(5))
    const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    if (kib) return { resident, peak: Math.max(resident, Number(kib) * 1024) };
  } catch {
    // no /proc here
  }
  return { resident, peak: Math.max(resident, process.resourceUsage().maxRSS * 1024) };
}

/** Lets {@link Memory.peak} count from now; false where the system offers no way to. */
export function resetPeakMemory(): boolean {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
    return true;
  } catch {
    return false;
  }
}

/** {@link memory} as measurements take it. */
export const nodeMeter: MemoryMeter = {
  reset: () => void resetPeakMemory(),
  peak: () => memory().peak,
};
