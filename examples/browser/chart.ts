/** A point of a curve: how far the run is, and the value there. */
export interface Point {
  readonly step: number;
  readonly value: number;
}

/** What a chart shows. */
export interface Curve {
  readonly points: readonly Point[];
  /** Of the horizontal axis. */
  readonly steps: number;
  /** Values along the vertical axis, the lowest first. */
  readonly ticks: readonly number[];
  readonly label: (value: number) => string;
  /** Whether each point gets a dot. */
  readonly dots: boolean;
}

const [width, height] = [380, 210];
const [left, right, top, bottom] = [52, 12, 12, 26];

/** Draws a curve into an SVG element, in place of what it held. */
export function draw(svg: SVGSVGElement, { points, steps, ticks, label, dots }: Curve): void {
  const [low, high] = [ticks[0]!, ticks.at(-1)!];
  const x = (step: number): number => left + ((width - left - right) * step) / steps;
  const y = (value: number): number => {
    const share = (Math.min(value, high) - low) / (high - low);
    return height - bottom - (height - top - bottom) * share;
  };
  const [start, middle, end] = [0, Math.round(steps / 2), steps];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    ...ticks.flatMap((tick) => [
      shape("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      shape("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, label(tick)),
    ]),
    shape("text", { x: x(start), y: height - 6, "text-anchor": "start" }, "0"),
    shape("text", { x: x(middle), y: height - 6, "text-anchor": "middle" }, `${middle}`),
    shape("text", { x: x(end), y: height - 6, "text-anchor": "end" }, `${end} steps`),
    shape("polyline", { class: "line", points: points.map((p) => `${x(p.step)},${y(p.value)}`).join(" ") }),
    ...(dots ? points : points.slice(-1)).map((p) =>
      shape("circle", { class: "point", cx: x(p.step), cy: y(p.value), r: 3.5 }),
    ),
  );
}

function shape(name: string, attributes: Readonly<Record<string, string | number>>, text = ""): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, `${value}`);
  element.textContent = text;
  return element;
}
