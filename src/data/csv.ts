import { fail } from "../errors.ts";

/** A table of text. */
export interface Table {
  /** Column names; "column 1", ... where the file has none. */
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/**
 * Parses comma- or tab-separated text (RFC 4180: quoted fields, doubled quotes, line breaks inside quotes). The
 * separator of a .tsv is the tab, else the one of comma, tab and semicolon that the first line has most of. The first row is a header where
 * none of its cells is a number while the second row has one, or where it has no number and no cell repeats below it.
 *
 * @param who the file's name: what to call it in messages
 * @throws PareError where a quote does not end, or a row has another number of cells than the first
 */
export function parseTable(text: string, who: string): Table {
  const separator = /\.tsv(\.gz|\.br)?$/i.test(who) ? "\t" : separatorOf(text);
  const rows = parseRows(text.replace(/^\ufeff/, ""), separator, who);
  const [first, second] = rows;
  if (!first) return fail(who, "has no rows");
  const odd = rows.findIndex((row) => row.length !== first.length);
  if (odd >= 0) fail(who, `row ${odd + 1} has ${rows[odd]!.length} cells, the first has ${first.length}`);
  const named = !first.some(isNumber) && second !== undefined && (second.some(isNumber) || !repeats(rows));
  if (named) return { header: first.map((cell) => cell.trim()), rows: rows.slice(1) };
  return { header: first.map((_, i) => `column ${i + 1}`), rows };
}

/** Whether a cell is a number. */
export function isNumber(cell: string): boolean {
  return cell.trim() !== "" && Number.isFinite(Number(cell));
}

function repeats(rows: readonly (readonly string[])[]): boolean {
  return rows[0]!.some((cell, column) => rows.some((row, i) => i > 0 && row[column] === cell));
}

function separatorOf(text: string): string {
  const line = text.slice(0, text.search(/[\r\n]|$/));
  const count = (separator: string): number => line.split(separator).length;
  return [",", "\t", ";"].reduce((best, separator) => (count(separator) > count(best) ? separator : best));
}

function parseRows(text: string, separator: string, who: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const endRow = (cell: string): void => {
    if (row.length > 0 || cell !== "") rows.push([...row, cell]);
    row = [];
  };
  for (let at = 0; at < text.length; ) {
    let cell: string;
    if (text[at] === '"') {
      let end = at + 1;
      for (; text[end] !== '"' || text[end + 1] === '"'; end += text[end] === '"' ? 2 : 1) {
        if (end >= text.length) fail(who, `a quote in row ${rows.length + 1} does not end`);
      }
      cell = text.slice(at + 1, end).replaceAll('""', '"');
      at = end + 1;
    } else {
      let end = at;
      while (end < text.length && text[end] !== separator && text[end] !== "\n" && text[end] !== "\r") end++;
      cell = text.slice(at, end);
      at = end;
    }
    if (text[at] === separator) {
      row.push(cell);
      at++;
      if (at === text.length) endRow("");
      continue;
    }
    endRow(cell);
    if (text[at] === "\r") at++;
    if (text[at] === "\n") at++;
  }
  return rows;
}
