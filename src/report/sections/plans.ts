import { type Point, scatter } from "../charts/scatter.ts";
import { bytes, metricValue, milliseconds } from "../format.ts";
import { html } from "../markup.ts";
import type { ComparisonReport, PlanReport, Report } from "../report.ts";
import { optionList } from "./ledger.ts";
import { figure, folded, number, type SectionMaker, stacked, table } from "./parts.ts";
import { loss } from "./words.ts";

/** Everything that was tried: loss against size, and the list. Without a search: the models compared. */
export const plans: SectionMaker = (report, canvas) => {
  const searched = report.plans.length > 0;
  const metric = report.verdict?.metric ?? report.models[0]?.scores[0]?.metric;
  const points = searched ? planPoints(report) : modelPoints(report, metric);
  if (!metric || (points.length < (searched ? 2 : 3) && !searched)) return undefined;
  const share = unitOf(report, metric) === "%";
  const { maxDrop } = report.verdict ?? {};
  const budget =
    maxDrop === undefined ? undefined : { loss: maxDrop * 100, text: loss(maxDrop, unitOf(report, metric)) };
  const options = {
    axis: `loss of ${metric}`,
    unit: share ? "points" : "%",
    ...(budget === undefined ? {} : { budget }),
  };
  const chart = points.length > 1 && figure(scatter(canvas, points, options), captionOf(searched, points));
  return {
    id: "plans",
    title: searched ? "Plans tried" : "Accuracy against size",
    link: searched ? "Plans" : "Accuracy against size",
    body: html`${chart}${searched && planTable(report.plans, unitOf(report, metric))}`,
  };
};

function captionOf(searched: boolean, points: readonly Point[]): string {
  const subject = searched ? "Every plan that could be measured, on the samples used to choose" : "Every model";
  const chosen = points.some(({ kind }) => kind === "chosen") ? " The star is the plan that was chosen." : "";
  return `${subject}. The line joins those that no other beats in both size and loss.${chosen}`;
}

function unitOf(report: Report, metric: string): string | undefined {
  return report.models[0]?.scores.find((score) => score.metric === metric)?.unit;
}

function planPoints(report: Report): Point[] {
  const original = report.models[0];
  const tried = report.plans.flatMap((plan): Point[] => {
    if (!plan.measured || plan.drop === undefined || !Number.isFinite(plan.drop)) return [];
    const kind = plan.outcome === "chosen" ? "chosen" : plan.outcome === "over budget" ? "over" : "other";
    const title = `${plan.name}: ${bytes(plan.measured.bytes)}, ${plan.outcome}\n${plan.reason}`;
    return [{ name: plan.name, bytes: plan.measured.bytes, loss: plan.drop * 100, kind, title }];
  });
  if (!original || tried.length === 0) return tried;
  const title = `${original.name}: ${bytes(original.bytes)}`;
  return [{ name: original.name, bytes: original.bytes, loss: 0, kind: "original", title }, ...tried];
}

function modelPoints(report: Report, metric: string | undefined): Point[] {
  return report.models.flatMap((model, index): Point[] => {
    const title = `${model.name}: ${bytes(model.bytes)}`;
    if (index === 0) return [{ name: model.name, bytes: model.bytes, loss: 0, kind: "original", title }];
    const against = report.comparisons.find((candidate) => candidate.model === index);
    const lost = against && lossOf(against, metric);
    return lost === undefined ? [] : [{ name: model.name, bytes: model.bytes, loss: lost, kind: "other", title }];
  });
}

/** Loss in points for shares, otherwise in per cent of the original's value. */
function lossOf({ scores }: ComparisonReport, metric: string | undefined): number | undefined {
  const score = scores.find((candidate) => candidate.metric === metric);
  if (!score) return undefined;
  const lost = score.better === "higher" ? -score.difference : score.difference;
  const relative = score.unit === "%" ? lost : lost / Math.abs(score.before);
  return Number.isFinite(relative) ? relative * 100 : undefined;
}

function planTable(list: readonly PlanReport[], unit: string | undefined) {
  const columns = [
    { title: "Plan" },
    { title: "Outcome" },
    { title: "File", numeric: true },
    { title: "Score", numeric: true },
    { title: "Loss", numeric: true },
    { title: "Latency", numeric: true },
    { title: "Why" },
  ];
  const rows = list.map(({ name, steps, outcome, measured, drop, reason }) => {
    const score = measured?.scores[0];
    return [
      html`${name}${
        steps.length > 0 &&
        folded(
          steps.length === 1 ? "1 step" : `${steps.length} steps`,
          html`<ol>${steps.map(({ step, options }) => html`<li>${step}${optionList(Object.entries(options))}</li>`)}</ol>`,
        )
      }`,
      html`<span class="outcome ${outcome.replaceAll(" ", "-")}">${outcome}</span>`,
      measured ? number(bytes(measured.bytes)) : "–",
      score ? number(metricValue(score.value, score.unit)) : "–",
      drop !== undefined && Number.isFinite(drop) ? loss(drop, unit) : "–",
      measured?.latency ? stacked(number(milliseconds(measured.latency.median))) : "–",
      html`<span class="why">${reason}</span>`,
    ];
  });
  return table("Plans tried", columns, rows);
}
