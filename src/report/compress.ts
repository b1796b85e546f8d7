import { type Drop, samplesToProve } from "../recipe/budget.ts";
import type { CompressOptions, CompressResult, PlanOutcome } from "../recipe/compress.ts";
import type { Parts } from "../recipe/split.ts";
import { count } from "./format.ts";
import type { PlanReport, VerdictReport } from "./report.ts";

const order: readonly PlanOutcome["outcome"][] = [
  "chosen",
  "within budget",
  "over budget",
  "no gain",
  "failed",
  "not tried",
];

/** The plans that a search tried, for a report: the chosen one first. */
export function planReports(plans: readonly PlanOutcome[]): PlanReport[] {
  const sorted = plans.toSorted((a, b) => order.indexOf(a.outcome) - order.indexOf(b.outcome));
  return sorted.map(({ plan, excluded, measured, verdict, outcome, reason }) => ({
    name: excluded.length > 0 ? `${plan.name}, ${excluded.length} in float` : plan.name,
    steps: plan.steps.map(([step, options]) => ({
      step,
      options: excluded.length > 0 ? { ...options, exclude: excluded } : options,
    })),
    ...(measured && { measured }),
    ...(verdict && Number.isFinite(verdict.drop) && { drop: verdict.drop }),
    outcome,
    reason,
  }));
}

/** What a search was asked for and what came of it, for a report. */
export function verdictReport(
  result: CompressResult,
  options: Pick<CompressOptions, "target" | "maxDrop">,
  metric: string,
  samples: Parts["samples"],
): VerdictReport {
  const { confirmed } = result;
  return {
    target: options.target,
    maxDrop: options.maxDrop,
    metric,
    ...(confirmed && { drop: confirmed.drop }),
    ...(confirmed?.interval && { dropInterval: confirmed.interval }),
    samples,
    met: result.graph !== undefined,
    findings: result.graph ? successFindings(result, options, samples) : failureFindings(result.plans),
  };
}

const namedLayers = 5;

function successFindings(
  { plans, confirmed, gain }: CompressResult,
  { target, maxDrop: budget }: Pick<CompressOptions, "target" | "maxDrop">,
  samples: Parts["samples"],
): string[] {
  const findings: string[] = [];
  if (target === "balanced" && gain && gain.latencyInterval[1] >= 1) {
    const [low, high] = gain.latencyInterval.map((bound) => bound.toFixed(2));
    findings.push(`Smaller, but no faster: ${low} to ${high} times the original's time.`);
  }
  const chosen = plans.find(({ outcome }) => outcome === "chosen");
  if (chosen) {
    const steps = chosen.plan.steps.map(([step]) => step).join(", ");
    findings.push(`Chosen of ${plans.length} plans: ${chosen.plan.name} (${steps}).`);
    const { excluded } = chosen;
    const names = excluded.slice(0, namedLayers).map((name) => `'${name}'`);
    const more = excluded.length > names.length ? ` and ${excluded.length - names.length} more` : "";
    if (excluded.length > 0) findings.push(`Left in float, because they hurt most: ${names.join(", ")}${more}.`);
  }
  if (confirmed) findings.push(...proofFinding(confirmed, samples.confirmation, budget));
  return findings;
}

/** A sentence where the samples are too few to prove the budget. */
export function proofFinding(confirmed: Drop, samples: number, budget: number): string[] {
  if (!confirmed.interval) return [`${count(samples)} samples are too much alike to tell how sure the loss is.`];
  if (confirmed.interval[1] <= budget) return [];
  const needed = samplesToProve(confirmed, samples, budget);
  const hint = needed === undefined ? "" : ` About ${count(needed)} would.`;
  return [`${count(samples)} samples are too few to prove that the loss is inside the budget.${hint}`];
}

function failureFindings(plans: readonly PlanOutcome[]): string[] {
  const tried = plans.filter(({ outcome }) => outcome !== "not tried");
  const reasons = tried.slice(0, 8).map(({ plan, excluded, verdict, reason }) => {
    const left = excluded.length > 0 ? ` with ${excluded.length} layers in float` : "";
    const drop = verdict && Number.isFinite(verdict.drop) ? ` (drop ${(100 * verdict.drop).toFixed(2)} %)` : "";
    return `${plan.name}${left}: ${reason}${drop}.`;
  });
  const waiting = plans.length - tried.length;
  if (waiting > 0) reasons.push(`${waiting} plans were not tried for want of time: raise --time-limit.`);
  return reasons;
}
