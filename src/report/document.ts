import type { LedgerEntry, Score } from "../recipe/ledger.ts";
import { exhibitSections } from "./exhibits.ts";
import {
  bytes,
  compact,
  joules,
  metricDifference,
  metricValue,
  milliseconds,
  percent,
  pValue,
  ratioInWords,
  significant,
} from "./format.ts";
import type { ComparisonReport, ModelReport, PlanReport, Report, ScoreDifference, VerdictReport } from "./report.ts";
import { askedSentence, budgetSentence, comparisonSentence, speedChange, speedInterval } from "./sections/words.ts";
import { trainingSections } from "./training.ts";

/** Text and tables, to be rendered for a terminal or as markdown. */
export interface Section {
  readonly title: string;
  readonly lines?: readonly string[];
  readonly table?: Table;
}

/** A table of text. */
export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
}

/** A column's heading; numbers are right-aligned, and a flexible column gives way where room is short. */
export interface Column {
  readonly title: string;
  readonly right?: boolean;
  readonly flexible?: boolean;
}

/** A report in reading order: verdict, before and after, steps, plans, layers. */
export function reportSections(report: Report): Section[] {
  const { verdict, models, comparisons, ledger, plans, training } = report;
  const sections: Section[] = [];
  if (verdict) sections.push(verdictSection(report, verdict));
  if (training) sections.push(...trainingSections(training));
  if (models.length > 0) sections.push(modelsSection(models));
  for (const comparison of comparisons) sections.push(...comparisonSections(comparison, models));
  if (ledger.length > 0) sections.push(...ledgerSections(ledger), ...exhibitSections(ledger));
  if (plans.length > 0) sections.push(plansSection(plans));
  return sections;
}

function verdictSection(report: Report, verdict: VerdictReport): Section {
  const scores = report.models.flatMap((model) => model.scores);
  const unit = scores.find(({ metric }) => metric === verdict.metric)?.unit;
  const lines = [
    ...report.comparisons.map((comparison) => comparisonSentence(report, comparison)),
    askedSentence(verdict, unit),
    budgetSentence(verdict, unit),
    ...verdict.findings,
  ];
  // without a budget a model is handed out whether or not it reaches the target
  const made = verdict.met || verdict.maxDrop === undefined;
  return { title: made ? "Result" : "No result", lines: lines.filter((line) => line !== undefined) };
}

/** Models beside each other: one row a measurement, the original first. */
export function modelsSection(models: readonly ModelReport[]): Section {
  const rows: string[][] = [];
  const add = (title: string, show: (model: ModelReport) => string | undefined): void => {
    const cells = models.map((model) => show(model) ?? "");
    if (cells.some((cell) => cell !== "")) rows.push([title, ...cells]);
  };
  add("file", (model) => bytes(model.bytes));
  add("gzip", ({ gzip }) => (gzip === undefined ? undefined : bytes(gzip)));
  add("brotli", ({ brotli }) => (brotli === undefined ? undefined : bytes(brotli)));
  add("parameters", ({ parameters }) => compact(parameters));
  add("MACs", ({ macs }) => compact(macs));
  add("nodes", ({ nodes }) => String(nodes));
  for (const metric of new Set(models.flatMap(({ scores }) => scores.map((score) => score.metric)))) {
    add(metric, ({ scores }) => {
      const score = scores.find((other) => other.metric === metric);
      return score && scoreWithInterval(score);
    });
  }
  add("latency", ({ latency }) => latency && milliseconds(latency.median));
  add("quartiles", ({ latency }) => latency?.quartiles.map(milliseconds).join(" - "));
  add("peak memory", ({ peakMemory }) => (peakMemory ? bytes(peakMemory) : undefined));
  add("energy, estimated", ({ energy }) => (energy === undefined ? undefined : joules(energy)));
  const columns = models.map(({ name }) => ({ title: name, right: true, flexible: models.length > 2 }));
  return { title: "Measured", table: { columns: [{ title: "" }, ...columns], rows } };
}

/** Outputs with less signal to noise than this, in decibels, deserve a search for the node to blame. */
const poorSqnr = 20;

