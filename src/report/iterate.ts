import type { IterateOptions, IterateResult, IterateRound } from "../recipe/iterate.ts";
import { leftOf, type ModelSize, type SizeTarget } from "../recipe/iterate-size.ts";
import type { Parts } from "../recipe/split.ts";
import { proofFinding } from "./compress.ts";
import { bytes, compact, metricValue, milliseconds, percent } from "./format.ts";
import type { PlanReport, VerdictReport } from "./report.ts";
import { loss } from "./sections/words.ts";

/** The line before the first round: `original  1.00 M MACs  412 kB  820 µs  top-1 91.20 %`. */
export function originalLine(size: ModelSize, { metric, value, unit }: IterateResult["baseline"]): string {
  return ["original", ...sizeTexts(size), `${metric} ${metricValue(value, unit)}`].join("  ");
}

/**
 * A round in one line: `round 3  channels 20.0 %  512 k MACs  212 kB  410 µs  top-1 90.60 %  lost 0.6 points  kept`. The
 * share is what was cut of what was left.
 */
export function roundLine({ round, cutter, share, size, verdict, outcome, reason }: IterateRound): string {
  const parts = [`round ${round}`, `${cutter} ${percent(share)}`, ...(size ? sizeTexts(size) : [])];
  if (verdict) {
    const { metric, value, unit } = verdict.after;
    parts.push(`${metric} ${metricValue(value, unit)}`, lossText(verdict.drop, unit));
  }
  return [...parts, outcome === "failed" ? `failed: ${reason}` : outcome].join("  ");
}

/** What a drop is called: "lost 0.6 points", "gained 0.1 points", "broken". */
export function lossText(drop: number, unit: string | undefined): string {
  if (!Number.isFinite(drop)) return "broken";
  return drop < 0 ? `gained ${loss(-drop, unit)}` : `lost ${loss(drop, unit)}`;
}

function sizeTexts({ sparsity, macs, bytes: size, ms }: ModelSize): string[] {
  return [
    ...(sparsity > 0 ? [`${percent(sparsity)} zeros`] : []),
    `${compact(macs)} MACs`,
    bytes(size),
    ...(ms === undefined ? [] : [milliseconds(ms)]),
  ];
}

/** The rounds as a report's plans: the one that was handed out first, then in their order. */
export function roundReports({ rounds, chosen, unconfirmed }: IterateResult): PlanReport[] {
  const all = rounds.map(({ round, cutter, share, step, measured, verdict, outcome, reason }): PlanReport => {
    const made = {
      name: `round ${round}: ${cutter} ${percent(share)}`,
      steps: [{ step: step.name, options: step.options }],
      ...(measured && { measured }),
      ...(verdict && Number.isFinite(verdict.drop) && { drop: verdict.drop }),
    };
    if (round === chosen)
      return { ...made, outcome: "chosen", reason: "the smallest within the budget, and confirmed" };
    if (unconfirmed.includes(round)) {
      return { ...made, outcome: "over budget", reason: "over the budget on the confirmation samples" };
    }
    if (outcome === "kept") return { ...made, outcome: "within budget", reason: "later rounds went on from it" };
    return { ...made, outcome: outcome === "no change" ? "no gain" : outcome, reason };
  });
  return [...all.filter(({ outcome }) => outcome === "chosen"), ...all.filter(({ outcome }) => outcome !== "chosen")];
}

/** What was asked of a search in rounds and what came of it, for a report. */
export function iterateVerdict(
  result: IterateResult,
  { targets = [], maxDrop }: Pick<IterateOptions, "targets" | "maxDrop">,
  samples: Parts["samples"],
): VerdictReport {
  const { confirmed, baseline, graph, open } = result;
  return {
    asked: askedFor(targets),
    ...(maxDrop !== undefined && { maxDrop }),
    metric: baseline.metric,
    ...(confirmed && Number.isFinite(confirmed.drop) && { drop: confirmed.drop }),
    ...(confirmed?.interval && { dropInterval: confirmed.interval }),
    samples,
    met: graph !== undefined && (maxDrop !== undefined || open.length === 0),
    findings: findingsOf(result, maxDrop, samples),
  };
}

/** What a search was asked for, in words. */
export function askedFor(targets: readonly SizeTarget[]): string {
  if (targets.length === 0) return "the smallest model";
  return `a model of ${targets.map(targetText).join(" and ")}`;
}

function targetText({ quantity, value, relative }: SizeTarget): string {
  if (quantity === "sparsity") return `${percent(value)} zeros`;
  const name = { macs: "MACs", parameters: "parameters", bytes: "bytes", ms: "time" }[quantity];
  if (relative) return `at most ${percent(value)} of the ${name}`;
  const shown = { macs: compact, parameters: compact, bytes, ms: milliseconds }[quantity](value);
  return `at most ${shown}${quantity === "macs" || quantity === "parameters" ? ` ${name}` : ""}`;
}

function findingsOf(result: IterateResult, maxDrop: number | undefined, samples: Parts["samples"]): string[] {
  const { size, original, chosen, rounds, open, unconfirmed, stopped, confirmed } = result;
  const findings: string[] = [];
  if (size) {
    const share = (quantity: "macs" | "parameters"): string =>
      percent(leftOf(size, quantity) / leftOf(original, quantity));
    const zeros = size.sparsity > 0 ? `, and ${percent(size.sparsity)} of its weights are zero` : "";
    const has = `It has ${share("macs")} of the MACs and ${share("parameters")} of the parameters${zeros}`;
    findings.push(`${has}: round ${chosen} of ${rounds.length}.`);
  }
  if (open.length > 0) findings.push(`Not reached: ${open.map(targetText).join(" and ")}.`);
  if (unconfirmed.length > 0) {
    const which = `${unconfirmed.length > 1 ? "Rounds" : "Round"} ${unconfirmed.toSorted((a, b) => a - b).join(", ")}`;
    findings.push(`${which} kept the budget on the samples that choose, but not on those that confirm.`);
  }
  findings.push(`No more rounds: ${stopped}.`);
  if (size && confirmed && maxDrop !== undefined)
    findings.push(...proofFinding(confirmed, samples.confirmation, maxDrop));
  return findings;
}
