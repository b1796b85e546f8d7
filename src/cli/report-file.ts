import { extname } from "node:path";
import type { Report } from "../report/report.ts";
import { writeText } from "./text-file.ts";

const renderers: Readonly<Record<string, (report: Report) => Promise<string>>> = {
  ".html": async (report) => (await import("../report/html.ts")).renderHtml(report),
  ".htm": async (report) => (await import("../report/html.ts")).renderHtml(report),
  ".md": async (report) => (await import("../report/markdown.ts")).reportMarkdown(report),
  ".json": async (report) => `${JSON.stringify(report, undefined, 2)}\n`,
};

/** What a report's name may end in. */
export const reportEndings = Object.keys(renderers);

/** Writes a report in the format that the path's ending says: whole or not at all. */
export async function writeReport(report: Report, path: string): Promise<void> {
  writeText(path, await renderers[extname(path).toLowerCase()]!(report));
}
