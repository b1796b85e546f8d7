import { expect, test } from "vitest";
import { escapeHtml, html } from "./markup.ts";

test("insertions are escaped, markup is not, nothing is left for what is absent", () => {
  const inner = html`<b>${"<i>&\"'"}</b>`;
  expect(html`<p title="${'a"b'}">${inner}${[1, "<", undefined]}${false}${null}</p>`.text).toBe(
    '<p title="a&quot;b"><b>&lt;i&gt;&amp;&quot;&#39;</b>1&lt;</p>',
  );
});

test("what a page must not hold becomes spaces", () => {
  expect(escapeHtml("a\u0000b\u001bc\u0085d\te\n\u202ef\ud800")).toBe("a b c d\te\n f ");
  expect(escapeHtml("\u{1f600}")).toBe("\u{1f600}");
});
