// Loaded with `node --import`: at exit, writes the process's peak resident memory in bytes to the file PARE_PEAK names.
import { writeFileSync } from "node:fs";

process.on("exit", () => {
  if (process.env.PARE_PEAK) writeFileSync(process.env.PARE_PEAK, `${process.resourceUsage().maxRSS * 1024}`);
});
