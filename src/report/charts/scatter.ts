import { bytes as showBytes, significant } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, halo, responsive, type Size, tickText } from "./canvas.ts";
import { type Box, placeLabels } from "./labels.ts";

/** A model or a plan: how large it is and what it lost. */
export interface Point {
  readonly name: string;
  readonly bytes: number;
  /** Loss against the original, in the axis's unit; negative is a gain. */
  readonly loss: number;
  readonly kind: "original" | "chosen" | "other" | "over";
  readonly title: string;
}

/** The vertical axis and its limit. */
export interface ScatterOptions {
  readonly axis: string;
  /** "points" or "%". */
  readonly unit: string;
  /** Largest loss allowed, and how to write it. */
  readonly budget?: { readonly loss: number; readonly text: string };
}

const colours = {
  original: "var(--model-0)",
  chosen: "var(--model-1)",
  other: "var(--muted)",
  over: "var(--bad)",
} as const;
const symbols = { original: "square", chosen: "star", other: "circle", over: "times" } as const;

/** Pixels that the name of the budget takes, at most. */
const budgetWidth = 130;

/** Points that no other point beats in both size and loss, smallest first. */
export function paretoFront(points: readonly Point[]): Point[] {
  const front: Point[] = [];
  for (const point of points.toSorted((a, b) => a.bytes - b.bytes || a.loss - b.loss)) {
    if (front.length === 0 || point.loss < front.at(-1)!.loss) front.push(point);
  }
  return front;
}

/** Loss against bytes, better upwards and to the left, with the Pareto front and the budget. */
export function scatter(canvas: Canvas, points: readonly Point[], options: ScatterOptions): Markup {
  return responsive((size) => draw(canvas, points, options, size));
}

const margin = { marginTop: 34, marginRight: 16, marginBottom: 42, marginLeft: 52 };

/** A point as it is drawn: at the edge of the frame where it lies far beyond. */
interface Shown extends Point {
  readonly off: boolean;
  readonly y: number;
  readonly label: string;
}

/** Where bytes and losses lie in the picture, in pixels. */
interface Frame {
  readonly width: number;
  readonly height: number;
  x(bytes: number): number;
  y(loss: number): number;
}

function draw(canvas: Canvas, points: readonly Point[], options: ScatterOptions, { width, narrow }: Size): Markup {
  const { plot } = canvas;
  const { unit, budget } = options;
  const height = narrow ? 300 : 360;
  const [best, worst] = lossDomain(points, budget?.loss);
  const largest = Math.max(...points.map((point) => point.bytes)) * 1.06;
  const across = width - margin.marginLeft - margin.marginRight;
  const down = height - margin.marginTop - margin.marginBottom;
  const frame: Frame = {
    width,
    height,
    x: (x) => margin.marginLeft + (x / largest) * across,
    y: (y) => margin.marginTop + ((y - best) / (worst - best)) * down,
  };
  const shown = points.map((point): Shown => {
    const off = point.loss > worst;
    const label = off ? `${point.name} ↓ ${significant(point.loss)} ${unit}` : point.name;
    return { ...point, off, y: off ? worst : point.loss, label };
  });
  const front = paretoFront(shown.filter(({ off }) => !off));
  return canvas.svg(`${options.axis} against bytes`, {
    width,
    height,
    ...margin,
    x: {
      label: "size of the file",
      labelArrow: "none",
      domain: [0, largest],
      ticks: narrow ? 3 : 6,
      tickFormat: (x: number) => tickText(showBytes(x)),
    },
    y: {
      label: `${options.axis}, ${unit} (0 is the original; up is better)`,
      labelArrow: "none",
      domain: [worst, best],
      ticks: 5,
    },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 5 }),
      plot.ruleY([0], { stroke: "var(--muted)" }),
      ...(budget ? budgetMarks(canvas, budget) : []),
      plot.line(front, { x: "bytes", y: "loss", curve: "step-after", stroke: "var(--model-1)", strokeOpacity: 0.55 }),
      ...pointMarks(canvas, shown),
      ...labelMarks(canvas, shown, front, frame, budget?.loss),
    ],
  });
}

function budgetMarks({ plot }: Canvas, budget: NonNullable<ScatterOptions["budget"]>) {
  return [
    plot.ruleY([budget.loss], { stroke: "var(--bad)", strokeDasharray: "5 4" }),
    plot.text([budget], {
      y: "loss",
      text: ({ text }: { text: string }) => `budget: ${text}`,
      frameAnchor: "right",
      dy: 9,
      fill: "var(--bad)",
      ...halo,
    }),
  ];
}

function pointMarks({ plot }: Canvas, shown: readonly Shown[]) {
  return (["other", "over", "original", "chosen"] as const).map((kind) =>
    plot.dot(
      shown.filter((point) => point.kind === kind),
      {
        x: "bytes",
        y: "y",
        title: "title",
        symbol: symbols[kind],
        r: kind === "chosen" ? 7 : 5,
        ...(kind === "over" ? { stroke: colours[kind], strokeWidth: 2 } : { fill: colours[kind] }),
      },
    ),
  );
}

/** Which labels find a place first. */
const order = { chosen: 0, original: 1, other: 2, over: 3 } as const;

function labelMarks(
  { plot }: Canvas,
  shown: readonly Shown[],
  front: readonly Point[],
  { width, height, x, y }: Frame,
  limit: number | undefined,
) {
  const anchors = shown
    .toSorted((a, b) => order[a.kind] - order[b.kind])
    .map((point) => ({ x: x(point.bytes), y: y(point.y), text: point.label, at: [point.bytes, point.y] as const }));
  const steps = front.slice(1).flatMap((to, i) => {
    const [x1, y1, x2, y2] = [x(front[i]!.bytes), y(front[i]!.loss), x(to.bytes), y(to.loss)];
    return [box(x1, y1, x2, y1), box(x2, y2, x2, y1)];
  });
  const rules = (limit === undefined ? [0] : [0, limit]).map((loss) => box(0, y(loss), width, y(loss)));
  const top = margin.marginTop - 8;
  const placed = placeLabels(anchors, {
    bounds: { left: margin.marginLeft, right: width, top, bottom: height - margin.marginBottom + 4 },
    boxes: limit === undefined ? [] : [box(width - budgetWidth, y(limit), width, y(limit) + 16)],
    lines: [...rules, ...steps],
  });
  return placed.map(({ at, text, dx, dy, textAnchor }) =>
    plot.text([at], { x: "0", y: "1", text: () => text, dx, dy, textAnchor, fill: "currentColor", ...halo }),
  );
}

/** A rectangle, or a line with a pixel around it. */
function box(left: number, top: number, right: number, bottom: number): Box {
  return { left: left - 1, right: right + 1, top: top - 1, bottom: bottom + 1 };
}

/** Losses shown: all of them up to four budgets; what is worse stands at the edge with its number. */
function lossDomain(points: readonly Point[], budget: number | undefined): readonly [best: number, worst: number] {
  const losses = points.map(({ loss }) => loss);
  const limit = budget ? budget * 4 : Number.POSITIVE_INFINITY;
  const worst = Math.min(Math.max(...losses, budget ?? 0), Math.max(limit, 0));
  const best = Math.min(...losses, 0);
  const pad = (worst - best || 1) * 0.12;
  return [best - pad, worst + pad];
}
