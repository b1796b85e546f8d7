import { type BarRow, barLabel, bars } from "../charts/bars.ts";
import type { Canvas } from "../charts/canvas.ts";
import { typeBars, typeSlot, typesOf } from "../charts/types.ts";
import { bytes, compact, milliseconds, shorten } from "../format.ts";
import { type Content, html, type Markup } from "../markup.ts";
import type { LayerReport, Report } from "../report.ts";
import { figure, folded, modelKey, name, number, type SectionMaker, table } from "./parts.ts";

/** A layer with its counterparts in the other models, found by name. */
interface LayerRow {
  readonly layer: LayerReport;
  readonly models: readonly (LayerReport | undefined)[];
}

/** Where the bytes and the time are, layer by layer and by element type. */
export const layers: SectionMaker = (report, canvas) => {
  const shown = report.models.slice(0, 4);
  const rows = layerRows(shown.map((model) => model.layers));
  const names = shown.map((model) => model.name);
  const parts: (Markup | undefined)[] = [
    types(report, canvas),
    ...(["bytes", "ms"] as const).map((quantity) => ranking(canvas, rows, names, quantity)),
  ];
  if (parts.every((part) => part === undefined)) return undefined;
  const left =
    report.models.length > shown.length && html`<p>The layers of the first ${shown.length} models are shown.</p>`;
  const body = html`${left}${parts}${rows.length > 0 && html`<div class="long">${folded("All layers as a table", layerTable(rows, names))}</div>`}`;
  return { id: "layers", title: "Where the bytes and the time are", link: "Bytes and time", body };
};

/** Layers of all models by name; those of the same name and a repeated one are told apart by their order. */
function layerRows(models: readonly (readonly LayerReport[])[]): LayerRow[] {
  const rows = new Map<string, { layer: LayerReport; models: (LayerReport | undefined)[] }>();
  models.forEach((list, index) => {
    const seen = new Map<string, number>();
    for (const layer of list) {
      const nth = seen.get(layer.name) ?? 0;
      seen.set(layer.name, nth + 1);
      const key = `${nth}:${layer.name}`;
      const row = rows.get(key) ?? { layer, models: new Array<LayerReport | undefined>(models.length).fill(undefined) };
      row.models[index] = layer;
      rows.set(key, row);
    }
  });
  return [...rows.values()];
}

const quantities = {
  bytes: {
    of: (layer: LayerReport | undefined): number | undefined => layer?.bytes,
    format: bytes,
    axis: "bytes of weights",
    label: "Bytes of weights per layer, largest first",
  },
  ms: {
    of: (layer: LayerReport | undefined): number | undefined => layer?.ms,
    format: milliseconds,
    axis: "time in one inference",
    label: "Time per layer in one inference, slowest first",
  },
} as const;

function ranking(
  canvas: Canvas,
  rows: readonly LayerRow[],
  names: readonly string[],
  quantity: keyof typeof quantities,
): Markup | undefined {
  const { of, format, axis, label } = quantities[quantity];
  const valued = rows
    .map((row) => ({
      row,
      values: row.models.map(of),
      most: Math.max(0, ...row.models.map((layer) => of(layer) ?? 0)),
    }))
    .filter(({ most }) => most > 0)
    .sort((a, b) => b.most - a.most);
  if (valued.length === 0) return undefined;
  const rowsFor = (limit: number): BarRow[] => {
    const rest = valued.length > limit + 1 ? valued.slice(limit) : [];
    const data = valued.slice(0, valued.length - rest.length);
    const shown: BarRow[] = data.map(({ row, values }) => ({
      label: barLabel(row.layer.name, `${row.layer.name} (${row.layer.op})`),
      values,
    }));
    if (rest.length === 0) return shown;
    const values = names.map((_, m) => sum(rest.map((other) => other.values[m])));
    return [...shown, { label: barLabel(`${rest.length} other layers`), values }];
  };
  const chart = bars(canvas, rowsFor, { label, axis, models: names, format: (x) => number(format(x)) });
  return figure(html`${names.length > 1 && modelKey(names)}${chart}`, `${label}.`);
}

function sum(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length > 0 ? known.reduce((a, b) => a + b, 0) : undefined;
}

function types({ models }: Report, canvas: Canvas): Markup | undefined {
  const rows = models
    .map((model) => ({ model: model.name, byType: model.byType }))
    .filter(({ byType }) => Object.values(byType).some((size) => size > 0));
  if (rows.length === 0) return undefined;
  const chart = typeBars(
    canvas,
    rows.map((row) => ({ ...row, model: shorten(row.model, 44) })),
  );
  const columns = [{ title: "Type" }, ...rows.map(({ model }) => ({ title: name(model, 28), numeric: true }))];
  const cells = typesOf(rows).map((type) => [
    html`<i class="swatch type-${typeSlot(type)}"></i>${type}`,
    ...rows.map(({ byType }) => (byType[type] ? number(bytes(byType[type])) : "–")),
  ]);
  return html`${figure(chart, "Bytes of weights by element type; stronger colours are more bits an element, grey are integers of 16 bits and more.")}${table("Bytes of weights by element type", columns, cells)}`;
}

function layerTable(rows: readonly LayerRow[], names: readonly string[]): Markup {
  const timed = rows.some(({ models }) => models.some((layer) => layer?.ms !== undefined));
  const perModel = (title: string): { title: Content; numeric: true }[] =>
    names.map((model) => ({
      title: html`${title}${names.length > 1 && html`<small>${name(model, 16)}</small>`}`,
      numeric: true,
    }));
  const columns = [
    { title: "Layer" },
    { title: "Operator" },
    { title: "Parameters", numeric: true },
    { title: "MACs", numeric: true },
    ...perModel("Bytes"),
    ...(timed ? perModel("Time") : []),
  ];
  const cells = rows.map(({ layer, models }) => [
    name(layer.name, 36),
    layer.op,
    number(compact(layer.parameters)),
    number(compact(layer.macs)),
    ...models.map((found) => (found ? number(bytes(found.bytes)) : "–")),
    ...(timed ? models.map((found) => (found?.ms === undefined ? "–" : number(milliseconds(found.ms)))) : []),
  ]);
  return table("All layers, in the order of execution", columns, cells);
}
