import {
  bytes,
  compact,
  count,
  joules,
  metricDifference,
  metricValue,
  milliseconds,
  percent,
  pValue,
  significant,
} from "../format.ts";
import { type Content, html } from "../markup.ts";
import type { ComparisonReport, ModelReport, Report } from "../report.ts";
import { name, number, type Section, stacked, table } from "./parts.ts";
import { differenceInterval, intervalText, sizeChange, speedChange } from "./words.ts";

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
  const size = (title: string, of: (model: ModelReport) => number | undefined, show: (x: number) => string): void =>
    row(title, (model, i) => ratioCell(of(first), of(model), i, show));
  size("File", (model) => model.bytes, bytes);
  size("File, gzip", (model) => model.gzip, bytes);
  size("File, brotli", (model) => model.brotli, bytes);
  size("Parameters", (model) => model.parameters, count);
  size("Multiply-accumulates", (model) => model.macs, compact);
  size("Nodes", (model) => model.nodes, count);
  row("Latency", (model, i) => latencyCell(model, against(i)));
  size("Peak memory", (model) => model.peakMemory, bytes);
  size("Energy, estimated", (model) => model.energy, joules);
  const columns = [{ title: "" }, ...models.map((model) => ({ title: name(model.name, 28), numeric: true }))];
  const title = models.length > 1 ? "Before and after" : "The model";
  return { id: "comparison", title, body: table(title, columns, rows) };
}

function scoreCell(model: ModelReport, metric: string, against: ComparisonReport | undefined): Content {
  const score = model.scores.find((candidate) => candidate.metric === metric);
  if (!score) return undefined;
  const change = against?.scores.find((candidate) => candidate.metric === metric);
  return stacked(
    number(metricValue(score.value, score.unit)),
    score.interval && intervalText(score.interval, score.unit),
    change && number(metricDifference(change.difference, change.unit)),
    change?.interval && `(${differenceInterval(change.interval, change.unit)})`,
    change?.p !== undefined && number(pValue(change.p)),
  );
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
): Content {
  if (value === undefined) return undefined;
  if (index === 0 || !before) return number(show(value));
  const ratio = value / before;
  return stacked(number(show(value)), number(`${percent(Number(ratio.toPrecision(3)))} · ${sizeChange(ratio)}`));
}

function latencyCell(model: ModelReport, against: ComparisonReport | undefined): Content {
  const { latency } = model;
  if (!latency) return undefined;
  const [low, high] = latency.quartiles.map((ms) => milliseconds(ms));
  const interval = against?.latencyInterval;
  return stacked(
    number(milliseconds(latency.median)),
    number(`quartiles ${low} to ${high}`),
    number(`${count(latency.runs)} runs, batch ${latency.batch}`),
    against && number(speedChange(against) ?? ""),
    interval && number(`time × ${significant(interval[0])} to ${significant(interval[1])}`),
  );
}
