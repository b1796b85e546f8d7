import { milliseconds } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, halo, modelColour, responsive, tickText } from "./canvas.ts";

/** Times of one model, milliseconds. */
export interface LatencyRow {
  readonly model: string;
  readonly median: number;
  readonly quartiles: readonly [low: number, high: number];
  /** Single runs, where they were kept. */
  readonly times: readonly number[];
}

const rowHeight = 66;
const nameHeight = 20;

/** Distribution of latency: a dot a run, the middle half as a band, the median as a line; one row a model. */
export function latencyChart(canvas: Canvas, rows: readonly LatencyRow[]): Markup {
  const { plot } = canvas;
  const limit = axisEnd(rows);
  return responsive(({ width, narrow }) => {
    const ticks = narrow ? 4 : 8;
    return canvas.svg("Distribution of the time of one inference, one row a model", {
      width,
      height: rows.length * rowHeight + 44,
      marginTop: 2,
      marginLeft: 8,
      marginRight: narrow ? 20 : 30,
      marginBottom: 40,
      x: {
        label: "time of one inference",
        labelArrow: "none",
        domain: [0, limit],
        ticks,
        tickFormat: (x: number) => tickText(milliseconds(x)),
      },
      y: { axis: null, domain: rows.map((_, i) => String(i)), padding: 0 },
      marks: [
        plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks }),
        ...rows.flatMap((row, i) => rowMarks(canvas, row, i, limit)),
        plot.ruleX([0], { stroke: "var(--muted)" }),
      ],
    });
  });
}

function rowMarks({ plot }: Canvas, { model, median, quartiles, times }: LatencyRow, index: number, limit: number) {
  const key = String(index);
  const row = { key, median, low: quartiles[0], high: quartiles[1], text: `${model}: ${milliseconds(median)}` };
  const colour = modelColour(index);
  return [
    plot.dot(
      times.filter((time) => time <= limit),
      { x: (time: number) => time, y: () => key, r: 2, fill: colour, fillOpacity: 0.35, dy: 8 },
    ),
    plot.barX([row], {
      x1: "low",
      x2: "high",
      y: "key",
      fill: colour,
      fillOpacity: 0.55,
      insetTop: nameHeight + 8,
      insetBottom: 10,
    }),
    plot.tickX([row], {
      x: "median",
      y: "key",
      stroke: "var(--ink)",
      strokeWidth: 2,
      insetTop: nameHeight + 4,
      insetBottom: 4,
    }),
    plot.text([row], {
      y: "key",
      text: "text",
      frameAnchor: "left",
      textAnchor: "start",
      dx: 6,
      dy: nameHeight / 2 - rowHeight / 2,
      fill: "currentColor",
      ...halo,
    }),
  ];
}

/**
 * Where the axis ends: behind the middle half of every model's runs, and behind 99 in 100 of them unless these lie
 * beyond three medians, as they do where the machine was busy.
 */
export function axisEnd(rows: readonly LatencyRow[]): number {
  const ends = rows.map(({ times, median, quartiles }) => {
    const sorted = times.toSorted((a, b) => a - b);
    const most = sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0;
    return Math.max(quartiles[1] * 1.1, Math.min(most, median * 3));
  });
  return Math.max(...ends, 1e-6) * 1.02;
}
