import { shorten } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, halo, modelColour, responsive, type Size, tickText } from "./canvas.ts";

/** A line of many. */
export interface Line {
  readonly name: string;
  /** In the order of x. */
  readonly points: readonly { readonly x: number; readonly y: number; readonly title: string }[];
  /** A place on the line to point out. */
  readonly mark?: { readonly x: number; readonly title: string };
}

/** What the axes show. */
export interface LinesOptions {
  readonly label: string;
  readonly x: { readonly label: string; readonly format: (x: number) => string };
  readonly y: { readonly label: string; readonly format: (y: number) => string };
}

/** So many lines are all named; of more, only the first few are, and the others stay grey. */
const allNamed = 6;
const named = 4;
const lineHeight = 15;

/** One line a layer, the first ones in colour with their names at the right, however many there are. */
export function linesChart(canvas: Canvas, lines: readonly Line[], options: LinesOptions): Markup {
  return responsive((size) => draw(canvas, lines, options, size));
}

function draw(canvas: Canvas, lines: readonly Line[], options: LinesOptions, { width, narrow }: Size): Markup {
  const { plot } = canvas;
  const [low, high] = heightsOf(lines);
  const frame = { height: narrow ? 260 : 320, top: 30, bottom: 42 };
  const down = frame.height - frame.top - frame.bottom;
  const pixel = (y: number): number => frame.top + ((high - Math.min(y, high)) / (high - low)) * down;
  const ends = lines.flatMap(({ points }) => points.map(({ x }) => x));
  const ticks = narrow ? 3 : 6;
  return canvas.svg(`${options.label}: ${lines.length} lines`, {
    width,
    height: frame.height,
    marginTop: frame.top,
    marginBottom: frame.bottom,
    marginLeft: 58,
    marginRight: narrow ? 118 : 216,
    x: {
      label: options.x.label,
      labelArrow: "none",
      domain: [Math.min(...ends), Math.max(...ends)],
      ticks,
      tickFormat: (x: number) => tickText(options.x.format(x)),
    },
    y: {
      label: options.y.label,
      labelArrow: "none",
      domain: [low, high],
      ticks: 5,
      tickFormat: (y: number) => tickText(options.y.format(y)),
    },
    marks: [
      plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 5 }),
      ...lineMarks(canvas, lines, [named, lines.length], high),
      // the first one last, so that it lies on top
      ...[...lines.slice(0, named).keys()].reverse().flatMap((i) => lineMarks(canvas, lines, [i, i + 1], high)),
      ...nameMarks(canvas, lines, options, { pixel, high, narrow, ...frame }),
    ],
  });
}

function colourOf(index: number): string {
  return index < named ? modelColour(index + 1) : modelColour(0);
}

/** More points of a line than this are not drawn as dots. */
const mostDots = 40;

/** The lines of these places with their marks; few of them with a dot for every point. */
function lineMarks({ plot }: Canvas, lines: readonly Line[], range: readonly [from: number, to: number], high: number) {
  const [from, to] = range;
  const strong = to <= named;
  const stroke = colourOf(from);
  const points = lines
    .slice(from, to)
    .flatMap((line, z) => line.points.map((point) => ({ ...point, z, name: line.name })));
  const marks = lines
    .slice(from, to)
    .flatMap(({ points: own, mark }) => (mark ? [{ ...mark, y: Math.min(high, heightAt(own, mark.x)) }] : []));
  return [
    plot.line(points, {
      x: "x",
      // far beyond the frame is far enough for its slope
      y: ({ y }: (typeof points)[number]) => Math.min(y, 10 * high),
      z: "z",
      title: "name",
      stroke,
      strokeWidth: strong ? 1.75 : 1.25,
      strokeOpacity: strong ? 1 : 0.55,
      clip: true,
    }),
    plot.dot(strong && points.length <= mostDots ? points.filter(({ y }) => y <= high) : [], {
      x: "x",
      y: "y",
      title: "title",
      r: 2,
      fill: stroke,
    }),
    plot.dot(marks, {
      x: "x",
      y: "y",
      title: "title",
      r: strong ? 4.5 : 2.5,
      fill: strong ? stroke : "var(--muted)",
      stroke: strong ? "var(--paper)" : "none",
    }),
  ];
}

/** The height of a line between its points. */
function heightAt(points: Line["points"], x: number): number {
  const next = points.findIndex((point) => point.x >= x);
  if (next <= 0) return points.at(next === 0 ? 0 : -1)?.y ?? 0;
  const [a, b] = [points[next - 1]!, points[next]!];
  return a.y + ((x - a.x) / (b.x - a.x)) * (b.y - a.y);
}

/** A line may end this many times as high as three quarters of them: more would flatten the rest. */
const mostTimes = 4;

/** From the lowest point to the highest; a few lines that shoot up are cut off. */
function heightsOf(lines: readonly Line[]): readonly [low: number, high: number] {
  const all = lines.flatMap(({ points }) => points.map(({ y }) => y)).filter((y) => y < Number.MAX_VALUE);
  const ends = lines.map(({ points }) => points.at(-1)?.y ?? 0).sort((a, b) => a - b);
  const most = mostTimes * (ends[Math.floor(0.75 * (ends.length - 1))] ?? 0);
  const low = Math.min(0, ...all);
  const top = Math.max(0, ...all);
  const high = most > 0 && most < top ? most : top;
  return [low, high > low ? low + 1.04 * (high - low) : low + 1];
}

interface NameFrame {
  pixel(y: number): number;
  readonly high: number;
  readonly height: number;
  readonly top: number;
  readonly bottom: number;
  readonly narrow: boolean;
}

/** Names at the right ends of their lines, moved apart so that none covers another. */
function nameMarks({ plot }: Canvas, lines: readonly Line[], { y }: LinesOptions, frame: NameFrame) {
  const { pixel, high, narrow } = frame;
  const limit = narrow ? 16 : 30;
  const shown = lines.slice(0, lines.length <= allNamed ? allNamed : named).flatMap((line, i) => {
    const end = line.points.at(-1);
    if (!end) return [];
    const beyond = end.y > high ? ` ↑${narrow ? "" : ` ${y.format(end.y)}`}` : "";
    return [
      {
        text: `${shorten(line.name, limit - beyond.length)}${beyond}`,
        full: line.name,
        end,
        at: pixel(end.y),
        fill: colourOf(i),
      },
    ];
  });
  const places = apart(
    shown.map(({ at }) => at),
    frame.top,
    frame.height - frame.bottom,
  );
  return shown.map(({ text, full, end, at, fill }, i) =>
    plot.text([end], {
      x: "x",
      y: Math.min(end.y, high),
      frameAnchor: "right",
      text: () => text,
      title: () => full,
      textAnchor: "start",
      dx: 7,
      dy: places[i]! - at,
      fill: fill === modelColour(0) ? "var(--muted)" : fill,
      ...halo,
    }),
  );
}

/** Heights at least a line apart, in the order they had, as near to where they were as a pass down and up leaves them. */
export function apart(heights: readonly number[], top: number, bottom: number): number[] {
  const order = [...heights.keys()].sort((a, b) => heights[a]! - heights[b]! || a - b);
  const placed = [...heights];
  let free = top;
  for (const i of order) {
    placed[i] = Math.max(free, placed[i]!);
    free = placed[i]! + lineHeight;
  }
  free = bottom;
  for (const i of order.reverse()) {
    placed[i] = Math.min(free, placed[i]!);
    free = placed[i]! - lineHeight;
  }
  return placed;
}
