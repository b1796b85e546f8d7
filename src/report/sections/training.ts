import { type Canvas, tickText } from "../charts/canvas.ts";
import { type Curve, curvesChart } from "../charts/curves.ts";
import { linesChart } from "../charts/lines.ts";
import { shown } from "../exhibits.ts";
import { metricValue, percent, significant } from "../format.ts";
import { html, type Markup } from "../markup.ts";
import type { TrainingCourse } from "../report.ts";
import { courseOf, courseText, epochColumns } from "../training.ts";
import { figure, folded, number, type SectionMaker, table } from "./parts.ts";

const learned = "var(--model-1)";
const judged = "var(--model-2)";

/** How loss, scores and learning rate moved while training. */
export const curves: SectionMaker = ({ training }, canvas) => {
  if (!training || training.curve.length < 2) return undefined;
  return { id: "curves", title: "How training went", link: "Curves", body: courseFigures(training, canvas) };
};

/** The same of trainings inside steps. */
export const retraining: SectionMaker = ({ ledger }, canvas) => {
  const found = shown(ledger, "training").filter(({ exhibit }) => exhibit.curve.length > 1);
  if (found.length === 0) return undefined;
  const body = found.map(({ step, exhibit }) => {
    const course = courseOf(exhibit);
    const title = exhibit.name === undefined ? step : `${step}, ${exhibit.name}`;
    return html`<h3>${title}</h3><p>${number(courseText(course))}.</p>${courseFigures(course, canvas)}`;
  });
  return { id: "retraining", title: "How retraining went", link: "Retraining", body: html`${body}` };
};

function courseFigures(course: TrainingCourse, canvas: Canvas): Markup {
  return html`${lossFigure(course, canvas)}${scoreFigures(course, canvas)}${summaryFigures(course, canvas)}${rateFigure(course, canvas)}`;
}

/** The epochs one by one. */
export const epochs: SectionMaker = ({ training }) => {
  if (!training || training.epochs.length === 0) return undefined;
  const columns = epochColumns(training);
  const rows = training.epochs.map((epoch) => columns.map(([, cell]) => number(cell(epoch))));
  const list = table(
    "Epochs",
    columns.map(([title]) => ({ title, numeric: true })),
    rows,
  );
  return {
    id: "epochs",
    title: "Epochs",
    link: "Epochs",
    body: rows.length > 12 ? folded(`all ${rows.length} epochs`, list) : list,
  };
};

/** Every option of the run. */
export const settings: SectionMaker = ({ training }) => {
  if (!training) return undefined;
  const text = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
  const facts = Object.entries({ loss: training.loss, ...training.settings })
    .map(([key, value]) => [key, text(value)] as const)
    .filter(([, value]) => !["", "[]", "{}"].includes(value));
  return {
    id: "settings",
    title: "Settings",
    link: "Settings",
    body: html`<dl class="settings">${facts.map(([key, value]) => html`<div><dt>${key}</dt><dd>${value}</dd></div>`)}</dl>`,
  };
};

type Points = Curve["points"];

function along(training: TrainingCourse, of: (point: TrainingCourse["curve"][number]) => number | undefined): Points {
  const perEpoch = stepsAnEpoch(training);
  return training.curve.flatMap((point) => {
    const y = of(point);
    return y === undefined ? [] : [{ epoch: point.step / perEpoch, y, title: "" }];
  });
}

function stepsAnEpoch({ epochs: [first] }: TrainingCourse): number {
  return (first?.step ?? 1) / (first?.epoch ?? 1);
}

function scores({ epochs: all, metric }: TrainingCourse): Points {
  return all.flatMap(({ epoch, score }) =>
    score === undefined ? [] : [{ epoch, y: score, title: `epoch ${epoch}: ${metricValue(score, metric?.unit)}` }],
  );
}

function bestOf({ best, metric }: TrainingCourse): { best?: number } {
  return metric && best.epoch > 0 ? { best: best.epoch } : {};
}

function lossFigure(training: TrainingCourse, canvas: Canvas): Markup {
  const loss: Curve = { name: "loss", colour: learned, points: along(training, (point) => point.loss) };
  const chart = curvesChart(canvas, [loss], {
    label: "loss",
    height: 260,
    zero: loss.points.every(({ y }) => y >= 0),
    tickFormat: (y) => tickText(significant(y)),
    ...bestOf(training),
  });
  return figure(chart, "The loss on the training data, a mean over some steps at each point.");
}

