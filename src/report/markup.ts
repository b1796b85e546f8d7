/** Text that is HTML already. Made only by {@link html} and {@link raw}, so nothing else reaches a page unescaped. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** What may stand in a template: markup as it is, everything else escaped; undefined, null and false leave nothing. */
export type Content = Markup | string | number | undefined | null | false | readonly Content[];

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * Text without what a page must not hold: control characters, halves of surrogate pairs, and the marks that turn the
 * direction of writing, with which a name could show as another one.
 */
export function cleanText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}\p{Bidi_C}]/gu, (c) => (c === "\t" || c === "\n" ? c : " "));
}

/** Text made safe for HTML, inside elements and inside quoted attributes. */
export function escapeHtml(text: string): string {
  return cleanText(text).replace(/[&<>"']/g, (c) => entities[c]!);
}

/** Markup from a template whose insertions are escaped unless they are {@link Markup} themselves. */
export function html(parts: TemplateStringsArray, ...contents: readonly Content[]): Markup {
  return new Markup(parts.map((part, i) => (i === 0 ? part : textOf(contents[i - 1]) + part)).join(""));
}

/** Markup from text that is known to be safe HTML. */
export function raw(text: string): Markup {
  return new Markup(text);
}

function textOf(content: Content): string {
  if (content === undefined || content === null || content === false) return "";
  if (content instanceof Markup) return content.text;
  if (typeof content === "object") return content.map(textOf).join("");
  return escapeHtml(String(content));
}
