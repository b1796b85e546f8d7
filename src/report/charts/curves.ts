import type { Markup } from "../markup.ts";
import { type Canvas, halo, responsive, type Size } from "./canvas.ts";

/** One line of a chart over the epochs. */
export interface Curve {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly { readonly epoch: number; readonly y: number; readonly title: string }[];
  /** Points are drawn as dots: measured at moments, not all along. */
  readonly dots?: boolean;
}

/** The vertical axis, and what is marked. */
export interface CurvesOptions {
  readonly label: string;
  readonly height: number;
  /** The axis begins at 0. */
  readonly zero?: boolean;
  readonly tickFormat: (y: number) => string;
  /** The epoch whose weights were kept, and the side on which there is room to say so. */
  readonly best?: number;
  readonly bestAt?: "top" | "bottom";
}

/** Values over the epochs of a run. */
export function curvesChart(canvas: Canvas, curves: readonly Curve[], options: CurvesOptions): Markup {
  return responsive((size) => draw(canvas, curves, options, size));
}

function draw(
  { plot, svg }: Canvas,
  curves: readonly Curve[],
  options: CurvesOptions,
  { width, narrow }: Size,
): Markup {
  const { label, best, bestAt = "top" } = options;
  const end = Math.max(...curves.flatMap(({ points }) => points.map(({ epoch }) => epoch)));
  return svg(`${label} over the epochs: ${curves.map(({ name }) => name).join(", ")}`, {
    width,
    height: options.height,
    marginTop: 28,
    marginRight: 16,
    marginBottom: 38,
    marginLeft: 56,
    x: { label: "epoch", labelArrow: "none", domain: [0, end], ticks: narrow ? 4 : 8 },
    y: {
      label,
      labelArrow: "none",
      domain: domainOf(curves, options.zero ?? false),
      ticks: 4,
      tickFormat: options.tickFormat,
    },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 4 }),
      ...(best === undefined ? [] : bestMarks(plot, best, end, bestAt)),
      ...curves.flatMap(({ points, colour, dots }) => [
        plot.line(points, { x: "epoch", y: "y", stroke: colour, strokeWidth: 1.75, clip: true }),
        ...(dots ? [plot.dot(points, { x: "epoch", y: "y", title: "title", r: 3, fill: colour })] : []),
      ]),
    ],
  });
}

function bestMarks(plot: Canvas["plot"], best: number, end: number, at: "top" | "bottom") {
  const left = best > end / 2;
  return [
    plot.ruleX([best], { stroke: "var(--muted)", strokeDasharray: "4 4" }),
    plot.text([best], {
      x: (epoch: number) => epoch,
      frameAnchor: at,
      textAnchor: left ? "end" : "start",
      dx: left ? -6 : 6,
      dy: at === "top" ? 6 : -6,
      text: (epoch: number) => `best: epoch ${epoch}`,
      fill: "var(--muted)",
      ...halo,
    }),
  ];
}

/** Share of the points, from the first steps, that may lie beyond the axis: a start far off would flatten the rest. */
const shareBeyond = 0.02;

function domainOf(curves: readonly Curve[], zero: boolean): readonly [low: number, high: number] {
  const limits = curves.map(({ points }) => {
    const sorted = points.map(({ y }) => y).toSorted((a, b) => a - b);
    const high = sorted[Math.ceil((sorted.length - 1) * (1 - shareBeyond))] ?? 1;
    const low = sorted[Math.floor((sorted.length - 1) * shareBeyond)] ?? 0;
    return [low, high] as const;
  });
  const low = zero ? 0 : Math.min(...limits.map(([l]) => l));
  const high = Math.max(...limits.map(([, h]) => h));
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [zero ? 0 : low - pad, high + pad];
}
