import { significant } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, modelColour, tickText } from "./canvas.ts";
import type { Histogram } from "./histogram.ts";

const width = 380;

/**
 * Values as seen on samples, and the range that integers span: lines at its ends, bars beyond it in another colour.
 * Heights are square roots of shares, so that tails can be seen.
 */
export function rangeChart(
  canvas: Canvas,
  label: string,
  { min, max, counts }: Histogram,
  range: readonly [min: number, max: number],
): Markup {
  const { plot } = canvas;
  const total = counts.reduce((a, b) => a + b, 0) || 1;
  const binWidth = (max - min) / counts.length;
  const bars = counts.map((count, i) => {
    const [x1, x2] = [min + i * binWidth, min + (i + 1) * binWidth];
    const middle = (x1 + x2) / 2;
    return { x1, x2, share: (100 * count) / total, beyond: middle < range[0] || middle > range[1] };
  });
  const bar = (beyond: boolean, fill: string) =>
    plot.rectY(
      bars.filter((each) => each.beyond === beyond && each.share > 0),
      { x1: "x1", x2: "x2", y: "share", fill, inset: 0 },
    );
  return canvas.svg(label, {
    width,
    height: 170,
    marginTop: 24,
    marginLeft: 40,
    marginRight: 14,
    marginBottom: 34,
    x: {
      label: "value",
      labelArrow: "none",
      ticks: 5,
      domain: [Math.min(min, range[0]), Math.max(max, range[1])],
      tickFormat: (x: number) => tickText(significant(x, 2)),
    },
    y: { label: "values in the bin, %", labelArrow: "none", ticks: 3, type: "sqrt", zero: true },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 3 }),
      bar(false, modelColour(0)),
      bar(true, "var(--bad)"),
      plot.ruleX([...range], { stroke: modelColour(1), strokeWidth: 1.5 }),
      plot.ruleY([0], { stroke: "var(--muted)" }),
    ],
  });
}
