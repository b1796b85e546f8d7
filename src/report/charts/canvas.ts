import type { PlotOptions } from "@observablehq/plot";
import { cleanText, html, type Markup, raw } from "../markup.ts";

/** A drawing surface without a browser. */
export interface Canvas {
  /** The plotting library, loaded. */
  readonly plot: typeof import("@observablehq/plot");
  /**
   * Draws a chart.
   *
   * @param label what the picture shows, for those who can't see it
   */
  svg(label: string, options: PlotOptions): Markup;
}

/** Width in pixels that a chart is drawn for. */
export interface Size {
  readonly width: number;
  /** For a phone: labels stand above what they name, and fewer of them. */
  readonly narrow: boolean;
}

/** Loads the plotting library and a document to draw in. Takes a third of a second, so only who draws calls it. */
export async function openCanvas(): Promise<Canvas> {
  const [plot, { parseHTML }] = await Promise.all([import("@observablehq/plot"), import("linkedom")]);
  const { document } = parseHTML("<!doctype html><html></html>");
  let clips = 0;
  return {
    plot,
    svg(label, options) {
      const svg = plot.plot({
        document: document as unknown as NonNullable<PlotOptions["document"]>,
        className: "plot",
        style: { fontSize: "12px" },
        ...options,
      });
      svg.querySelector("style")?.remove(); // the page has one for all charts
      // the library counts clips over the life of the process; the same report is to give the same page
      for (const clip of svg.querySelectorAll("clipPath")) {
        const id = `clip-${++clips}`;
        for (const clipped of svg.querySelectorAll(`[clip-path="url(#${clip.id})"]`)) {
          clipped.setAttribute("clip-path", `url(#${id})`);
        }
        clip.id = id;
      }
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", label);
      return raw(cleanText(svg.outerHTML));
    },
  };
}

const wide: Size = { width: 800, narrow: false };
const narrow: Size = { width: 350, narrow: true };

/** A chart drawn twice, for a desk and for a phone; the page shows the one that fits. */
export function responsive(draw: (size: Size) => Markup): Markup {
  return html`<div class="wide">${draw(wide)}</div><div class="narrow">${draw(narrow)}</div>`;
}

/** A number on an axis: without the zeros that only precision would need. */
export function tickText(text: string): string {
  return text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
}

/** Halo around text, so that lines behind it do not strike it through. */
export const halo = { stroke: "var(--paper)", strokeWidth: 4, strokeLinejoin: "round" } as const;

/** Colour of the n-th model, the original being 0. */
export function modelColour(index: number): string {
  return `var(--model-${Math.min(index, 4)})`;
}
