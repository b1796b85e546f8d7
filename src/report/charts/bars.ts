import type { Markup } from "../markup.ts";
import { type Canvas, modelColour, responsive, tickText } from "./canvas.ts";

/** One row: a layer with a value of every model; undefined where the model has no such layer or it was not measured. */
export interface BarRow {
  readonly label: { readonly short: string; readonly shorter: string; readonly full: string };
  readonly values: readonly (number | undefined)[];
}

/** What the bars show. */
export interface BarOptions {
  readonly label: string;
  /** Name of the horizontal axis, with its unit. */
  readonly axis: string;
  /** Names of the models, in the order of the values. */
  readonly models: readonly string[];
  format(value: number): string;
}

const barHeight = 12;
const gap = 9;
const nameHeight = 17;

/**
 * Horizontal bars, one a model in every row; names at the left, or above the bars where it is narrow.
 *
 * @param rowsFor the rows, at most about `limit`
 */
export function bars(canvas: Canvas, rowsFor: (limit: number) => readonly BarRow[], options: BarOptions): Markup {
  const { plot } = canvas;
  return responsive(({ width, narrow }) => {
    const models = options.models.length;
    const rows = rowsFor(narrow ? 12 : 24);
    const above = narrow ? nameHeight : 0;
    const rowHeight = above + models * barHeight + gap;
    const middle = rowHeight / 2;
    const keys = rows.map((_, i) => String(i));
    const marks = options.models.flatMap((name, m) => {
      const data = rows.flatMap(({ values, label }, i) =>
        values[m] === undefined
          ? []
          : [
              {
                key: keys[i],
                value: values[m],
                text: options.format(values[m]),
                title: `${label.full}\n${name}: ${options.format(values[m])}`,
              },
            ],
      );
      const top = gap / 2 + above + m * barHeight;
      return [
        plot.barX(data, {
          y: "key",
          x: "value",
          title: "title",
          fill: modelColour(m),
          insetTop: top,
          insetBottom: rowHeight - top - barHeight + 1,
        }),
        plot.text(data, {
          y: "key",
          x: "value",
          text: "text",
          textAnchor: "start",
          dx: 4,
          dy: top + barHeight / 2 - middle,
          fontSize: 10.5,
          fill: "var(--muted)",
        }),
      ];
    });
    const names = rows.map(({ label }, i) => ({
      key: keys[i],
      text: narrow ? label.shorter : label.short,
      title: label.full,
    }));
    return canvas.svg(options.label, {
      width,
      height: rows.length * rowHeight + 44,
      marginTop: 36,
      marginBottom: 8,
      marginLeft: narrow ? 1 : 236,
      marginRight: 70,
      x: {
        axis: "top",
        label: options.axis,
        labelArrow: "none",
        nice: true,
        ticks: narrow ? 3 : 6,
        tickFormat: (x: number) => tickText(options.format(x)),
      },
      y: { axis: null, domain: keys, padding: 0 },
      marks: [
        plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: narrow ? 3 : 6 }),
        ...marks,
        plot.text(names, {
          y: "key",
          text: "text",
          title: "title",
          frameAnchor: "left",
          textAnchor: narrow ? "start" : "end",
          dx: narrow ? 1 : -8,
          dy: narrow ? gap / 2 + nameHeight / 2 - middle : 0,
        }),
        plot.ruleX([0], { stroke: "var(--muted)" }),
      ],
    });
  });
}
