import type { Markup } from "../markup.ts";
import { type Canvas, halo, responsive, type Size, tickText } from "./canvas.ts";

/** One round: how far it went, and what was left of the quality. */
export interface Round {
  readonly amount: number;
  readonly quality: number;
  /** Before retraining. */
  readonly cut?: number;
  readonly kept: boolean;
  readonly title: string;
}

/** What the axes show, and the limit. */
export interface RoundsOptions {
  readonly x: { readonly label: string; readonly format: (x: number) => string };
  readonly y: { readonly label: string; readonly format: (y: number) => string };
  readonly limit?: number;
  readonly better: "higher" | "lower";
  /** What stands beside the round that was kept, where there is room. */
  readonly keptText: string;
}

const margin = { marginTop: 30, marginRight: 20, marginBottom: 42, marginLeft: 58 };

/** Quality against amount: a line through the rounds, what each lost and won back, the one that was kept. */
export function roundsChart(canvas: Canvas, rounds: readonly Round[], options: RoundsOptions): Markup {
  return responsive((size) => draw(canvas, rounds, options, size));
}

function draw(
  { plot, svg }: Canvas,
  rounds: readonly Round[],
  options: RoundsOptions,
  { width, narrow }: Size,
): Markup {
  const { x, y, limit } = options;
  const [low, high] = padded([...rounds.map(({ quality }) => quality), ...(limit === undefined ? [] : [limit])]);
  const [from, to] = padded(rounds.map(({ amount }) => amount));
  const retrained = rounds.flatMap((round) => (round.cut === undefined ? [] : [{ ...round, cut: round.cut }]));
  const inside = (height: number): number => Math.max(low, Math.min(high, height));
  const kept = rounds.filter((round) => round.kept);
  const right = (kept[0]?.amount ?? 0) > (from + to) / 2;
  return svg(`${y.label} against ${x.label}: ${rounds.length} rounds`, {
    width,
    height: narrow ? 260 : 320,
    ...margin,
    x: {
      label: x.label,
      labelArrow: "none",
      domain: [from, to],
      ticks: narrow ? 4 : 8,
      tickFormat: (value: number) => tickText(x.format(value)),
    },
    y: {
      label: y.label,
      labelArrow: "none",
      domain: [low, high],
      ticks: 5,
      tickFormat: (value: number) => tickText(y.format(value)),
    },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 5 }),
      plot.ruleX(retrained, {
        x: "amount",
        y1: (round: Round) => inside(round.cut ?? 0),
        y2: (round: Round) => inside(round.quality),
        stroke: "var(--model-0)",
        strokeDasharray: "2 3",
      }),
      plot.dot(
        retrained.filter(({ cut }) => cut === inside(cut)),
        { x: "amount", y: "cut", r: 3, stroke: "var(--model-0)", fill: "var(--paper)", title: "title" },
      ),
      plot.line(
        rounds.toSorted((a, b) => a.amount - b.amount),
        { x: "amount", y: "quality", stroke: "var(--model-1)", strokeWidth: 1.75 },
      ),
      plot.dot(rounds, { x: "amount", y: "quality", r: 3.5, fill: "var(--model-1)", title: "title" }),
      plot.dot(kept, {
        x: "amount",
        y: "quality",
        r: 8,
        symbol: "star",
        fill: "var(--model-2)",
        stroke: "var(--paper)",
        title: "title",
      }),
      plot.text(narrow ? [] : kept, {
        x: "amount",
        y: "quality",
        text: () => options.keptText,
        textAnchor: right ? "end" : "start",
        dx: right ? -12 : 12,
        // where the line is not: quality gets worse to the right
        dy: right === (options.better === "higher") ? 13 : -13,
        fill: "var(--model-2)",
        ...halo,
      }),
      ...(limit === undefined ? [] : limitMarks(plot, limit, `budget: ${y.format(limit)}`)),
    ],
  });
}

function limitMarks(plot: Canvas["plot"], limit: number, text: string) {
  return [
    plot.ruleY([limit], { stroke: "var(--bad)", strokeDasharray: "5 4" }),
    plot.text([limit], {
      y: (value: number) => value,
      text: () => text,
      frameAnchor: "left",
      textAnchor: "start",
      dx: 6,
      dy: 10,
      fill: "var(--bad)",
      ...halo,
    }),
  ];
}

/** The range of some values with room around them. */
function padded(values: readonly number[]): readonly [low: number, high: number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - pad, high + pad];
}
