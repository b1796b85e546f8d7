import { extname } from "node:path";
import type { Report } from "../report/report.ts";
import { checkTextFile, writeText } from "./text-file.ts";

const renderers: Readonly<Record<string, (report: Report) => Promise<string>>> = {
  ".html": async (report) => (await import("../report/html.ts")).renderHtml(report),
  ".htm": async (report) => (await import("../report/html.ts")).renderHtml(report),
  ".md": async (report) => (await import("../report/markdown.ts")).reportMarkdown(report),
  ".json": async (report) => `${JSON.stringify(report, undefined, 2)}\n`,
};

/**
 * Refuses a report's path before any work is done.
 *
 * @throws PareError for an ending that says no known format, or a folder that does not exist
 */
export function checkReport(path: string): void {
  checkTextFile(path, "report", Object.keys(renderers));
}

/** Writes a report in the format that the path's ending says: whole or not at all. */
export async function writeReport(report: Report, path: string): Promise<void> {
  writeText(path, await renderers[extname(path).toLowerCase()]!(report));
}
