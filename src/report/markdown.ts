import { reportSections, type Section, type Table } from "./document.ts";
import type { Report } from "./report.ts";

/** A report as markdown: for a pull request, a wiki, an issue. */
export function reportMarkdown(report: Report): string {
  const { machine, data } = report;
  const where = `${machine.runtime}, ${machine.provider}, ${machine.threads} threads, ${machine.processor}`;
  const samples = data?.samples === undefined ? "" : `${data.samples} samples of `;
  const what = data ? `${samples}${data.name}; ` : "";
  return `# ${escaped(report.title)}\n\n${escaped(what + where)}\n\n${renderMarkdown(reportSections(report))}`;
}

/** Sections as markdown: headings, lists and pipe tables. */
export function renderMarkdown(sections: readonly Section[]): string {
  const blocks = sections.map(({ title, lines = [], table }) =>
    [
      `## ${escaped(title)}`,
      ...(lines.length > 0 ? [lines.map((line) => `- ${escaped(line)}`).join("\n")] : []),
      ...(table ? [pipes(table)] : []),
    ].join("\n\n"),
  );
  return `${blocks.join("\n\n")}\n`;
}

function pipes({ columns, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => escaped(cell) || " ").join(" | ")} |`;
  const rule = `| ${columns.map(({ right }) => (right ? "---:" : "---")).join(" | ")} |`;
  return [
    line(columns.map(({ title }) => title)),
    rule,
    ...rows.map((row) => line(columns.map((_, i) => row[i] ?? ""))),
  ].join("\n");
}

function escaped(text: string): string {
  return text.replace(/[\\`*_{}[\]<>|#]/g, "\\$&").replace(/\s+/g, " ");
}
