import { shorten } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, modelColour, responsive, tickText } from "./canvas.ts";

/** A name for the room at the left, for the room above the bars, and in full. */
export interface BarLabel {
  readonly short: string;
  readonly shorter: string;
  readonly full: string;
}

/** A name as long as there is room for it. */
export function barLabel(name: string, full = name): BarLabel {
  return { short: shorten(name, 32), shorter: shorten(name, 44), full };
}

/** One row: a layer with a value of every model; undefined where the model has no such layer or it was not measured. */
export interface BarRow {
  readonly label: BarLabel;
  readonly values: readonly (number | undefined)[];
  /** What stands beside the bars; the values as they are formatted if absent. */
  readonly texts?: readonly string[];
}

/** What the bars show. */
export interface BarOptions {
  readonly label: string;
  /** Name of the horizontal axis, with its unit. */
  readonly axis: string;
  /** Names of the models, in the order of the values. */
  readonly models: readonly string[];
  format(value: number): string;
  /** Where the axis ends; at the longest bar if absent. */
  readonly end?: number;
  /** Place of the first model in the report, for its colour; 0 if absent. */
  readonly firstModel?: number;
}

const barHeight = 12;
const gap = 9;
const nameHeight = 17;

/** Pixels of a row. */
interface Layout {
  readonly narrow: boolean;
  /** Space above the bars for the name, where it is narrow. */
  readonly above: number;
  readonly rowHeight: number;
}

/**
 * Horizontal bars, one a model in every row; names at the left, or above the bars where it is narrow.
 *
 * @param rowsFor the rows, at most about `limit`
 */
export function bars(canvas: Canvas, rowsFor: (limit: number) => readonly BarRow[], options: BarOptions): Markup {
  const { plot } = canvas;
  return responsive(({ width, narrow }) => {
    const rows = rowsFor(narrow ? 12 : 24);
    const above = narrow ? nameHeight : 0;
    const layout = { narrow, above, rowHeight: above + options.models.length * barHeight + gap };
    const ticks = narrow ? 3 : 6;
    return canvas.svg(options.label, {
      width,
      height: rows.length * layout.rowHeight + 44,
      marginTop: 36,
      marginBottom: 8,
      marginLeft: narrow ? 1 : 236,
      marginRight: 70,
      x: {
        axis: "top",
        label: options.axis,
        labelArrow: "none",
        ...(options.end === undefined ? { nice: true } : { domain: [0, options.end] }),
        ticks,
        tickFormat: (x: number) => tickText(options.format(x)),
      },
      y: { axis: null, domain: rows.map((_, i) => String(i)), padding: 0 },
      marks: [
        plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks }),
        ...options.models.flatMap((_, m) => barMarks(canvas, rows, options, m, layout)),
        nameMark(canvas, rows, layout),
        plot.ruleX([0], { stroke: "var(--muted)" }),
      ],
    });
  });
}

/** The bars of one model, with their values. */
function barMarks({ plot }: Canvas, rows: readonly BarRow[], options: BarOptions, m: number, layout: Layout) {
  const data = rows.flatMap(({ values, texts, label }, i) => {
    const value = values[m];
    if (value === undefined) return [];
    const text = texts?.[m] ?? options.format(value);
    return [{ key: String(i), value, text, title: `${label.full}\n${options.models[m]}: ${text}` }];
  });
  const top = gap / 2 + layout.above + m * barHeight;
  return [
    plot.barX(data, {
      y: "key",
      x: "value",
      title: "title",
      fill: modelColour(m + (options.firstModel ?? 0)),
      insetTop: top,
      insetBottom: layout.rowHeight - top - barHeight + 1,
    }),
    plot.text(data, {
      y: "key",
      x: "value",
      text: "text",
      textAnchor: "start",
      dx: 4,
      dy: top + barHeight / 2 - layout.rowHeight / 2,
      fontSize: 10.5,
      fill: "var(--muted)",
    }),
  ];
}

function nameMark({ plot }: Canvas, rows: readonly BarRow[], { narrow, rowHeight }: Layout) {
  const names = rows.map(({ label }, i) => ({
    key: String(i),
    text: narrow ? label.shorter : label.short,
    title: label.full,
  }));
  return plot.text(names, {
    y: "key",
    text: "text",
    title: "title",
    frameAnchor: "left",
    textAnchor: narrow ? "start" : "end",
    dx: narrow ? 1 : -8,
    dy: narrow ? gap / 2 + nameHeight / 2 - rowHeight / 2 : 0,
  });
}
