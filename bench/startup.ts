/** How long `pare --help` and a small command take from the shell. `npm run build && npx tsx bench/startup.ts` */
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { record, table } from "./document.ts";

const bin = fileURLToPath(new URL("../bin/pare.js", import.meta.url));
const digits = fileURLToPath(new URL("../examples/digits/model.onnx", import.meta.url));
const runs = 21;

/** Median wall time of a command, milliseconds. */
function time(...args: string[]): number {
  const times = Array.from({ length: runs }, () => {
    const start = performance.now();
    const { status, stderr } = spawnSync("node", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return performance.now() - start;
  });
  return times.toSorted((a, b) => a - b)[Math.floor(runs / 2)]!;
}

const out = join(tmpdir(), `pare-startup-${process.pid}.onnx`);
const rows = [
  ["node alone", time("-e", "0"), "-"],
  ["pare --help", time(bin, "--help"), "150 ms"],
  [
    "pare quantize-weights examples/digits/model.onnx",
    time(bin, "quantize-weights", digits, "-o", out, "--quiet"),
    "-",
  ],
] as const;
const body = table(
  ["command", `median of ${runs}`, "bar"],
  rows.map(([what, ms, bar]) => [what, `${ms.toFixed(0)} ms`, bar]),
);
record("startup", "Start-up", "npm run build && npx tsx bench/startup.ts", body);
console.log(body);
