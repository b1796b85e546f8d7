import { openCanvas } from "./charts/canvas.ts";
import { html } from "./markup.ts";
import type { Report } from "./report.ts";
import { comparison } from "./sections/comparison.ts";
import { groups, zeros } from "./sections/cuts.ts";
import { environment, methods } from "./sections/environment.ts";
import { formats } from "./sections/formats.ts";
import { grids } from "./sections/grids.ts";
import { divergence, latency, weights } from "./sections/inside.ts";
import { layers } from "./sections/layers.ts";
import { ledger, leftAlone } from "./sections/ledger.ts";
import type { SectionMaker } from "./sections/parts.ts";
import { plans } from "./sections/plans.ts";
import { ranges } from "./sections/ranges.ts";
import { rounds, sensitivity } from "./sections/scans.ts";
import { summary } from "./sections/summary.ts";
import { curves, epochs, retraining, settings } from "./sections/training.ts";
import { style } from "./style.ts";

const sections: readonly SectionMaker[] = [
  curves,
  epochs,
  settings,
  comparison,
  ledger,
  rounds,
  retraining,
  zeros,
  groups,
  grids,
  sensitivity,
  formats,
  ranges,
  plans,
  layers,
  latency,
  divergence,
  weights,
  leftAlone,
  environment,
  methods,
];

/**
 * A report as one HTML page that needs nothing else: no script, no request. Same report, same bytes. Sections for which
 * the report has no data are left out. The plotting library is loaded on the first call.
 */
export async function renderHtml(report: Report): Promise<string> {
  const canvas = await openCanvas();
  const made = sections.flatMap((make) => make(report, canvas) ?? []);
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="${report.tool.name} ${report.tool.version}">
<link rel="icon" href="data:,">
<title>${report.title}</title>
<style>${style}</style>
</head>
<body>
<main>
${summary(report)}
<nav aria-label="Sections">${made.map(({ id, link }) => html`<a href="#${id}">${link}</a> `)}</nav>
${made.map(
  ({ id, title, body }) => html`<section id="${id}" aria-labelledby="${id}-title"><h2 id="${id}-title">${title}</h2>
${body}
</section>
`,
)}</main>
</body>
</html>
`.text;
}
