import type { GridsExhibit } from "../../techniques/exhibit.ts";
import { barLabel } from "../charts/bars.ts";
import type { Canvas } from "../charts/canvas.ts";
import { spans } from "../charts/spans.ts";
import { gridsSentence, rangeText, shown, widening } from "../exhibits.ts";
import { bytes, count, significant } from "../format.ts";
import { html, type Markup } from "../markup.ts";
import { eachStep, figure, folded, modelKey, name, number, type SectionMaker, table } from "./parts.ts";

/** Bits of each layer, and how training moved the ranges. */
export const grids: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "grids").filter(({ exhibit }) => exhibit.layers.length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => gridsOf(exhibit, canvas));
  return { id: "grids", title: "What is rounded to which integers", link: "Grids", body };
};

/** Rows of the chart, at most. */
const mostRows = 32;

function gridsOf(exhibit: GridsExhibit, canvas: Canvas): Markup {
  const { layers, ranges } = exhibit;
  const moved = ranges
    .filter(({ before }) => before[1] > before[0])
    .toSorted((a, b) => Math.abs(Math.log(widening(b))) - Math.abs(Math.log(widening(a))))
    .slice(0, mostRows);
  const rows = moved.map((range) => {
    const unit = range.before[1] - range.before[0];
    const inUnits = ([low, high]: readonly [number, number]) => [low / unit, high / unit] as const;
    const title = `${range.name}, ${range.of}, ${range.bits} bits\nbefore: ${number(rangeText(range.before))}\nafter: ${number(rangeText(range.after))}`;
    const label = barLabel(`${range.name} (${range.of})`);
    return { label, before: inUnits(range.before), after: inUnits(range.after), title };
  });
  const chart = spans(canvas, rows, {
    label: "Ranges before and after training",
    axis: "range, in lengths of the calibrated one",
  });
  const rest = ranges.length > rows.length ? ` The ${rows.length} that moved most of ${count(ranges.length)}.` : "";
  const caption = `What the integers span, as calibrated and as learned: wide ranges clip less, narrow ones round finer.${rest}`;
  const layerColumns = [
    { title: "Layer" },
    { title: "Weights", numeric: true },
    { title: "Width" },
    { title: "Packed", numeric: true },
    { title: "In the file", numeric: true },
  ];
  const layerRows = layers.map((layer) => [
    name(layer.name, 48),
    number(count(layer.elements)),
    layer.width,
    number(bytes(layer.packed)),
    number(bytes(layer.stored)),
  ]);
  return html`<p>${number(gridsSentence(exhibit))}</p>${rows.length > 0 && html`${modelKey(["calibrated", "learned"])}${figure(chart, number(caption))}`}${folded("All layers as a table", table("Bits and bytes of all layers", layerColumns, layerRows))}${ranges.length > 0 && folded("All ranges as a table", rangeTable(ranges))}`;
}

function rangeTable(ranges: GridsExhibit["ranges"]): Markup {
  const columns = [
    { title: "Value" },
    { title: "Of" },
    { title: "Bits", numeric: true },
    { title: "Calibrated", numeric: true },
    { title: "Learned", numeric: true },
    { title: "Ratio", numeric: true },
  ];
  const rows = ranges.map((range) => [
    name(range.name, 40),
    range.of,
    number(String(range.bits)),
    number(rangeText(range.before)),
    number(rangeText(range.after)),
    number(significant(widening(range))),
  ]);
  return table("Ranges as calibrated and as learned", columns, rows);
}
