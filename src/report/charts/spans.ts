import type { Markup } from "../markup.ts";
import type { BarLabel } from "./bars.ts";
import { type Canvas, modelColour, responsive } from "./canvas.ts";

/** An interval before and after, both in units of the first one's length. */
export interface SpanRow {
  readonly label: BarLabel;
  readonly before: readonly [low: number, high: number];
  readonly after: readonly [low: number, high: number];
  readonly title: string;
}

/** What the chart is called, and its axis. */
export interface SpanOptions {
  readonly label: string;
  readonly axis: string;
}

const rowHeight = 24;
const nameHeight = 16;
const stroke = 6;

/** Intervals around zero, the earlier above the later; names at the left, or above where it is narrow. */
export function spans(canvas: Canvas, rows: readonly SpanRow[], options: SpanOptions): Markup {
  const { plot } = canvas;
  const ends = rows.flatMap(({ before, after }) => [...before, ...after]);
  const domain = [Math.min(0, ...ends), Math.max(0, ...ends)];
  return responsive(({ width, narrow }) => {
    const height = rowHeight + (narrow ? nameHeight : 0);
    const lower = narrow ? nameHeight / 2 : 0;
    const marks = (which: "before" | "after", colour: number, dy: number) =>
      plot.ruleY(
        rows.map((row, i) => ({ key: String(i), x1: row[which][0], x2: row[which][1], title: row.title })),
        {
          y: "key",
          x1: "x1",
          x2: "x2",
          title: "title",
          stroke: modelColour(colour),
          strokeWidth: stroke,
          dy: dy + lower,
        },
      );
    return canvas.svg(options.label, {
      width,
      height: rows.length * height + 44,
      marginTop: 36,
      marginBottom: 8,
      marginLeft: narrow ? 8 : 236,
      marginRight: 16,
      x: { axis: "top", label: options.axis, labelArrow: "none", domain, ticks: narrow ? 3 : 6 },
      y: { axis: null, domain: rows.map((_, i) => String(i)), padding: 0, type: "band" },
      marks: [
        plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: narrow ? 3 : 6 }),
        marks("before", 0, -stroke / 2 - 1),
        marks("after", 1, stroke / 2 + 1),
        plot.text(
          rows.map(({ label }, i) => ({
            key: String(i),
            text: narrow ? label.shorter : label.short,
            title: label.full,
          })),
          {
            y: "key",
            text: "text",
            title: "title",
            frameAnchor: "left",
            textAnchor: narrow ? "start" : "end",
            dx: narrow ? 1 : -8,
            dy: narrow ? -height / 2 + nameHeight / 2 + 2 : 0,
          },
        ),
        plot.ruleX([0], { stroke: "var(--muted)" }),
      ],
    });
  });
}
