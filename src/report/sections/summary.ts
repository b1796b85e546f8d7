import { notes } from "../exhibits.ts";
import { bytes, metricDifference, metricValue, milliseconds, ratioInWords, significant } from "../format.ts";
import { html, type Markup } from "../markup.ts";
import type { ComparisonReport, ModelReport, Report, TrainingReport, VerdictReport } from "../report.ts";
import { trainingSentence, trainingSpeed } from "../training.ts";
import { number } from "./parts.ts";
import {
  askedSentence,
  budgetSentence,
  comparisonSentence,
  differenceInterval,
  intervalText,
  modelSentence,
  speedChange,
  speedInterval,
} from "./words.ts";

/** The top of the page: title, verdict in sentences, the figures a person looks for first. */
export function summary(report: Report): Markup {
  const { verdict, comparisons, models, training } = report;
  const last = comparisons.at(-1);
  const toKnow = notes(report.ledger);
  const unit = models[0]?.scores.find(({ metric }) => metric === verdict?.metric)?.unit;
  const sentences =
    comparisons.length > 0
      ? comparisons.map((comparison) => comparisonSentence(report, comparison))
      : models.map(modelSentence);
  return html`<header>
<p class="over">${report.tool.name} ${report.tool.version} · <time datetime="${report.created}">${dateText(report.created)}</time></p>
<h1>${report.title}</h1>
${verdict && html`<p class="badge ${verdict.met ? "good" : "bad"}">${badge(verdict, comparisons.length > 0)}</p>`}
${training && html`<p class="verdict">${trainingSentence(training)}</p>`}
${sentences.map((sentence) => html`<p class="verdict">${sentence}</p>`)}
${verdict && html`<p>${askedSentence(verdict, unit)} ${budgetSentence(verdict, unit)}</p>`}
${verdict && verdict.findings.length > 0 && html`<ul>${verdict.findings.map((finding) => html`<li>${finding}</li>`)}</ul>`}
${toKnow.length > 0 && html`<ul>${toKnow.map((note) => html`<li>${note}</li>`)}</ul>`}
${training && html`<dl class="tiles">${trainingTiles(training)}</dl>`}
${comparisons.length < 2 && models.length > 0 && html`<dl class="tiles">${tiles(models, last)}</dl>`}
</header>`;
}

function badge({ met, maxDrop }: VerdictReport, compared: boolean): string {
  if (maxDrop === undefined) return met ? "✓ Target reached" : "✗ Target not reached";
  if (met) return "✓ Budget kept";
  return compared ? "✗ Budget not kept" : "✗ No better model within the budget";
}

function dateText(created: string): string {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)/.exec(created);
  return match ? `${match[1]} ${match[2]} UTC` : created;
}

function tile(label: string, value: string, unit: string, note: string): Markup {
  return html`<div><dt>${label}</dt><dd>${value}${unit !== "" && html` <span>${unit}</span>`}<small>${note}</small></dd></div>`;
}

/** A text of number and words with the number set apart: "3.91× smaller". */
function split(text: string): [value: string, unit: string] {
  const [, value = text, unit = ""] = /^([-+\d.]+×?) (.*)$/.exec(text) ?? [];
  return [number(value), unit];
}

function tiles(models: readonly ModelReport[], comparison: ComparisonReport | undefined): (Markup | undefined)[] {
  const before = models[0];
  if (!before) return [];
  const after = comparison && models[comparison.model];
  return after ? changeTiles(before, after, comparison) : modelTiles(before);
}

function trainingTiles(training: TrainingReport): (Markup | undefined)[] {
  const { epochs, best, metric, bytes: size, output } = training;
  const { seconds, rate } = trainingSpeed(training);
  const last = epochs.at(-1);
  const show = (label: string, text: string, note: string): Markup => tile(label, ...split(text), note);
  return [
    best.score !== undefined && metric
      ? show(metric.name, metricValue(best.score, metric.unit), `validation, epoch ${best.epoch}`)
      : undefined,
    last && show("Loss", significant(last.loss, 4), "training, last epoch"),
    show("Time", milliseconds(seconds * 1000), `${significant(rate)} samples/s`),
    show("File size", bytes(size), output),
  ];
}

function modelTiles({ bytes: size, gzip, scores: [score], latency, peakMemory }: ModelReport): (Markup | undefined)[] {
  const show = (label: string, text: string, note: string): Markup => tile(label, ...split(text), note);
  return [
    show("File size", bytes(size), gzip === undefined ? "" : number(`${bytes(gzip)} gzipped`)),
    score &&
      show(
        score.metric,
        metricValue(score.value, score.unit),
        score.interval ? intervalText(score.interval, score.unit) : "",
      ),
    latency && show("Latency", milliseconds(latency.median), "median of an inference"),
    peakMemory === undefined ? undefined : show("Peak memory", bytes(peakMemory), "of the process"),
  ];
}

function changeTiles(before: ModelReport, after: ModelReport, comparison: ComparisonReport): (Markup | undefined)[] {
  const score = comparison.scores[0];
  const speed = speedChange(comparison);
  const factors = speedInterval(comparison);
  const fromTo = (a: number, b: number, show: (x: number) => string): string => number(`${show(a)} → ${show(b)}`);
  const size = split(ratioInWords(after.bytes, before.bytes, ["smaller", "larger"]));
  return [
    tile("File size", ...size, fromTo(before.bytes, after.bytes, bytes)),
    speed !== undefined && before.latency && after.latency
      ? tile(
          "Speed",
          ...split(speed),
          `${fromTo(before.latency.median, after.latency.median, milliseconds)}${factors ? ` (${number(factors)})` : ""}`,
        )
      : undefined,
    score &&
      tile(
        score.metric,
        ...split(metricDifference(score.difference, score.unit)),
        `${fromTo(score.before, score.after, (x) => metricValue(x, score.unit))}${score.interval ? ` (${differenceInterval(score.interval, score.unit)})` : ""}`,
      ),
    before.peakMemory !== undefined && after.peakMemory !== undefined
      ? tile(
          "Peak memory",
          ...split(ratioInWords(after.peakMemory, before.peakMemory, ["smaller", "larger"])),
          fromTo(before.peakMemory, after.peakMemory, bytes),
        )
      : undefined,
  ];
}