/** Accuracy and score in one picture where both are shares, in two otherwise. */
function scoreFigures(training: TrainingCourse, canvas: Canvas): Markup[] {
  const { metric } = training;
  const right: Curve = { name: "training", colour: learned, points: along(training, ({ accuracy }) => accuracy) };
  const score: Curve = { name: metric?.name ?? "", colour: judged, points: scores(training), dots: true };
  const share = metric?.unit === "%";
  const together = [right, ...(share ? [score] : [])].filter(({ points }) => points.length > 0);
  const figures: Markup[] = [];
  if (together.length > 0) {
    const chart = curvesChart(canvas, together, {
      label: right.points.length > 0 ? "accuracy" : score.name,
      height: 260,
      tickFormat: (y) => percent(y),
      ...bestOf(training),
      bestAt: "bottom",
    });
    const key = html`<p class="key"><span><i class="swatch model-1"></i>while training</span><span><i class="swatch model-2"></i>${score.name} on the validation split</span></p>`;
    const caption =
      "While training, samples are augmented and weights still move, so its accuracy can lie below the validation's.";
    figures.push(html`${together.length > 1 && key}${figure(chart, together.includes(right) ? caption : "")}`);
  }
  if (metric && !share && score.points.length > 0) {
    const chart = curvesChart(canvas, [score], {
      label: metric.name,
      height: 220,
      tickFormat: (y) => tickText(significant(y)),
      ...bestOf(training),
    });
    const direction = metric.better === "lower" ? "Lower is better." : "Higher is better.";
    figures.push(figure(chart, `${metric.name} on the validation split after each epoch. ${direction}`));
  }
  return figures;
}

/** The part that a number without one is about. */
const whole = "all together";
/** Quantities that are shares. */
const shares = new Set(["sparsity"]);

/** What constraints told over the steps, as "quantity" or "quantity/part": a picture a quantity, a line a part. */
function summaryFigures(course: TrainingCourse, canvas: Canvas): Markup[] {
  const quantities = new Map<string, Map<string, { x: number; y: number; title: string }[]>>();
  const perEpoch = stepsAnEpoch(course);
  for (const { step, summaries = {} } of course.curve) {
    for (const [key, y] of Object.entries(summaries)) {
      const [, quantity = key, part = whole] = /^([^/]*)\/(.*)$/.exec(key) ?? [];
      const parts = quantities.get(quantity) ?? new Map<string, { x: number; y: number; title: string }[]>();
      const points = parts.get(part) ?? [];
      points.push({ x: step / perEpoch, y, title: "" });
      quantities.set(quantity, parts.set(part, points));
    }
  }
  return [...quantities].map(([quantity, parts]) => {
    const format = (y: number): string => number(shares.has(quantity) ? metricValue(y, "%") : significant(y));
    const last = (points: readonly { y: number }[]): number => points.at(-1)?.y ?? 0;
    const lines = [...parts].map(([name, points]) => ({ name, points: corners(points) }));
    // the whole first, then those that differ most from it
    const middle = last(parts.get(whole) ?? []);
    const rank = ({ name, points }: (typeof lines)[number]): number =>
      name === whole ? Number.POSITIVE_INFINITY : Math.abs(last(points) - middle);
    const chart = linesChart(
      canvas,
      lines.toSorted((a, b) => rank(b) - rank(a)),
      {
        label: `${quantity} over the epochs`,
        x: { label: "epoch", format: (x) => significant(x) },
        y: { label: quantity, format },
      },
    );
    return figure(chart, `The ${quantity} as the schedule moved it, a point for some steps at a time.`);
  });
}

/** A line without the points that lie level between their neighbours. */
function corners<T extends { readonly y: number }>(points: readonly T[]): T[] {
  return points.filter(({ y }, i) => !(points[i - 1]?.y === y && points[i + 1]?.y === y));
}

function rateFigure(training: TrainingCourse, canvas: Canvas): Markup {
  const rate: Curve = {
    name: "learning rate",
    colour: "var(--model-3)",
    points: along(training, (point) => point.rate),
  };
  const chart = curvesChart(canvas, [rate], {
    label: "learning rate",
    height: 160,
    zero: true,
    tickFormat: (y) => tickText(significant(y, 2)),
  });
  return figure(chart, "The learning rate of the schedule.");
}
