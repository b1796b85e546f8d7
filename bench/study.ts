/** What the long studies share: the folders they work in, the command line they run, the logs they read, pictures. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { EpochRecord, TrainRecord } from "../src/training/progress.ts";

const cli = fileURLToPath(new URL("../bin/pare.js", import.meta.url));
const threads = process.env.PARE_THREADS === undefined ? [] : ["--threads", process.env.PARE_THREADS];

/** The folder that an environment variable names. */
export function folder(variable: string): string {
  return process.env[variable] ?? missing(variable);
}

/** Ends the study: something that its head asks for is not there. */
export function missing(what: string): never {
  throw new Error(`${what} is not there: see the head of the benchmark`);
}

/** Runs pare, showing its progress, and gives what it printed. PARE_THREADS spares cores. */
export function pare(args: readonly string[]): string {
  // what runs no model has no threads
  const done = spawnSync(process.execPath, [cli, ...args, ...(args[0] === "convert" ? [] : threads)], {
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 2 ** 28,
  });
  if (done.status !== 0) throw new Error(`pare ${args.join(" ")}\n${done.stdout}`);
  return done.stdout.toString();
}

/** The epochs of a metrics log; of an epoch that was run twice around a kill the later line counts. */
export function epochsOf(log: string): readonly EpochRecord[] {
  const lines = readFileSync(log, "utf8").trim().split("\n");
  const epochs = lines.map((line) => JSON.parse(line) as TrainRecord).filter((line) => line.kind === "epoch");
  return [...new Map(epochs.map((line) => [`${line.training ?? ""} ${line.step}`, line])).values()];
}

/** Minutes that the epochs of a metrics log took. */
export function minutesOf(log: string): number {
  return epochsOf(log).reduce((sum, { seconds }) => sum + seconds, 0) / 60;
}

/** Charts side by side as one picture in docs/images, and the markdown that shows it. */
export function draw(file: string, alt: string, charts: readonly plot.PlotOptions[]): string {
  const { document } = parseHTML("<html><body></body></html>");
  let width = 0;
  const parts = charts.map((options) => {
    const chart = plot.plot({
      document: document as unknown as Document,
      height: 240,
      marginLeft: 48,
      style: { background: "white", color: "#333" },
      ...options,
    });
    const placed = chart.outerHTML.replace("<svg", `<svg x="${width}"`);
    width += options.width ?? 480;
    return placed;
  });
  const height = Math.max(...charts.map((options) => options.height ?? 240));
  const box = `width="${width}" height="${height}"`;
  const picture = `<svg xmlns="http://www.w3.org/2000/svg" ${box} viewBox="0 0 ${width} ${height}"><rect ${box} fill="white"/>${parts.join("")}</svg>\n`;
  writeFileSync(new URL(`../docs/images/${file}`, import.meta.url), picture);
  return `![${alt}](images/${file})`;
}
