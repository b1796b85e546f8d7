/** Writes a benchmark's results into its section of docs/benchmarks.md, with the machine and the date. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { arch, cpus, platform, totalmem } from "node:os";

const page = new URL("../docs/benchmarks.md", import.meta.url);

/** What the figures were measured on. */
export function machine(): string {
  const [cpu] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} cores of ${cpu?.model.trim() ?? "an unknown processor"}, ${memory} GiB, ${platform()} ${arch()}, Node ${process.versions.node}`;
}

/**
 * Replaces (or adds) one section of the page.
 *
 * @param id marks the section in the page's source
 * @param title its heading
 * @param command the one line that measures it again
 * @param body markdown
 */
export function record(id: string, title: string, command: string, body: string): void {
  const date = new Date().toISOString().slice(0, 10);
  const section = [
    `<!-- begin ${id} -->`,
    `## ${title}`,
    "",
    `\`${command}\`. Measured ${date} on ${machine()}.`,
    "",
    body.trim(),
    `<!-- end ${id} -->`,
  ].join("\n");
  const before = existsSync(page)
    ? readFileSync(page, "utf8")
    : "# Benchmarks\n\nEvery figure is written here by the command named above it.\n";
  const pattern = new RegExp(`<!-- begin ${id} -->[\\s\\S]*?<!-- end ${id} -->`);
  const after = pattern.test(before) ? before.replace(pattern, () => section) : `${before.trimEnd()}\n\n${section}\n`;
  writeFileSync(page, after);
}

/** Rows as a markdown table. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}
