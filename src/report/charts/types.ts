import { type DType, dtypes } from "../../tensor/dtype.ts";
import { bytes as showBytes } from "../format.ts";
import type { Markup } from "../markup.ts";
import { type Canvas, responsive, tickText } from "./canvas.ts";

/** A model and its bytes of weights by element type. */
export interface TypeRow {
  readonly model: string;
  readonly byType: Readonly<Record<string, number>>;
}

/** Colour slot of an element type: its bits, so that darker means more bits; whole numbers of many bits stand apart. */
export function typeSlot(type: string): "32" | "16" | "8" | "4" | "2" | "other" {
  const info = Object.hasOwn(dtypes, type) ? dtypes[type as DType] : undefined;
  if (!info || info.bits === 0) return "other";
  if (info.bits <= 2) return "2";
  if (info.bits <= 4) return "4";
  if (info.bits <= 8) return "8";
  if (info.kind !== "float") return "other";
  return info.bits <= 16 ? "16" : "32";
}

/** The element types of some models, most bits first. */
export function typesOf(rows: readonly TypeRow[]): string[] {
  const bits = (type: string): number => (Object.hasOwn(dtypes, type) ? dtypes[type as DType].bits : 0);
  const order = ["32", "16", "8", "4", "2", "other"];
  const rank = (type: string): number => order.indexOf(typeSlot(type)) * 256 - bits(type);
  return [...new Set(rows.flatMap(({ byType }) => Object.keys(byType)))].sort(
    (a, b) => rank(a) - rank(b) || (a < b ? -1 : 1),
  );
}

const barHeight = 30;
const nameHeight = 20;
const rowHeight = nameHeight + barHeight + 8;

/** One stacked bar a model: its weights' bytes by element type. */
export function typeBars(canvas: Canvas, rows: readonly TypeRow[]): Markup {
  const { plot } = canvas;
  const types = typesOf(rows);
  const longest = Math.max(...rows.map(({ byType }) => Object.values(byType).reduce((a, b) => a + b, 0)), 1);
  const segments = segmentsOf(rows, types);
  return responsive(({ width, narrow }) => {
    const pixels = (size: number): number => (size / longest) * (width - 20);
    return canvas.svg("Bytes of weights by element type, one bar a model", {
      width,
      height: rows.length * rowHeight + 42,
      marginTop: 2,
      marginLeft: 1,
      marginRight: 19,
      marginBottom: 40,
      x: {
        label: "bytes of weights",
        labelArrow: "none",
        ticks: narrow ? 3 : 6,
        tickFormat: (x: number) => tickText(showBytes(x)),
        domain: [0, longest],
      },
      y: { axis: null, domain: rows.map((_, i) => String(i)), padding: 0 },
      marks: [
        ...types.map((type) =>
          plot.barX(
            segments.filter((segment) => segment.type === type),
            {
              y: "key",
              x1: "x1",
              x2: "x2",
              title: "title",
              fill: `var(--type-${typeSlot(type)})`,
              stroke: "var(--paper)",
              insetTop: nameHeight,
              insetBottom: 8,
            },
          ),
        ),
        ...types.map((type) =>
          plot.text(
            segments.filter((segment) => segment.type === type && pixels(segment.size) > type.length * 7 + 12),
            {
              y: "key",
              x: "middle",
              text: "type",
              dy: (nameHeight - 8) / 2,
              fill: `var(--on-type-${typeSlot(type)})`,
              pointerEvents: "none",
            },
          ),
        ),
        plot.text(
          rows.map(({ model }, i) => ({ key: String(i), model })),
          { y: "key", text: "model", frameAnchor: "left", textAnchor: "start", dy: (nameHeight - rowHeight) / 2 },
        ),
      ],
    });
  });
}

/** The pieces of every bar, one behind the other. */
function segmentsOf(rows: readonly TypeRow[], types: readonly string[]) {
  return rows.flatMap(({ model, byType }, i) => {
    let end = 0;
    return types.flatMap((type) => {
      const size = byType[type] ?? 0;
      const [x1, x2] = [end, end + size];
      end = x2;
      const title = `${model}, ${type}: ${showBytes(size)}`;
      return size > 0 ? [{ key: String(i), type, size, x1, x2, middle: (x1 + x2) / 2, title }] : [];
    });
  });
}
