import { raw } from "./markup.ts";

/**
 * The page's style sheet. Colours are defined once, for light and dark; charts refer to them. Models: grey, blue, orange,
 * green, pink, told apart by people who see two of the three primary colours (after Okabe and Ito 2008).
 */
export const style = raw(`
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f5f6f8; --ink: #1b1f24; --muted: #5c6570; --line: #dfe3e8; --link: #0b5cad;
  --good: #0b5cad; --bad: #b3470b;
  --model-0: #8b95a1; --model-1: #0b69c7; --model-2: #c2570c; --model-3: #0b8763; --model-4: #b04a86;
  --type-32: #46307e; --type-16: #7659b6; --type-8: #a78fda; --type-4: #cdbdee; --type-2: #e6def7; --type-other: #a9b1bb;
  --on-type-32: #fff; --on-type-16: #fff; --on-type-8: #1b1f24; --on-type-4: #1b1f24; --on-type-2: #1b1f24; --on-type-other: #1b1f24;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1d2127; --ink: #e7eaee; --muted: #a2abb6; --line: #323942; --link: #7db8f5;
    --good: #7db8f5; --bad: #f2a261;
    --model-0: #87919d; --model-1: #58a6f2; --model-2: #ef9a55; --model-3: #3fc79b; --model-4: #e391bd;
    --type-32: #dccff7; --type-16: #b49fe4; --type-8: #7d64b8; --type-4: #5d4791; --type-2: #463671; --type-other: #5d6773;
    --on-type-32: #14171b; --on-type-16: #14171b; --on-type-8: #fff; --on-type-4: #fff; --on-type-2: #fff; --on-type-other: #fff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
}
main { max-width: 840px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { margin: 0 0 12px; font-size: 2rem; line-height: 1.2; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 { margin: 0 0 16px; font-size: 1.375rem; line-height: 1.3; letter-spacing: -0.01em; }
h3 { margin: 20px 0 4px; font-size: 1rem; }
p, ul, ol, dl { margin: 0 0 12px; }
a { color: var(--link); }
code { font: 0.875em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere; }
small { display: block; color: var(--muted); font-size: 0.8125rem; font-weight: 400; line-height: 1.4; }
section { margin-top: 44px; padding-top: 28px; border-top: 1px solid var(--line); }
.over { margin: 0 0 8px; color: var(--muted); font-size: 0.875rem; }
.verdict { font-size: 1.1875rem; line-height: 1.45; overflow-wrap: anywhere; }
.badge { display: inline-block; padding: 2px 12px; border: 1.5px solid; border-radius: 99px; font-size: 0.875rem; font-weight: 600; }
.badge.good { color: var(--good); } .badge.bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: 12px; margin: 20px 0 0; }
.tiles > div { padding: 12px 16px 14px; border-radius: 10px; background: var(--raised); }
.tiles dt { color: var(--muted); font-size: 0.875rem; }
.tiles dd span { font-size: 0.9375rem; font-weight: 600; letter-spacing: 0; }
.tiles dd { margin: 0; font-size: 1.5rem; font-weight: 650; line-height: 1.3; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 24px; font-size: 0.875rem; }
nav a { padding: 2px 0; text-decoration: none; } nav a:hover { text-decoration: underline; }
.scroll { margin: 0 0 16px; overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { width: 100%; border-collapse: collapse; font-size: 0.9375rem; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 1.5px solid var(--muted); color: var(--muted); font-size: 0.8125rem; font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
thead code { color: var(--ink); }
.number { text-align: right; white-space: nowrap; } .number small { white-space: normal; }
.command span { display: inline-block; max-width: 100%; }
small b { color: var(--ink); font-weight: 600; }
.why { display: block; min-width: 16em; color: var(--muted); font-size: 0.875rem; }
.outcome { white-space: nowrap; } .outcome.chosen { color: var(--good); font-weight: 600; } .outcome.over-budget, .outcome.failed { color: var(--bad); }
details { font-size: 0.875rem; font-weight: 400; } summary { color: var(--link); cursor: pointer; }
details > .scroll, details > p, details > ul, details > ol { margin-top: 8px; }
li > details { display: inline-block; vertical-align: top; max-width: 100%; }
.options { padding-left: 18px; } .reasons { padding-left: 20px; } .reasons li { margin-bottom: 4px; }
figure { margin: 0 0 28px; }
figcaption { margin-top: 8px; color: var(--muted); font-size: 0.875rem; }
.plot { display: block; max-width: 100%; height: auto; overflow: visible; font-family: inherit; }
.plot text { white-space: pre; }
.narrow { display: none; }
.key { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0 0 8px; font-size: 0.875rem; }
.swatch { display: inline-block; width: 12px; height: 12px; margin-right: 7px; border-radius: 3px; vertical-align: -1px; }
.model-0 { background: var(--model-0); } .model-1 { background: var(--model-1); } .model-2 { background: var(--model-2); }
.model-3 { background: var(--model-3); } .model-4 { background: var(--model-4); }
.type-32 { background: var(--type-32); } .type-16 { background: var(--type-16); } .type-8 { background: var(--type-8); }
.type-4 { background: var(--type-4); } .type-2 { background: var(--type-2); } .type-other { background: var(--type-other); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); gap: 20px 36px; }
.small { margin: 0; } .small figcaption { margin: 0 0 6px; color: var(--ink); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 6px 24px; } .facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.settings { columns: 3 220px; column-gap: 36px; font-size: 0.9375rem; } .settings dt { color: var(--muted); }
.settings div { display: flex; justify-content: space-between; gap: 16px; padding: 4px 0; border-bottom: 1px solid var(--line); break-inside: avoid; }
.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.methods dt { font-weight: 600; } .methods dd { margin: 0 0 12px; color: var(--muted); }
@media (max-width: 640px) {
  main { padding: 20px 20px 48px; }
  h1 { font-size: 1.625rem; } .verdict { font-size: 1.0625rem; }
  .wide { display: none; } .narrow { display: block; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles dd { font-size: 1.25rem; } .tiles dd span { font-size: 0.875rem; } .tiles > div { padding: 10px 12px 12px; }
  th, td { padding-right: 10px; } table { font-size: 0.875rem; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 8px; }
}
@media print {
  @page { margin: 16mm 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, .long, #plans details { display: none; }
  summary { list-style: none; color: var(--muted); }
  details::details-content { content-visibility: visible; block-size: auto; }
  section { margin-top: 22px; padding-top: 16px; }
  h2, h3, h2 + p, .key, caption, thead { break-after: avoid; }
  figure, tr, .tiles > div, li, dt, .key { break-inside: avoid; }
  .methods dt, .facts dt { break-after: avoid; }
  p { break-inside: avoid; }
  .grid { grid-template-columns: 1fr 1fr; } .tiles { grid-template-columns: repeat(4, 1fr); }
  .scroll { overflow: visible; }
  .wide { display: block; } .narrow { display: none; }
  .swatch, .plot, .tiles > div { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  a { color: inherit; text-decoration: none; }
}
`);
