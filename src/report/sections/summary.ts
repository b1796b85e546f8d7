import { bytes, metricDifference, metricValue, milliseconds, times } from "../format.ts";
import { html, type Markup } from "../markup.ts";
import type { ComparisonReport, ModelReport, Report } from "../report.ts";
import { number } from "./parts.ts";
import {
  askedSentence,
  budgetSentence,
  comparisonSentence,
  differenceInterval,
  intervalText,
  modelSentence,
} from "./words.ts";

/** The top of the page: title, verdict in sentences, the figures a person looks for first. */
export function summary(report: Report): Markup {
  const { verdict, comparisons, models } = report;
  const last = comparisons.at(-1);
  const unit = models[0]?.scores.find(({ metric }) => metric === verdict?.metric)?.unit;
  const sentences =
    comparisons.length > 0
      ? comparisons.map((comparison) => comparisonSentence(report, comparison))
      : models.map(modelSentence);
  return html`<header>
<p class="over">${report.tool.name} ${report.tool.version} · <time datetime="${report.created}">${dateText(report.created)}</time></p>
<h1>${report.title}</h1>
${verdict && html`<p class="badge ${verdict.met ? "good" : "bad"}">${verdict.met ? "✓ Budget kept" : "✗ Budget not kept"}</p>`}
${sentences.map((sentence) => html`<p class="verdict">${sentence}</p>`)}
${verdict && html`<p>${askedSentence(verdict, unit)} ${budgetSentence(verdict, unit)}</p>`}
${verdict && verdict.findings.length > 0 && html`<ul>${verdict.findings.map((finding) => html`<li>${finding}</li>`)}</ul>`}
${comparisons.length < 2 && html`<dl class="tiles">${tiles(models, last)}</dl>`}
</header>`;
}

function dateText(created: string): string {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)/.exec(created);
  return match ? `${match[1]} ${match[2]} UTC` : created;
}

function tile(label: string, value: string, note: string): Markup {
  return html`<div><dt>${label}</dt><dd>${value}<small>${note}</small></dd></div>`;
}

function tiles(models: readonly ModelReport[], comparison: ComparisonReport | undefined): (Markup | undefined)[] {
  const before = models[0];
  if (!before) return [];
  const after = comparison && models[comparison.model];
  if (!after) {
    const score = before.scores[0];
    return [
      tile(
        "File size",
        number(bytes(before.bytes)),
        `${number(bytes(before.gzip ?? before.bytes))}${before.gzip === undefined ? "" : " gzipped"}`,
      ),
      score &&
        tile(
          score.metric,
          number(metricValue(score.value, score.unit)),
          score.interval ? intervalText(score.interval, score.unit) : "",
        ),
      before.latency && tile("Latency", number(milliseconds(before.latency.median)), "median of an inference"),
    ];
  }
  const score = comparison.scores[0];
  const { latencyRatio: ratio, latencyInterval: interval } = comparison;
  return [
    tile(
      "File size",
      `÷\u202f${times(1 / comparison.bytesRatio).replace("×", "")}`,
      number(`${bytes(before.bytes)} → ${bytes(after.bytes)}`),
    ),
    ratio !== undefined && before.latency && after.latency
      ? tile(
          "Speed",
          times(1 / ratio),
          number(`${milliseconds(before.latency.median)} → ${milliseconds(after.latency.median)}`) +
            (interval ? ` (${times(1 / interval[1]).replace("×", "")} to ${times(1 / interval[0])})` : ""),
        )
      : undefined,
    score &&
      tile(
        score.metric,
        number(metricDifference(score.difference, score.unit)),
        `${number(`${metricValue(score.before, score.unit)} → ${metricValue(score.after, score.unit)}`)}${score.interval ? ` (${differenceInterval(score.interval, score.unit)})` : ""}`,
      ),
    before.peakMemory !== undefined && after.peakMemory !== undefined
      ? tile(
          "Peak memory",
          `÷\u202f${times(before.peakMemory / after.peakMemory).replace("×", "")}`,
          number(`${bytes(before.peakMemory)} → ${bytes(after.peakMemory)}`),
        )
      : undefined,
  ];
}
