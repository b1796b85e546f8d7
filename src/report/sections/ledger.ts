import type { LedgerEntry, Measurement } from "../../recipe/ledger.ts";
import { bytes, compact, metricValue, milliseconds } from "../format.ts";
import { type Content, html, type Markup } from "../markup.ts";
import type { Report } from "../report.ts";
import { folded, name, number, type Section, stacked, table } from "./parts.ts";

/** The steps that led to the result, each with what it took and what it changed. */
export function ledger(report: Report): Section | undefined {
  const first = report.ledger[0];
  if (!first) return undefined;
  const metric = first.before.scores[0]?.metric;
  const timed = report.ledger.some(({ after }) => after.latency);
  const columns = [
    { title: "Step" },
    { title: "Took", numeric: true },
    { title: "File", numeric: true },
    ...(metric ? [{ title: metric, numeric: true }] : []),
    ...(timed ? [{ title: "Latency", numeric: true }] : []),
    { title: "Changed" },
  ];
  const cells = (measured: Measurement): Content[] => [
    number(bytes(measured.bytes)),
    ...(metric ? [scoreText(measured, metric)] : []),
    ...(timed ? [measured.latency ? number(milliseconds(measured.latency.median)) : "–"] : []),
  ];
  const rows = [
    ["The original", "", ...cells(first.before), ""],
    ...report.ledger.map((entry) => [
      stepCell(entry),
      number(milliseconds(entry.seconds * 1e3)),
      ...cells(entry.after),
      changesCell(entry),
    ]),
  ];
  return {
    id: "steps",
    title: "Steps",
    link: "Steps",
    body: table("Steps from the original to the result", columns, rows),
  };
}

function scoreText({ scores }: Measurement, metric: string): string {
  const score = scores.find((candidate) => candidate.metric === metric);
  return score ? number(metricValue(score.value, score.unit)) : "–";
}

function stepCell({ step, options, resumed }: LedgerEntry): Markup {
  const chosen = Object.entries(options).filter(([, value]) => !(Array.isArray(value) && value.length === 0));
  return html`${step}${resumed && html`<small>taken from an earlier run</small>`}${
    chosen.length > 0 && folded("options", optionList(chosen))
  }`;
}

/** Options as a list of names and values. */
export function optionList(options: readonly (readonly [name: string, value: unknown])[]): Markup {
  return html`<ul class="options">${options.map(([key, value]) => html`<li>${key}: <code>${optionText(value)}</code></li>`)}</ul>`;
}

function optionText(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "unset");
}

function changesCell({ changes, skips }: LedgerEntry): Content {
  const operators = Object.entries(changes.operators).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const shown = operators.slice(0, 4).map(([op, n]) => `${n > 0 ? "+" : "\u2212"}${Math.abs(n)}\u202f${op}`);
  if (operators.length > shown.length) shown.push(`${operators.length - shown.length} more kinds`);
  const nodes =
    changes.nodesBefore === changes.nodesAfter
      ? `${number(compact(changes.nodesAfter))} nodes`
      : `${number(compact(changes.nodesBefore))} → ${number(compact(changes.nodesAfter))} nodes`;
  return stacked(
    nodes,
    shown.join(", "),
    changes.weightsChanged > 0 && `${changes.weightsChanged} weights new or changed`,
    skips.length > 0 && html`<a href="#left">${skips.length} left alone</a>`,
  );
}

/** What each step left as it was, by reason. */
export function leftAlone(report: Report): Section | undefined {
  const steps = report.ledger.filter(({ skips }) => skips.length > 0);
  if (steps.length === 0) return undefined;
  const body = steps.map(({ step, skips }) => {
    const byReason = new Map<string, string[]>();
    for (const { node, reason } of skips) byReason.set(reason, [...(byReason.get(reason) ?? []), node]);
    const reasons = [...byReason].sort(([, a], [, b]) => b.length - a.length);
    return html`<h3>${step}</h3><ul class="reasons">${reasons.map(([reason, nodes]) => html`<li>${reason}: ${nodeList(nodes)}</li>`)}</ul>`;
  });
  return { id: "left", title: "What was left alone, and why", link: "Left alone", body: html`${body}` };
}

const shownNodes = 6;

/** Names in a line, folded away where they are many. */
export function nodeList(nodes: readonly string[], what = "nodes"): Markup {
  const list = (part: readonly string[]): Content[] => part.map((node, i) => [i > 0 && ", ", name(node, 36)]);
  if (nodes.length <= shownNodes) return html`${list(nodes)}`;
  return folded(`${nodes.length} ${what}`, html`<p>${list(nodes)}</p>`);
}
