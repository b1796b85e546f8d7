import type { FormatsExhibit } from "../../techniques/exhibit.ts";
import type { Canvas } from "../charts/canvas.ts";
import { type GridRow, grid } from "../charts/grid.ts";
import { damageText, formatNames, formatsSentence, shown } from "../exhibits.ts";
import { html, type Markup } from "../markup.ts";
import { eachStep, figure, folded, name, number, type SectionMaker, table } from "./parts.ts";

/** What every format would do to every layer, and which one it got. */
export const formats: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "formats").filter(({ exhibit }) => exhibit.layers.length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => formatsOf(exhibit, canvas));
  return { id: "formats", title: "Formats of the layers", link: "Formats", body };
};

/** Rows that a picture has room for; the largest layers if there are more. */
const mostRows = 48;

function formatsOf(exhibit: FormatsExhibit, canvas: Canvas): Markup {
  const { damage, layers } = exhibit;
  const columns = formatNames(exhibit);
  const largest = new Set(layers.toSorted((a, b) => b.elements - a.elements).slice(0, mostRows));
  const drawn = layers.filter((layer) => largest.has(layer));
  const shade = shadesOf(exhibit);
  const rows = drawn.map(
    (layer): GridRow => ({
      name: layer.name,
      cells: columns.map((format) => {
        const option = layer.options.find((each) => each.format === format);
        if (!option) return undefined;
        const lost = number(damageText(option.damage, exhibit));
        const chosen = layer.chosen === format;
        return { shade: shade(option.damage), text: lost, title: `${layer.name}\n${format}: ${lost}`, chosen };
      }),
    }),
  );
  const chart = grid(canvas, `${damage.name} of every layer in every format`, columns, rows);
  const rest = layers.length > drawn.length ? ` The ${drawn.length} largest of ${layers.length} layers.` : "";
  const caption = `${damage.name} with one layer alone in a format; the darker, the more. Framed: what the layer got.${rest}`;
  return html`<p>${formatsSentence(exhibit)}</p>${figure(chart, caption)}${folded("All layers as a table", numbers(exhibit, columns))}`;
}

/** Shades by the logarithm: damages of single layers differ by orders of magnitude. */
function shadesOf({ layers }: FormatsExhibit): (damage: number) => number {
  const logs = layers.flatMap(({ options }) => options.flatMap(({ damage }) => (damage > 0 ? [Math.log(damage)] : [])));
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  return (damage) => (damage > 0 ? 0.06 + (0.74 * (Math.log(damage) - low)) / Math.max(high - low, 1e-9) : 0.03);
}

function numbers(exhibit: FormatsExhibit, columns: readonly string[]): Markup {
  const { damage, layers } = exhibit;
  const rows = layers.map(({ name: layer, chosen, options }) => [
    name(layer, 32),
    chosen,
    ...columns.map((format) => {
      const option = options.find((each) => each.format === format);
      return option ? number(damageText(option.damage, exhibit)) : "–";
    }),
  ]);
  const heads = [{ title: "Layer" }, { title: "Format" }, ...columns.map((title) => ({ title, numeric: true }))];
  return table(`${damage.name} with one layer alone in a format`, heads, rows);
}
