import {
  bytes,
  compact,
  count,
  joules,
  metricDifference,
  metricValue,
  milliseconds,
  pValue,
  ratioInWords,
  significant,
} from "../format.ts";
import { type Content, html } from "../markup.ts";
import type { ComparisonReport, ModelReport, Report, ScoreDifference } from "../report.ts";
import { name, number, type Section, stacked, table } from "./parts.ts";
import { differenceInterval, intervalText, speedChange, speedInterval } from "./words.ts";

const sizes = [
  { title: "File", of: (model: ModelReport) => model.bytes, show: bytes, less: "smaller", more: "larger" },
  { title: "File, gzip", of: (model: ModelReport) => model.gzip, show: bytes, less: "smaller", more: "larger" },
  { title: "File, brotli", of: (model: ModelReport) => model.brotli, show: bytes, less: "smaller", more: "larger" },
  { title: "Parameters", of: (model: ModelReport) => model.parameters, show: count, less: "fewer", more: "more" },
  { title: "Multiply-accumulates", of: (model: ModelReport) => model.macs, show: compact, less: "fewer", more: "more" },
  { title: "Nodes", of: (model: ModelReport) => model.nodes, show: count, less: "fewer", more: "more" },
] as const;

const usage = [
  { title: "Peak memory", of: (model: ModelReport) => model.peakMemory, show: bytes },
  { title: "Energy, estimated", of: (model: ModelReport) => model.energy, show: joules },
] as const;

/** The table of all models, the original first: every figure, and how it differs. */
export function comparison(report: Report): Section | undefined {
  const { models } = report;
  const first = models[0];
  if (!first) return undefined;
  const against = (index: number): ComparisonReport | undefined =>
    report.comparisons.find(({ model }) => model === index);
  const rows: Content[][] = [];
  const row = (title: Content, cell: (model: ModelReport, index: number) => Content): void => {
    const cells = models.map(cell);
    if (cells.some((content) => content !== undefined)) rows.push([title, ...cells.map((content) => content ?? "–")]);
  };
  for (const { metric } of first.scores) row(metric, (model, i) => scoreCell(model, metric, against(i)));
  for (const output of new Set(report.comparisons.flatMap(({ outputs }) => outputs.map((o) => o.output)))) {
    row(html`Output ${name(output, 24)} against the original's`, (_, i) => outputCell(output, against(i)));
  }
  for (const { title, of, show, less, more } of sizes) {
    row(title, (model, i) => ratioCell(of(first), of(model), i, show, [less, more]));
  }
  row("Latency", (model, i) => latencyCell(model, against(i)));
  for (const { title, of, show } of usage) {
    row(title, (model, i) => ratioCell(of(first), of(model), i, show, ["less", "more"]));
  }
  const columns = [{ title: "" }, ...models.map((model) => ({ title: name(model.name, 28), numeric: true }))];
  const title = models.length > 1 ? "Before and after" : "The model";
  return { id: "comparison", title, link: title, body: table(title, columns, rows) };
}

function scoreCell(model: ModelReport, metric: string, against: ComparisonReport | undefined): Content {
  const score = model.scores.find((candidate) => candidate.metric === metric);
  if (!score) return undefined;
  const change = against?.scores.find((candidate) => candidate.metric === metric);
  return stacked(
    number(metricValue(score.value, score.unit)),
    score.interval && intervalText(score.interval, score.unit),
    change && html`<b>${differenceText(change)}</b>`,
    change?.p !== undefined && number(pValue(change.p)),
  );
}

function differenceText({ difference, interval, unit }: ScoreDifference): string {
  const range = interval ? ` (${differenceInterval(interval, unit)})` : "";
  return `${number(metricDifference(difference, unit))}${range}`;
}

function outputCell(output: string, against: ComparisonReport | undefined): Content {
  const found = against?.outputs.find((candidate) => candidate.output === output);
  if (!found) return undefined;
  const { sqnr, cosine } = found;
  return stacked(
    Number.isFinite(sqnr) ? number(`${significant(sqnr)} dB`) : "equal",
    `cosine ${significant(cosine, 5)}`,
  );
}

function ratioCell(
  before: number | undefined,
  value: number | undefined,
  index: number,
  show: (x: number) => string,
  words: readonly [less: string, more: string],
): Content {
  if (value === undefined) return undefined;
  if (index === 0 || !before || !value) return number(show(value));
  return stacked(number(show(value)), html`<b>${ratioInWords(value, before, words)}</b>`);
}

function latencyCell(model: ModelReport, against: ComparisonReport | undefined): Content {
  const { latency } = model;
  if (!latency) return undefined;
  const [low, high] = latency.quartiles.map((ms) => milliseconds(ms));
  const interval = against && speedInterval(against);
  return stacked(
    number(milliseconds(latency.median)),
    number(`quartiles ${low} to ${high}`),
    number(`${count(latency.runs)} runs of ${latency.batch}`),
    against?.latencyRatio !== undefined && html`<b>${speedChange(against)}</b>`,
    interval !== undefined && number(interval),
  );
}
