import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { fail, messageOf } from "../errors.ts";
import type { Report } from "../report/report.ts";

const renderers: Readonly<Record<string, (report: Report) => Promise<string>>> = {
  ".html": async (report) => (await import("../report/html.ts")).renderHtml(report),
  ".htm": async (report) => (await import("../report/html.ts")).renderHtml(report),
  ".md": async (report) => (await import("../report/markdown.ts")).reportMarkdown(report),
  ".json": async (report) => `${JSON.stringify(report, undefined, 2)}\n`,
};

/**
 * Refuses a report's path before any work is done.
 *
 * @throws PareError for an ending that says no known format
 */
export function checkReport(path: string): void {
  if (!Object.hasOwn(renderers, extname(path).toLowerCase())) {
    fail(path, "can't tell the report's format from this name", `End it in ${Object.keys(renderers).join(", ")}`);
  }
}

/** Writes a report in the format that the path's ending says: whole or not at all. */
export async function writeReport(report: Report, path: string): Promise<void> {
  const text = await renderers[extname(path).toLowerCase()]!(report);
  const temporary = join(dirname(path), `.pare-${process.pid}.report.tmp`);
  try {
    const file = openSync(temporary, "w");
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    fail(path, `can't be written (${messageOf(error)})`, "Check the folder", error);
  }
}
