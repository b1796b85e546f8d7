import { significant } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, halo, modelColour, responsive } from "./canvas.ts";

/** Signal to noise of one model's values against the original's, in order of execution. */
export interface DivergenceLine {
  readonly model: string;
  /** Index of the model in the report, for its colour. */
  readonly index: number;
  /** Decibels; not finite where the values are equal. */
  readonly values: readonly { readonly node: string; readonly value: string; readonly sqnr: number }[];
  readonly firstBad?: string;
}

/** Decibels between which the curve is drawn: above, only rounding of floats is left; below, nothing of the signal. */
const ceiling = 80;
const floor = -20;
/** More dots would only swell the page. */
const mostDots = 300;

/** Places of the values along the network: those of the longest line; a value that it lacks shares its forerunner's. */
function places(lines: readonly DivergenceLine[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const { values } of lines.toSorted((a, b) => b.values.length - a.values.length)) {
    const next = found.size === 0 ? 1 : 0;
    let last = 1 - next;
    for (const { value } of values) {
      last = found.get(value) ?? last + next;
      found.set(value, last);
    }
  }
  return found;
}

/** How the error grows along the network: one line a model, the first bad node marked. */
export function divergenceChart(
  canvas: Canvas,
  lines: readonly DivergenceLine[],
  short: (name: string) => string,
): Markup {
  const { plot } = canvas;
  const place = places(lines);
  const heights = lines.flatMap(({ values }) => values.map(({ sqnr }) => shown(sqnr)));
  const top = Math.max(...heights, 30);
  const low = Math.min(...heights, 0);
  return responsive(({ width, narrow }) =>
    canvas.svg("Signal to noise of the values inside the network, in order of execution", {
      width,
      height: narrow ? 260 : 300,
      marginTop: 30,
      marginLeft: 40,
      marginRight: 16,
      marginBottom: 40,
      x: {
        label: "value, in order of execution",
        labelArrow: "none",
        ticks: narrow ? 4 : 8,
        tickFormat: (x: number) => (Number.isInteger(x) ? String(x) : ""),
      },
      y: { label: "signal to noise, dB (up is better)", labelArrow: "none", domain: [low, top * 1.08], ticks: 5 },
      marks: [
        plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 5 }),
        plot.ruleY([20], { stroke: "var(--muted)", strokeDasharray: "5 4" }),
        plot.text([20], {
          y: (y: number) => y,
          text: () => "20 dB: noise is 1 % of the signal's energy",
          frameAnchor: "left",
          textAnchor: "start",
          dx: 4,
          dy: 9,
          fill: "var(--muted)",
          fontSize: 11,
        }),
        ...lines.flatMap((line) => lineMarks(canvas, line, place, short, lines.length > 1)),
      ],
    }),
  );
}

function shown(sqnr: number): number {
  return Number.isFinite(sqnr) ? Math.max(floor, Math.min(ceiling, sqnr)) : ceiling;
}

function lineMarks(
  { plot }: Canvas,
  { model, index, values, firstBad }: DivergenceLine,
  place: ReadonlyMap<string, number>,
  short: (name: string) => string,
  named: boolean,
) {
  const points = values.map(({ node, value, sqnr }) => ({
    i: place.get(value) ?? 0,
    node,
    sqnr: shown(sqnr),
    title: `${node}\n${model}: ${Number.isFinite(sqnr) ? `${significant(sqnr)} dB` : "no difference"}`,
  }));
  const colour = modelColour(index);
  const at = { x: "i", y: "sqnr" } as const;
  const bad = points.filter(({ node }) => node === firstBad).slice(0, 1);
  const right = (bad[0]?.i ?? 0) > place.size / 2;
  return [
    plot.line(points, { ...at, stroke: colour, strokeWidth: 1.75 }),
    plot.dot(points.length > mostDots ? [] : points, {
      ...at,
      r: points.length > 80 ? 1.5 : 2.5,
      fill: colour,
      title: "title",
    }),
    plot.dot(bad, { ...at, r: 7, stroke: "var(--bad)", strokeWidth: 2 }),
    plot.text(bad, {
      ...at,
      text: ({ node }: { node: string }) => `first bad: ${short(node)}`,
      textAnchor: right ? "end" : "start",
      dx: right ? -11 : 11,
      dy: -10,
      fill: "var(--bad)",
      ...halo,
    }),
    named ? plot.text(points.slice(-1), { ...at, text: () => model, textAnchor: "end", dy: -11, fill: colour }) : null,
  ];
}
