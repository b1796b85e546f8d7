import type { RangesExhibit } from "../../techniques/exhibit.ts";
import type { Canvas } from "../charts/canvas.ts";
import { rangeChart } from "../charts/ranges.ts";
import { rangesSentence, rangeText, shown } from "../exhibits.ts";
import { percent, shorten, significant } from "../format.ts";
import { html, type Markup } from "../markup.ts";
import { eachStep, name, number, type SectionMaker } from "./parts.ts";

/** Ranges of activations against what they span, those that lose most. */
export const ranges: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "ranges").filter(({ exhibit }) => exhibit.values.length > 0);
  if (found.length === 0) return undefined;
  const body = eachStep(found, (exhibit) => rangesOf(exhibit, canvas));
  return { id: "ranges", title: "Activations that integers fit worst", link: "Ranges", body };
};

function rangesOf(exhibit: RangesExhibit, canvas: Canvas): Markup {
  const items = exhibit.values.map(({ name: layer, bits, range, histogram, clipped, signalToNoise }) => {
    const facts = [`${significant(signalToNoise)} dB`, `${bits} bits`, `${percent(clipped)} beyond the range`];
    return html`<figure class="small">
<figcaption>${name(layer, 34)}<small>${number(facts.join(" · "))}</small></figcaption>
${rangeChart(canvas, `Values of ${shorten(layer, 60)} and their range, ${rangeText(range)}`, histogram, range)}
</figure>`;
  });
  return html`<p>${number(rangesSentence(exhibit))} The lines are the ends of the range that integers span: a wide one makes coarse steps, a narrow one clips what lies beyond. Exact zeros are left out.</p>
<div class="grid">${items}</div>`;
}
