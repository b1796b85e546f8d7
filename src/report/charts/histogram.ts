import { significant } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, modelColour, tickText } from "./canvas.ts";

/** Counts over equal bins between `min` and `max`. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly counts: readonly number[];
}

const width = 380;

/**
 * Values of a weight before (filled) and after (outlined), as the share of all weights in each bin.
 *
 * @param model index of the changed model, for its colour
 */
export function histogram(
  canvas: Canvas,
  label: string,
  before: Histogram,
  after: Histogram | undefined,
  model: number,
): Markup {
  const { plot } = canvas;
  const reference = (before.max - before.min) / before.counts.length;
  const bars = binsOf(before, reference);
  const outline = after ? outlineOf(binsOf(after, reference)) : [];
  return canvas.svg(label, {
    width,
    height: 170,
    marginTop: 24,
    marginLeft: 40,
    marginRight: 14,
    marginBottom: 34,
    x: { label: "weight", labelArrow: "none", ticks: 5, tickFormat: (x: number) => tickText(significant(x, 2)) },
    y: { label: "weights in the bin, %", labelArrow: "none", ticks: 3, zero: true },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 3 }),
      plot.rectY(bars, { x1: "x1", x2: "x2", y: "share", fill: modelColour(0), fillOpacity: 0.55, inset: 0 }),
      plot.line(outline, { x: "x", y: "y", stroke: modelColour(model), strokeWidth: 1.5, strokeLinejoin: "miter" }),
      plot.ruleY([0], { stroke: "var(--muted)" }),
    ],
  });
}

interface Bin {
  readonly x1: number;
  readonly x2: number;
  readonly share: number;
}

/** Per cent of all counts in each bin; bins of another width than the reference are scaled to its density. */
function binsOf({ min, max, counts }: Histogram, reference: number): Bin[] {
  const total = counts.reduce((a, b) => a + b, 0) || 1;
  const binWidth = (max - min) / counts.length;
  const scale = binWidth > 0 && reference > 0 ? reference / binWidth : 1;
  return counts.map((n, i) => ({
    x1: min + i * binWidth,
    x2: min + (i + 1) * binWidth,
    share: (100 * n * scale) / total,
  }));
}

/** The upper edge of bars, from the ground and back to it. */
function outlineOf(bins: readonly Bin[]): { x: number; y: number }[] {
  const edge = bins.flatMap(({ x1, x2, share }) => [
    { x: x1, y: share },
    { x: x2, y: share },
  ]);
  return [{ x: bins[0]?.x1 ?? 0, y: 0 }, ...edge, { x: bins.at(-1)?.x2 ?? 0, y: 0 }];
}

/** Smallest to largest weight of every output channel: channels far apart share one scale badly. */
export function channelRanges(
  canvas: Canvas,
  label: string,
  channels: readonly (readonly [min: number, max: number])[],
): Markup {
  const { plot } = canvas;
  const data = channels.map(([min, max], channel) => ({
    channel,
    min,
    max,
    title: `channel ${channel}: ${significant(min)} to ${significant(max)}`,
  }));
  return canvas.svg(label, {
    width,
    height: 150,
    marginTop: 24,
    marginLeft: 40,
    marginRight: 14,
    marginBottom: 34,
    x: {
      label: "output channel",
      labelArrow: "none",
      ticks: 5,
      domain: [-0.5, channels.length - 0.5],
      tickFormat: (x: number) => (Number.isInteger(x) ? String(x) : ""),
    },
    y: {
      label: "weight, smallest to largest",
      labelArrow: "none",
      ticks: 3,
      tickFormat: (x: number) => tickText(significant(x, 2)),
    },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 3 }),
      plot.ruleX(data, {
        x: "channel",
        y1: "min",
        y2: "max",
        title: "title",
        stroke: modelColour(0),
        strokeWidth: Math.max(1, Math.min(6, (0.6 * (width - 54)) / channels.length)),
      }),
      plot.ruleY([0], { stroke: "var(--muted)" }),
    ],
  });
}
