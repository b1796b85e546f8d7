import type { Exhibit } from "../../techniques/exhibit.ts";
import type { Canvas } from "../charts/canvas.ts";
import type { Shown } from "../exhibits.ts";
import { innerSpace, shorten } from "../format.ts";
import { type Content, html, type Markup } from "../markup.ts";
import type { Report } from "../report.ts";

/** A part of the page with its heading. */
export interface Section {
  /** Anchor, a word. */
  readonly id: string;
  readonly title: string;
  /** The title in a word or two, for the list of sections. */
  readonly link: string;
  readonly body: Markup;
}

/** Makes a section from the report; undefined where the report has nothing for it. */
export type SectionMaker = (report: Report, canvas: Canvas) => Section | undefined;

/** Numbers of a text set for reading: thin spaces that do not break, a true minus. */
export function number(text: string): string {
  return text.replace(innerSpace, "\u202f").replace(/(?<![\w.])-(?=\d)/g, "\u2212");
}

/** A name as code, shortened in the middle, with the whole name in its title. */
export function name(text: string, limit = 40): Markup {
  const short = shorten(text, limit);
  return short === text ? html`<code>${text}</code>` : html`<code title="${text}">${short}</code>`;
}

/** A column of a table. */
export interface Column {
  readonly title: Content;
  /** Numbers are set flush right. */
  readonly numeric?: boolean;
}

/** A table in a box that scrolls sideways where it is too wide. The first cell of a row is its heading. */
export function table(caption: string, columns: readonly Column[], rows: readonly (readonly Content[])[]): Markup {
  const cell = (i: number): Markup | undefined => (columns[i]?.numeric ? html` class="number"` : undefined);
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table>
<caption>${caption}</caption>
<thead><tr>${columns.map(({ title }, i) => html`<th scope="col"${cell(i)}>${title}</th>`)}</tr></thead>
<tbody>${rows.map(
    (row) => html`<tr>${row.map((content, i) =>
      i === 0 ? html`<th scope="row"${cell(i)}>${content}</th>` : html`<td${cell(i)}>${content}</td>`,
    )}</tr>
`,
  )}</tbody></table></div>`;
}

/** A value with smaller lines under it. */
export function stacked(main: Content, ...under: readonly Content[]): Markup {
  return html`${main}${under.map((line) => (line ? html`<small>${line}</small>` : undefined))}`;
}

/** A chart with its caption. */
export function figure(chart: Markup, caption: Content): Markup {
  return html`<figure>${chart}<figcaption>${caption}</figcaption></figure>`;
}

/**
 * What colours stand for which model.
 *
 * @param indices of the models in the report; from 0 if absent
 */
export function modelKey(names: readonly string[], indices: readonly number[] = [...names.keys()]): Markup {
  return html`<p class="key">${names.map(
    (model, i) => html`<span><i class="swatch model-${Math.min(indices[i] ?? i, 4)}"></i>${name(model, 32)}</span> `,
  )}</p>`;
}

/** What the steps showed of one kind, under the steps' names where there are several. */
export function eachStep<E extends Exhibit>(found: readonly Shown<E>[], draw: (exhibit: E) => Markup): Markup {
  return html`${found.map(({ step, exhibit }) => html`${found.length > 1 && html`<h3>${step}</h3>`}${draw(exhibit)}`)}`;
}

/** Something that is folded away until asked for. */
export function folded(summary: Content, body: Content): Markup {
  return html`<details><summary>${summary}</summary>${body}</details>`;
}