function comparisonSections(comparison: ComparisonReport, models: readonly ModelReport[]): Section[] {
  const before = models[0];
  const after = models[comparison.model];
  if (!before || !after) return [];
  const lines = [`size  ${ratioInWords(after.bytes, before.bytes, ["smaller", "larger"])}`];
  const speed = speedChange(comparison);
  if (speed !== undefined) lines.push(`time  ${[speed, speedInterval(comparison)].filter(Boolean).join(", ")}`);
  lines.push(...comparison.scores.map(differenceLine));
  for (const { output, sqnr, cosine } of comparison.outputs) {
    lines.push(`output '${output}'  SQNR ${sqnr.toFixed(1)} dB  cosine ${cosine.toFixed(5)}`);
  }
  const worst = Math.min(...comparison.outputs.map(({ sqnr }) => sqnr));
  if (comparison.firstBad && worst < poorSqnr) lines.push(`the error first jumps at '${comparison.firstBad}'`);
  const sections: Section[] = [{ title: `${after.name} against ${before.name}`, lines }];
  if (comparison.slower.length > 0) {
    sections.push({
      title: "Kernels that became slower",
      table: {
        columns: [
          { title: "node", flexible: true },
          { title: "operator" },
          { title: "before", right: true },
          { title: "after", right: true },
        ],
        rows: comparison.slower.map((row) => [row.node, row.op, milliseconds(row.before), milliseconds(row.after)]),
      },
    });
  }
  return sections;
}

function differenceLine({ metric, before, after, difference, interval, p, unit }: ScoreDifference): string {
  const bound = (x: number): string => `${x > 0 ? "+" : ""}${unit === "%" ? (100 * x).toFixed(2) : significant(x, 3)}`;
  const range = interval ? ` [${interval.map(bound).join(", ")}]` : "";
  const test = p === undefined ? "" : `, ${pValue(p)}`;
  const values = `${metricValue(before, unit)} -> ${metricValue(after, unit)}`;
  return `${metric}  ${values}  ${metricDifference(difference, unit)}${range}${test}`;
}

/** A score and its confidence interval: "93.40 % [92.10, 94.50]". */
export function scoreWithInterval({ value, interval, unit }: Pick<Score, "value" | "interval" | "unit">): string {
  const shown = metricValue(value, unit);
  const bound = (x: number): string => (unit === "%" ? (100 * x).toFixed(2) : significant(x, 4));
  return interval ? `${shown} [${interval.map(bound).join(", ")}]` : shown;
}

/** A step in one line: `quantize-static  4.10 s  44.7 MB -> 12.2 MB  top-1 93.40 % -> 93.10 %  1.20 ms -> 510 µs`. */
export function ledgerLine({ step, seconds, before, after, resumed }: LedgerEntry): string {
  const parts = [
    step,
    resumed ? "kept" : milliseconds(seconds * 1000),
    `${bytes(before.bytes)} -> ${bytes(after.bytes)}`,
  ];
  const [now] = after.scores;
  const was = before.scores.find((score) => score.metric === now?.metric);
  if (now) {
    const from = was ? `${metricValue(was.value, was.unit)} -> ` : "";
    parts.push(`${now.metric} ${from}${metricValue(now.value, now.unit)}`);
  }
  if (before.latency && after.latency) {
    parts.push(`${milliseconds(before.latency.median)} -> ${milliseconds(after.latency.median)}`);
  }
  return parts.join("  ");
}

/** The steps, a line each, and what they left alone, grouped by reason. */
export function ledgerSections(ledger: readonly LedgerEntry[]): Section[] {
  const sections: Section[] = [{ title: "Steps", lines: ledger.map(ledgerLine) }];
  const skipped = ledger.flatMap((entry) => skipLines(entry));
  if (skipped.length > 0) sections.push({ title: "Left as they were", lines: skipped });
  return sections;
}

/** One line a reason: how many nodes a step left alone for it, and the first of them. */
export function skipLines({ step, skips }: Pick<LedgerEntry, "step" | "skips">): string[] {
  const reasons = new Map<string, string[]>();
  for (const { node, reason } of skips) reasons.set(reason, [...(reasons.get(reason) ?? []), node]);
  return [...reasons].map(([reason, nodes]) => {
    const shown = nodes.slice(0, 3).map((node) => `'${node}'`);
    const more = nodes.length > shown.length ? ` and ${nodes.length - shown.length} more` : "";
    return `${step}: ${shown.join(", ")}${more}: ${reason}`;
  });
}

function plansSection(plans: readonly PlanReport[]): Section {
  const columns = [
    { title: "plan", flexible: true },
    { title: "file", right: true },
    { title: "time", right: true },
    { title: "score", right: true },
    { title: "drop", right: true },
    { title: "outcome" },
  ];
  const rows = plans.map(({ name, measured, drop, outcome }) => {
    const [score] = measured?.scores ?? [];
    return [
      name,
      measured ? bytes(measured.bytes) : "",
      measured?.latency ? milliseconds(measured.latency.median) : "",
      score ? metricValue(score.value, score.unit) : "",
      drop === undefined ? "" : percent(drop),
      outcome,
    ];
  });
  return { title: "Plans tried", table: { columns, rows } };
}
