import type { Column, Section, Table } from "./document.ts";
import { innerSpace, shorten } from "./format.ts";

/** How to render for a terminal. */
export interface TerminalOptions {
  /** Characters in a line; 80 by default. */
  readonly width?: number;
  /** Bold headings and dim rules by ANSI escapes; off by default. */
  readonly colour?: boolean;
}

/** Sections as text: headings, wrapped lines, and tables no wider than the terminal. */
export function renderTerminal(sections: readonly Section[], options: TerminalOptions = {}): string {
  const { width = 80, colour = false } = options;
  const bold = (text: string): string => (colour ? `\u001b[1m${text}\u001b[22m` : text);
  const dim = (text: string): string => (colour ? `\u001b[2m${text}\u001b[22m` : text);
  const blocks = sections.map(({ title, lines = [], table }) => {
    const block = [bold(title), ...lines.flatMap((line) => wrap(line, width - 2).map((part) => `  ${part}`))];
    if (table) block.push(...tableLines(table, width - 2, dim).map((line) => `  ${line}`));
    return block.join("\n");
  });
  return `${blocks.join("\n\n")}\n`;
}

function tableLines(table: Table, width: number, dim: (text: string) => string): string[] {
  const widths = columnWidths(table, width);
  const line = (cells: readonly string[]): string =>
    widths
      .map((size, i) => align(shorten(cells[i] ?? "", size), size, table.columns[i]!))
      .join("  ")
      .trimEnd();
  const header = line(table.columns.map(({ title }) => title));
  return [...(header === "" ? [] : [dim(header)]), ...table.rows.map(line)];
}

/** Natural widths; where the sum passes the room, flexible columns give way, the widest first. */
function columnWidths({ columns, rows }: Table, room: number): number[] {
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? "").length)));
  const least = 8;
  let over = widths.reduce((sum, width) => sum + width, 2 * (columns.length - 1)) - room;
  while (over > 0) {
    const open = columns.flatMap(({ flexible }, i) => (flexible && widths[i]! > least ? [i] : []));
    const widest = open.sort((a, b) => widths[b]! - widths[a]!)[0];
    if (widest === undefined) break;
    widths[widest]!--;
    over--;
  }
  return widths;
}

function align(text: string, width: number, { right }: Column): string {
  return right ? text.padStart(width) : text.padEnd(width);
}

/** Lines no longer than the width, broken at spaces outside numbers and their units, continuation indented by two. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.replace(innerSpace, "\u00a0").split(/(?<=\S) (?=\S)/)) {
    const joined = line === "" ? word : `${line} ${word}`;
    if (joined.length <= width || line.trim() === "") {
      line = joined;
      continue;
    }
    lines.push(line.trimEnd());
    line = `  ${word.trimStart()}`;
  }
  return [...lines, line].map((wrapped) => wrapped.replaceAll("\u00a0", " "));
}
