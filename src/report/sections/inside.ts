import { divergenceChart } from "../charts/divergence.ts";
import { channelRanges, histogram } from "../charts/histogram.ts";
import { axisEnd, type LatencyRow, latencyChart } from "../charts/latency.ts";
import { count, milliseconds, shorten, significant } from "../format.ts";
import { html } from "../markup.ts";
import { figure, modelKey, name, number, type SectionMaker, table } from "./parts.ts";

/** Distribution of the latency of every model that was timed. */
export const latency: SectionMaker = ({ models, comparisons }, canvas) => {
  const timed = models.flatMap(({ name: model, latency, times = [] }) =>
    latency ? [{ model: shorten(model, 44), median: latency.median, quartiles: latency.quartiles, times }] : [],
  );
  if (timed.length === 0) return undefined;
  const caption = `Time of one inference: the line is the median, the band the middle half of the runs.${runsText(timed)}`;
  const slower = comparisons.flatMap(({ model, slower }) =>
    slower.map(({ node, op, before, after }) => [
      name(node, 36),
      op,
      name(models[model]?.name ?? "", 24),
      number(milliseconds(before)),
      number(milliseconds(after)),
    ]),
  );
  const columns = [
    { title: "Layer" },
    { title: "Operator" },
    { title: "Model" },
    { title: "Before", numeric: true },
    { title: "After", numeric: true },
  ];
  return {
    id: "latency",
    title: "Latency",
    link: "Latency",
    body: html`${figure(latencyChart(canvas, timed), caption)}${timed.some(isBusy) && html`<p>${busyNote}</p>`}${slower.length > 0 && html`<h3>Kernels that became slower</h3>${table("Kernels that became slower", columns, slower)}`}`,
  };
};

const busyNote =
  "The runs differ a lot: the machine was busy with something else. The ratio of the models holds, since they took turns; the times themselves do not.";

/** Whether the times scatter more than a quiet machine lets them. */
function isBusy({ median, quartiles }: LatencyRow): boolean {
  return quartiles[1] > 1.5 * median;
}

/** What the dots are, and how many of them lie beyond the picture. */
function runsText(rows: readonly LatencyRow[]): string {
  const times = rows.flatMap((row) => row.times);
  if (times.length === 0) return "";
  const end = axisEnd(rows);
  const beyond = times.filter((time) => time > end).length;
  const left = `; ${count(beyond)} of ${count(times.length)}, slower than ${milliseconds(end)}, are not shown`;
  return number(` A dot is a run${beyond > 0 ? left : ""}.`);
}

/** How far the values inside the network moved. */
export const divergence: SectionMaker = ({ models, comparisons }, canvas) => {
  const lines = comparisons
    .filter((comparison) => comparison.divergence.length > 1)
    .map(({ model, divergence, firstBad }) => ({
      model: models[model]?.name ?? "",
      index: model,
      values: divergence,
      ...(firstBad === undefined ? {} : { firstBad }),
    }));
  if (lines.length === 0) return undefined;
  const chart = divergenceChart(canvas, lines.slice(0, 4), (text) => shorten(text, 30));
  const bad = lines.filter((line) => line.firstBad !== undefined);
  const caption = html`Signal to noise of what each layer hands on, against the original's on the same samples.${bad.map(
    ({ model, firstBad }) => html` The first bad layer of ${name(model, 28)} is ${name(firstBad ?? "")}.`,
  )}`;
  return { id: "divergence", title: "Where the error comes from", link: "Error", body: figure(chart, caption) };
};

/** Histograms and channel ranges of the weights that moved most. */
export const weights: SectionMaker = ({ weights: moved, models }, canvas) => {
  if (moved.length === 0) return undefined;
  const last = Math.max(1, models.length - 1);
  const items = moved.map(({ layer, weight, before, after, channels, sqnr }) => {
    const what = `Weights of ${shorten(layer, 60)}`;
    return html`<figure class="small">
<figcaption>${name(layer, 34)}<small>${name(weight, 34)}${sqnr !== undefined && html` · ${Number.isFinite(sqnr) ? number(`${significant(sqnr)} dB`) : "unchanged"}`}</small></figcaption>
${histogram(canvas, `${what}: histogram`, before, after, last)}
${channels && channels.length > 1 && channelRanges(canvas, `${what}: range of every output channel`, channels)}
</figure>`;
  });
  const key = modelKey([models[0]?.name ?? "before", models[last]?.name ?? "after"], [0, last]);
  return {
    id: "weights",
    title: "Weights that moved most",
    link: "Weights",
    body: html`<p>Lowest signal to noise first; factors that only scale whole channels are not counted. Channels whose ranges lie far apart are what a single scale serves badly.</p>
${moved.some(({ after }) => after) && key}<div class="grid">${items}</div>`,
  };
};
