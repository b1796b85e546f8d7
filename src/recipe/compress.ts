import { messageOf, PareError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { Context, Step } from "../techniques/technique.ts";
import { laterSteps, type StepCache } from "./cache.ts";
import { harmfulNodes } from "./harmful.ts";
import type { Gain, Judge, KernelChange, Verdict } from "./judge.ts";
import type { LedgerEntry, Measurement } from "./ledger.ts";
import { bindPlan, type Plan, plansFor } from "./plans.ts";
import { run } from "./run.ts";
import { objective, shortcoming, type Target } from "./target.ts";

/** What is asked of {@link compress}. */
export interface CompressOptions {
  readonly target: Target;
  /** The budget: points for shares, relative for everything else. */
  readonly maxDrop: number;
  /** Seconds after which nothing new is tried. */
  readonly timeLimit: number;
  /** Where the finished steps of a plan are kept; asked with all steps of the plan, from the original on. */
  readonly cache?: (steps: readonly Step[]) => Promise<StepCache>;
  /**
   * Times the original and a plan that is to be chosen once more, for longer. The next best plan takes the place of one
   * that turns out to be no gain.
   */
  readonly lastLook?: (graph: Graph) => Promise<LastLook>;
}

/** A longer timing of a plan. */
export type LastLook = Pick<Gain, "latency" | "latencyInterval"> & {
  readonly slower: readonly KernelChange[];
};

/** What became of a plan. */
export interface PlanOutcome {
  readonly plan: Plan;
  /** Nodes left in float because they hurt. */
  readonly excluded: readonly string[];
  readonly measured?: Measurement;
  readonly verdict?: Verdict;
  readonly gain?: Gain;
  readonly outcome: "chosen" | "within budget" | "over budget" | "no gain" | "failed" | "not tried";
  /** Why, in one sentence. */
  readonly reason: string;
}

/** A finished search. */
export interface CompressResult {
  /** The model to hand out; absent where nothing was inside the budget and better than the original. */
  readonly graph?: Graph;
  readonly ledger: readonly LedgerEntry[];
  readonly plans: readonly PlanOutcome[];
  readonly gain?: Gain;
  /** The chosen plan on the confirmation samples. */
  readonly confirmed?: Verdict;
}

interface Trial {
  readonly plan: Plan;
  /** All of them, from the original on. */
  readonly steps: readonly Step[];
  readonly excluded: readonly string[];
  readonly graph: Graph;
  readonly ledger: readonly LedgerEntry[];
  readonly verdict: Verdict;
  readonly gain: Gain;
  readonly shortcoming: string | undefined;
}

/** Plans that may be tried on the confirmation samples: each further try makes them choose a little. */
const maxConfirmations = 3;

/**
 * Searches for the plan that improves the target most within the budget: tries the plans that suit the model, gives the
 * harmful layers of a promising plan back to float, and confirms the best on samples that chose nothing.
 *
 * @throws the signal's reason once it is aborted
 */
export async function compress(
  graph: Graph,
  context: Context,
  judge: Judge,
  options: CompressOptions,
): Promise<CompressResult> {
  const search: Search = { context, judge, options, begin: performance.now(), outcomes: [], longest: 0 };
  const clean = await attempt(search, { graph, ledger: [], steps: [] }, { name: "clean", steps: [["simplify", {}]] });
  const start = clean ?? { graph, ledger: [], steps: [] };
  const trials: Trial[] = clean ? [clean] : [];
  for (const [place, plan] of plansFor(start.graph, context.data !== undefined).entries()) {
    // the first plan is tried whatever the limit: without one there is nothing to say
    if (place > 0 && !timeLeft(search)) {
      const reason = `the time limit of ${options.timeLimit} s was near`;
      search.outcomes.push({ plan, excluded: [], outcome: "not tried", reason });
      continue;
    }
    const trial = await attempt(search, start, plan);
    if (trial) trials.push(trial);
  }
  trials.push(...(await repair(search, start, trials)));
  return choose(search, trials);
}

interface Search {
  readonly context: Context;
  readonly judge: Judge;
  readonly options: CompressOptions;
  /** When it began, milliseconds. */
  readonly begin: number;
  readonly outcomes: PlanOutcome[];
  /** Seconds that the longest trial took. */
  longest: number;
}

/** A graph and the steps that led to it. */
type Start = Pick<Trial, "graph" | "ledger" | "steps">;

function timeLeft({ begin, longest, options }: Search): boolean {
  return (performance.now() - begin) / 1000 + longest < options.timeLimit;
}

function fits({ options }: Search, { verdict }: Trial): boolean {
  return verdict.drop <= options.maxDrop;
}

/** Trials inside the budget that are worth having, the best first. */
function ranked(search: Search, trials: readonly Trial[]): Trial[] {
  return byObjective(
    search,
    trials.filter((trial) => fits(search, trial) && !trial.shortcoming),
  );
}

function byObjective({ options }: Search, trials: readonly Trial[]): Trial[] {
  return [...trials].sort((a, b) => objective(a.gain, options.target) - objective(b.gain, options.target));
}

/** Applies and measures a plan; undefined if a step refused. */
async function attempt(
  search: Search,
  start: Start,
  plan: Plan,
  excluded: readonly string[] = [],
): Promise<Trial | undefined> {
  const { context, judge, options, outcomes } = search;
  const began = performance.now();
  try {
    const steps = [...start.steps, ...bindPlan(plan, excluded)];
    const cache = options.cache && laterSteps(await options.cache(steps), start.steps.length);
    const { graph, ledger } = await run(start.graph, steps.slice(start.steps.length), context, {
      measure: (changed) => judge.measure(changed),
      ...(cache && { cache }),
    });
    const verdict = await judge.select(graph);
    const gain = await judge.gain(graph);
    const slower = gain.latencyInterval[1] >= 1 ? await judge.slower(graph) : [];
    const trial = { plan, excluded, graph, steps, ledger: [...start.ledger, ...ledger], verdict, gain };
    context.log(trialLine(trial));
    return { ...trial, shortcoming: shortcoming(gain, options.target, slower) };
  } catch (error) {
    if (context.signal.aborted || !(error instanceof PareError)) throw error;
    outcomes.push({ plan, excluded, outcome: "failed", reason: messageOf(error) });
    return undefined;
  } finally {
    search.longest = Math.max(search.longest, (performance.now() - began) / 1000);
  }
}

/** Plans that lose too much but would beat the best inside the budget, with their harmful nodes given back to float. */
async function repair(search: Search, start: Start, trials: readonly Trial[]): Promise<Trial[]> {
  const { target } = search.options;
  const [best] = ranked(search, trials);
  const bar = best ? objective(best.gain, target) : 1;
  const promising = trials.filter((trial) => !fits(search, trial) && objective(trial.gain, target) < bar);
  const repaired: Trial[] = [];
  for (const trial of byObjective(search, promising)) {
    if (!timeLeft(search)) break;
    const found = await repairOne(search, start, trial);
    if (found) repaired.push(found);
  }
  return repaired;
}

/**
 * Gives ever more of the harmful nodes back to float, 1, 2, 4, ..., until the drop is inside the budget; then halves the
 * interval between the last two counts. Stops when the gain is gone.
 */
async function repairOne(search: Search, start: Start, trial: Trial): Promise<Trial | undefined> {
  const harmful = await harmfulNodes(start.graph, trial.graph, trial.plan, search.context, () => timeLeft(search));
  let [tooFew, enough] = [0, Number.POSITIVE_INFINITY];
  let found: Trial | undefined;
  while (timeLeft(search)) {
    const next = enough === Number.POSITIVE_INFINITY ? Math.max(1, tooFew * 2) : Math.floor((tooFew + enough) / 2);
    if (next <= tooFew || next > harmful.length) break;
    const tried = await attempt(search, start, trial.plan, harmful.slice(0, next));
    if (!tried) break;
    if (fits(search, tried)) [found, enough] = [tried, next];
    else {
      search.outcomes.push(refused(search, tried));
      tooFew = next;
    }
    if (tried.shortcoming) break;
  }
  return found;
}

async function choose(search: Search, trials: readonly Trial[]): Promise<CompressResult> {
  const { judge, options, outcomes } = search;
  const good = ranked(search, trials);
  for (const trial of trials) if (!good.includes(trial)) outcomes.push(refused(search, trial));
  for (const [place, trial] of good.slice(0, maxConfirmations).entries()) {
    const confirmed = await judge.confirm(trial.graph);
    if (!(confirmed.drop <= options.maxDrop)) {
      const reason = "over the budget on the confirmation samples";
      outcomes.push({ ...outcomeOf(trial, "over budget", reason), verdict: confirmed });
      continue;
    }
    const { slower = [], ...times } = (await options.lastLook?.(trial.graph)) ?? {};
    const gain = { ...trial.gain, ...times };
    const reason = options.lastLook && shortcoming(gain, options.target, slower);
    if (reason !== undefined) {
      outcomes.push({ ...outcomeOf(trial, "no gain", `in the final timing ${reason}`), gain });
      continue;
    }
    outcomes.push(outcomeOf(trial, "chosen", "the best within the budget, and confirmed"));
    for (const other of good.slice(place + 1)) {
      outcomes.push(outcomeOf(other, "within budget", "within the budget, with less gain"));
    }
    return { graph: trial.graph, ledger: trial.ledger, plans: outcomes, gain, confirmed };
  }
  for (const trial of good.slice(maxConfirmations)) {
    outcomes.push(outcomeOf(trial, "not tried", "not confirmed: better plans had failed there"));
  }
  return { ledger: [], plans: outcomes };
}

function refused({ options }: Search, trial: Trial): PlanOutcome {
  if (trial.verdict.drop > options.maxDrop) return outcomeOf(trial, "over budget", "loses more than the budget");
  return outcomeOf(trial, "no gain", trial.shortcoming ?? "no gain");
}

function outcomeOf(trial: Trial, outcome: PlanOutcome["outcome"], reason: string): PlanOutcome {
  const { plan, excluded, verdict, gain, ledger } = trial;
  const measured = ledger.at(-1)?.after;
  return { plan, excluded, verdict, gain, ...(measured && { measured }), outcome, reason };
}

function trialLine({ plan, excluded, verdict, gain }: Omit<Trial, "shortcoming">): string {
  const left = excluded.length > 0 ? `, ${excluded.length} in float` : "";
  const { metric, value } = verdict.after;
  const change = `${metric} ${value.toPrecision(4)}, drop ${(100 * verdict.drop).toFixed(2)} %`;
  return `tried ${plan.name}${left}: ${gain.bytes.toFixed(2)} of the bytes, ${gain.latency.toFixed(2)} of the time, ${change}`;
}
