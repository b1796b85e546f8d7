import {
  bytes,
  count,
  joules,
  metricDifference,
  metricValue,
  milliseconds,
  ratioInWords,
  significant,
} from "../format.ts";
import type { ComparisonReport, ModelReport, Report, ScoreDifference, VerdictReport } from "../report.ts";
import { number } from "./parts.ts";

/** Interval of a metric: "91.2 to 92.3 %". */
export function intervalText(interval: readonly [low: number, high: number], unit?: string): string {
  const [low, high] = interval;
  return unit === "%"
    ? number(`${(low * 100).toFixed(2)} to ${(high * 100).toFixed(2)} %`)
    : number(`${significant(low, 4)} to ${metricValue(high, unit)}`);
}

/** Interval of a difference: "-0.51 to +0.09". */
export function differenceInterval(interval: readonly [low: number, high: number], unit?: string): string {
  const plain = unit === "%" ? "%" : undefined;
  return number(interval.map((x) => metricDifference(x, plain).replace(" points", "")).join(" to "));
}

type Timing = Pick<ComparisonReport, "latencyRatio" | "latencyInterval">;

/** How the speed changed, as far as the interval tells: "1.82× faster". */
export function speedChange({ latencyRatio: ratio, latencyInterval: interval }: Timing): string | undefined {
  if (ratio === undefined) return undefined;
  if (interval && interval[0] <= 1 && interval[1] >= 1) return "not measurably faster or slower";
  return ratioInWords(ratio, 1, ["faster", "slower"]);
}

/** The interval of {@link speedChange}, a factor of the same direction: "1.75 to 1.90" times slower if it says slower. */
export function speedInterval({ latencyRatio: ratio, latencyInterval: interval }: Timing): string | undefined {
  if (ratio === undefined || !interval) return undefined;
  const [low, high] = interval;
  const slower = low > 1;
  const factors = slower ? [low, high] : [1 / high, 1 / low];
  const text = factors.map((factor) => significant(factor)).join(" to ");
  return slower || high < 1 ? text : `${text} times the speed`;
}

/** What a difference of a metric means: loss, gain, or nothing that these samples can show. */
export function differenceWords({ metric, difference, interval, better, unit }: ScoreDifference): string {
  const amount = number(metricDifference(Math.abs(difference), unit).replace("+", ""));
  if (difference === 0) return `${metric} is unchanged`;
  const verb = difference > 0 ? "rose" : "fell";
  const sure = interval ? interval[0] > 0 || interval[1] < 0 : undefined;
  if (sure === false) return `${metric} ${verb} by ${amount}, no more than chance explains`;
  const gain = difference > 0 === (better === "higher");
  return `${metric} ${verb} by ${amount}${gain ? ", a gain" : ""}`;
}

/** One model against the first, in a sentence. */
export function comparisonSentence({ models }: Pick<Report, "models">, comparison: ComparisonReport): string {
  const score = comparison.scores[0];
  const found = [
    sizeWords(comparison.bytesRatio, models[0], models[comparison.model]),
    speedChange(comparison),
    score && differenceWords(score),
  ];
  const before = models[0]?.name ?? "the original";
  const subject = models[comparison.model]?.name ?? "the result";
  return `${subject} against ${before}: ${found.filter(Boolean).join(", ")}.`;
}

/** How the file's size changed; zeros and repetitions show only once it is compressed. */
function sizeWords(ratio: number, before: ModelReport | undefined, after: ModelReport | undefined): string {
  const words = ratioInWords(ratio, 1, ["smaller", "larger"]);
  if (words !== "the same" || !before?.gzip || !after?.gzip) return words;
  const packed = ratioInWords(after.gzip, before.gzip, ["smaller", "larger"]);
  return packed === words ? "the same size" : `the same size, but ${packed} with gzip`;
}

/** A model alone, in a sentence. */
export function modelSentence(model: ModelReport): string {
  const score = model.scores[0];
  const parts = [
    number(bytes(model.bytes)),
    score && `${score.metric} ${number(metricValue(score.value, score.unit))}`,
    model.latency && `${number(milliseconds(model.latency.median))} an inference`,
    model.energy !== undefined && `about ${number(joules(model.energy))} of energy`,
  ];
  return `${model.name}: ${parts.filter(Boolean).join(", ")}.`;
}

/** A loss in the budget's unit: points for shares, otherwise per cent of the original's value. */
export function loss(amount: number, unit: string | undefined): string {
  const shown = Number((amount * 100).toFixed(2));
  return number(`${shown} ${unit === "%" ? (Math.abs(shown) === 1 ? "point" : "points") : "%"}`);
}

const wanted: Readonly<Record<NonNullable<VerdictReport["target"]>, string>> = {
  balanced: "a smaller and faster model",
  size: "the smallest file",
  latency: "the fastest model",
  memory: "the least memory",
};

/** What was asked. */
export function askedSentence(
  { asked, target = "balanced", maxDrop, metric }: VerdictReport,
  unit: string | undefined,
): string {
  const budget = maxDrop === undefined ? "" : ` that loses at most ${loss(maxDrop, unit)} of ${metric}`;
  return `Asked: ${asked ?? wanted[target]}${budget}.`;
}

/** Whether the budget was kept, and how sure that is. */
export function budgetSentence(verdict: VerdictReport, unit: string | undefined): string | undefined {
  const { drop, dropInterval: interval, maxDrop, metric, samples } = verdict;
  if (drop === undefined) return undefined;
  const measured = `${drop < 0 ? `Gained ${loss(-drop, unit)}` : `Lost ${loss(drop, unit)}`} of ${metric} on ${number(count(samples.confirmation))} samples that were not used to choose`;
  if (!interval) return `${measured}.`;
  const range = `95\u202f% interval of the loss: ${loss(interval[0], unit).replace(/\u202f\D+$/, "")} to ${loss(interval[1], unit)}`;
  if (maxDrop === undefined) return `${measured} (${range}).`;
  const inside = drop <= maxDrop;
  const sure = inside ? interval[1] <= maxDrop : interval[0] > maxDrop;
  if (sure) return `${measured} (${range}, all of it ${inside ? "inside" : "beyond"} the budget).`;
  return `${measured} (${range}, which reaches ${inside ? "beyond" : "into"} the budget).`;
}
