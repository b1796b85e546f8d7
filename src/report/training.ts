import type { Dataset } from "../data/dataset.ts";
import { metrics } from "../metrics/index.ts";
import type { TrainingExhibit } from "../techniques/exhibit.ts";
import type { EpochRecord, TrainResult } from "../training/train.ts";
import { version } from "../version.ts";
import type { Section } from "./document.ts";
import { count, metricValue, milliseconds, significant } from "./format.ts";
import { type Report, reportVersion, type TrainingCourse, type TrainingReport } from "./report.ts";

/** What a report tells of a training run besides its result. */
export interface TrainingFacts extends Pick<TrainingReport, "model" | "output" | "bytes" | "batch" | "settings"> {
  /** What it learned from, in its default split. */
  readonly data: Pick<Dataset, "name" | "size">;
  readonly machine: Report["machine"];
  readonly seed: number;
  readonly command: string;
}

/** The report of a training run. */
export function trainingReport(result: TrainResult & { readonly summary: string }, facts: TrainingFacts): Report {
  const { records, summary } = result;
  const { data, machine, seed, command, ...rest } = facts;
  const training = { ...rest, loss: summary, ...courseOf({ ...result, epochs: records }) };
  const samples = data.size();
  return {
    version: reportVersion,
    tool: { name: "pare", version },
    created: new Date().toISOString(),
    title: `${facts.model}: training`,
    command,
    seed,
    machine,
    data: { name: data.name, ...(samples !== undefined && { samples }) },
    models: [],
    comparisons: [],
    ledger: [],
    plans: [],
    weights: [],
    training,
  };
}

/** How a training went, with what is known of the metric that judged it. */
export function courseOf({ curve, epochs, best }: Pick<TrainingExhibit, "curve" | "epochs" | "best">): TrainingCourse {
  const metric = metrics[epochs.at(-1)?.metric ?? ""];
  if (!metric) return { curve, epochs, best };
  const { name, better, unit } = metric;
  return { curve, epochs, best, metric: { name, better, ...(unit !== undefined && { unit }) } };
}

/** Seconds that the epochs took together, and the samples of training a second over all of them. */
export function trainingSpeed({ epochs, batch }: TrainingReport): { readonly seconds: number; readonly rate: number } {
  let [seconds, training, before] = [0, 0, 0];
  for (const epoch of epochs) {
    const samples = (epoch.step - before) * batch;
    before = epoch.step;
    seconds += epoch.seconds;
    training += samples / epoch.samplesPerSecond;
  }
  return { seconds, rate: (before * batch) / Math.max(training, 1e-9) };
}

/** What came of a training run, in one sentence. */
export function trainingSentence(training: TrainingReport): string {
  return `${training.model} was trained for ${courseText(training)}.`;
}

/** How long a training took and what came of it. */
export function courseText({ epochs, best, metric }: TrainingCourse): string {
  const seconds = epochs.reduce((sum, epoch) => sum + epoch.seconds, 0);
  const length = `${epochs.length} ${epochs.length === 1 ? "epoch" : "epochs"} in ${milliseconds(seconds * 1000)}`;
  if (best.score === undefined || !metric) {
    return `${length}, to a loss of ${significant(epochs.at(-1)?.loss ?? Number.NaN, 4)}`;
  }
  const score = `${metric.name} ${metricValue(best.score, metric.unit)} on the validation split`;
  return best.epoch === 0
    ? `${length}. No epoch was better than the start: ${score}`
    : `${length}. The best was epoch ${best.epoch}: ${score}`;
}

/** The columns of the list of epochs: heading and what stands under it. */
export function epochColumns({
  epochs,
  metric,
  best,
}: TrainingCourse): readonly (readonly [title: string, cell: (epoch: EpochRecord) => string])[] {
  return [
    ["epoch", ({ epoch }) => (metric && epoch === best.epoch ? `best: ${epoch}` : String(epoch))],
    ["steps", ({ step }) => count(step)],
    ["loss", ({ loss }) => significant(loss, 4)],
    ...(epochs.some(({ accuracy }) => accuracy !== undefined)
      ? [["accuracy", ({ accuracy }: EpochRecord) => metricValue(accuracy ?? Number.NaN, "%")] as const]
      : []),
    ...(metric
      ? [[metric.name, ({ score }: EpochRecord) => metricValue(score ?? Number.NaN, metric.unit)] as const]
      : []),
    ["rate", ({ rate }) => significant(rate, 3)],
    ["samples/s", ({ samplesPerSecond }) => significant(samplesPerSecond, 4)],
    ["time", ({ seconds }) => milliseconds(seconds * 1000)],
  ];
}

/** A training run for a terminal or markdown. */
export function trainingSections(training: TrainingReport): Section[] {
  const columns = epochColumns(training);
  return [
    { title: "Training", lines: [trainingSentence(training), `loss: ${training.loss}`] },
    {
      title: "Epochs",
      table: {
        columns: columns.map(([title]) => ({ title, right: true })),
        rows: training.epochs.map((epoch) => columns.map(([, cell]) => cell(epoch))),
      },
    },
  ];
}
