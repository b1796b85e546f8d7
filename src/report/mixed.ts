import type { MixedOptions, MixedResult, MixedTrial } from "../recipe/mixed.ts";
import type { Parts } from "../recipe/split.ts";
import { proofFinding } from "./compress.ts";
import { bytes, metricValue, milliseconds } from "./format.ts";
import { askedFor, lossText } from "./iterate.ts";
import type { PlanReport, VerdictReport } from "./report.ts";

/** A trial in one line: `5.20 bits a weight  212 kB  410 µs  top-1 90.60 %  lost 0.6 points  within budget`. */
export function trialLine({ meanBits, measured, verdict, outcome, reason }: MixedTrial): string {
  const parts = [bitsText(meanBits)];
  if (measured) parts.push(bytes(measured.bytes));
  if (measured?.latency) parts.push(milliseconds(measured.latency.median));
  if (verdict) {
    const { metric, value, unit } = verdict.after;
    parts.push(`${metric} ${metricValue(value, unit)}`, lossText(verdict.drop, unit));
  }
  return [...parts, outcome === "failed" ? `failed: ${reason}` : outcome].join("  ");
}

const bitsText = (bits: number): string => `${bits.toFixed(2)} bits a weight`;

/** How many layers are in which format: "12 int8, 5 weights4, 2 float". */
function formatCounts(formats: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const format of formats) counts.set(format, (counts.get(format) ?? 0) + 1);
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([format, layers]) => `${layers} ${format}`)
    .join(", ");
}

/** The trials as a report's plans: the one that was handed out first. */
export function mixedPlans({ trials, chosen, unconfirmed }: MixedResult): PlanReport[] {
  const all = trials.map((trial): PlanReport => {
    const { formats, meanBits, steps, measured, verdict, outcome, reason } = trial;
    const made = {
      name: `${bitsText(meanBits)}: ${formatCounts(formats)}`,
      steps: steps.map(([step, options]) => ({ step, options })),
      ...(measured && { measured }),
      ...(verdict && Number.isFinite(verdict.drop) && { drop: verdict.drop }),
    };
    if (trial === chosen) return { ...made, outcome: "chosen", reason: "the best within the budget, and confirmed" };
    if (unconfirmed.includes(trial)) {
      return { ...made, outcome: "over budget", reason: "over the budget on the confirmation samples" };
    }
    return { ...made, outcome, reason };
  });
  return [...all.filter(({ outcome }) => outcome === "chosen"), ...all.filter(({ outcome }) => outcome !== "chosen")];
}

/** What was asked of a search for formats and what came of it, for a report. */
export function mixedVerdict(
  result: MixedResult,
  { target, maxDrop }: Pick<MixedOptions, "target" | "maxDrop">,
  metric: string,
  samples: Parts["samples"],
): VerdictReport {
  const { chosen, confirmed, trials, unconfirmed, reached } = result;
  const findings: string[] = [];
  if (chosen) findings.push(`Layers: ${formatCounts(chosen.formats)}; ${bitsText(chosen.meanBits)}.`);
  if (chosen?.gain && chosen.gain.latencyInterval[0] > 1) {
    const [low, high] = chosen.gain.latencyInterval.map((bound) => bound.toFixed(2));
    findings.push(`Slower: ${low} to ${high} times the original's time. A target of ms=... chooses by time.`);
  }
  if (target && !reached) findings.push("The target was not reached.");
  if (unconfirmed.length > 0) {
    findings.push(
      `${unconfirmed.length} smaller choices kept the budget on the samples that choose, but not on those that confirm.`,
    );
  }
  if (!chosen) for (const trial of trials.slice(0, 8)) findings.push(`${trialLine(trial)}: ${trial.reason}.`);
  if (chosen && confirmed && maxDrop !== undefined)
    findings.push(...proofFinding(confirmed, samples.confirmation, maxDrop));
  return {
    asked: askedFor(target ? [target] : []),
    ...(maxDrop !== undefined && { maxDrop }),
    metric,
    ...(confirmed && Number.isFinite(confirmed.drop) && { drop: confirmed.drop }),
    ...(confirmed?.interval && { dropInterval: confirmed.interval }),
    samples,
    met: chosen !== undefined && (maxDrop !== undefined || reached),
    findings,
  };
}
