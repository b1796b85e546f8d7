import { shorten } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, responsive } from "./canvas.ts";

/** A row of a grid. */
export interface GridRow {
  readonly name: string;
  /** One a column; undefined where there is nothing. */
  readonly cells: readonly (GridCell | undefined)[];
}

/** A cell: its shade from 0 to 1, what stands in it and what it means. */
export interface GridCell {
  readonly shade: number;
  readonly text: string;
  readonly title: string;
  /** Has a frame. */
  readonly chosen: boolean;
}

const rowHeight = 20;

/** Rows and columns of shaded cells, with a frame around one in each row. */
export function grid(canvas: Canvas, label: string, columns: readonly string[], rows: readonly GridRow[]): Markup {
  const { plot } = canvas;
  const cells = rows.flatMap((row, r) =>
    row.cells.flatMap((cell, c) => (cell ? [{ ...cell, row: String(r), column: columns[c]! }] : [])),
  );
  const place = { x: "column", y: "row", inset: 1 } as const;
  return responsive(({ width, narrow }) =>
    canvas.svg(label, {
      width,
      height: rows.length * rowHeight + 40,
      marginTop: 32,
      marginBottom: 8,
      marginLeft: narrow ? 92 : 236,
      marginRight: 1,
      x: { axis: "top", label: null, domain: [...columns], tickSize: 0, ...(narrow && { tickRotate: -30 }) },
      y: { axis: null, domain: rows.map((_, i) => String(i)) },
      marks: [
        plot.cell(cells, { ...place, title: "title", fill: "var(--model-2)", fillOpacity: "shade" }),
        plot.cell(
          cells.filter(({ chosen }) => chosen),
          { ...place, fill: "none", stroke: "var(--ink)", strokeWidth: 2 },
        ),
        plot.text(cells, { x: "column", y: "row", text: "text", fontSize: narrow ? 9 : 11, fill: "var(--ink)" }),
        plot.text(
          rows.map(({ name }, i) => ({ row: String(i), text: shorten(name, narrow ? 14 : 32), title: name })),
          { y: "row", text: "text", title: "title", frameAnchor: "left", textAnchor: "end", dx: -8 },
        ),
      ],
      opacity: { type: "identity" },
    }),
  );
}
