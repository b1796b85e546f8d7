import { messageOf, PareError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { Context } from "../techniques/technique.ts";
import type { Gain, Judge, Verdict } from "./judge.ts";
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
  validate?(graph: Graph): void;
}

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
  const search = makeSearch(graph, context, judge, options);
  const base = await search.attempt(graph, [], { name: "clean", steps: [["simplify", {}]] }, []);
  const [start, before] = base ? [base.graph, base.ledger] : [graph, []];
  const trials: Trial[] = base ? [base] : [];
  for (const plan of plansFor(start, context.data !== undefined)) {
    const trial = await search.attempt(start, before, plan, []);
    if (trial) trials.push(trial);
  }
  trials.push(...(await search.repair(start, before, trials)));
  return search.choose(trials);
}

interface Search {
  /** Applies and measures a plan; undefined if it failed or time is up. */
  attempt(
    start: Graph,
    before: readonly LedgerEntry[],
    plan: Plan,
    excluded: readonly string[],
  ): Promise<Trial | undefined>;
  repair(start: Graph, before: readonly LedgerEntry[], trials: readonly Trial[]): Promise<Trial[]>;
  choose(trials: readonly Trial[]): Promise<CompressResult>;
}

function makeSearch(original: Graph, context: Context, judge: Judge, options: CompressOptions): Search {
  const { target, maxDrop, timeLimit } = options;
  const begin = performance.now();
  const outcomes: PlanOutcome[] = [];
  let longest = 0;
  const timeLeft = (): boolean => (performance.now() - begin) / 1000 + longest < timeLimit;
  const fits = ({ verdict }: Trial): boolean => verdict.drop <= maxDrop;

  const search: Search = {
    async attempt(start, before, plan, excluded) {
      context.signal.throwIfAborted();
      if (start !== original && !timeLeft()) {
        outcomes.push({ plan, excluded, outcome: "not tried", reason: `the time limit of ${timeLimit} s was near` });
        return undefined;
      }
      const started = performance.now();
      try {
        const steps = bindPlan(plan, excluded);
        const { graph, ledger } = await run(start, steps, context, {
          measure: (g) => judge.measure(g),
          ...(options.validate && { validate: options.validate }),
        });
        const verdict = await judge.select(graph);
        const gain = await judge.gain(graph);
        const slower = gain.latencyInterval[1] >= 1 ? await judge.slower(graph) : [];
        const trial = { plan, excluded, graph, ledger: [...before, ...ledger], verdict, gain };
        context.log(trialLine(trial));
        return { ...trial, shortcoming: shortcoming(gain, target, slower) };
      } catch (error) {
        if (context.signal.aborted || !(error instanceof PareError)) throw error;
        outcomes.push({ plan, excluded, outcome: "failed", reason: messageOf(error) });
        return undefined;
      } finally {
        longest = Math.max(longest, (performance.now() - started) / 1000);
      }
    },

    async repair(start, before, trials) {
      const best = Math.min(
        1,
        ...trials.filter((t) => fits(t) && !t.shortcoming).map((t) => objective(t.gain, target)),
      );
      const promising = trials
        .filter((trial) => !fits(trial) && !trial.shortcoming && objective(trial.gain, target) < best)
        .sort((a, b) => objective(a.gain, target) - objective(b.gain, target));
      const repaired: Trial[] = [];
      for (const trial of promising) {
        if (!timeLeft()) break;
        const found = await repairOne(trial, start, before);
        if (found) repaired.push(found);
      }
      return repaired;
    },

    async choose(trials) {
      const ranked = trials
        .filter((trial) => fits(trial) && !trial.shortcoming)
        .sort((a, b) => objective(a.gain, target) - objective(b.gain, target));
      for (const trial of trials) if (!ranked.includes(trial)) outcomes.push(refused(trial, maxDrop));
      for (const [place, trial] of ranked.slice(0, maxConfirmations).entries()) {
        const confirmed = await judge.confirm(trial.graph);
        if (confirmed.drop > maxDrop) {
          outcomes.push(outcomeOf(trial, "over budget", "over the budget on the confirmation samples"));
          continue;
        }
        outcomes.push(outcomeOf(trial, "chosen", "the best within the budget, and confirmed"));
        for (const other of ranked.slice(place + 1)) {
          outcomes.push(outcomeOf(other, "within budget", "within the budget, with less gain"));
        }
        return { graph: trial.graph, ledger: trial.ledger, plans: outcomes, gain: trial.gain, confirmed };
      }
      for (const trial of ranked.slice(maxConfirmations)) {
        outcomes.push(outcomeOf(trial, "not tried", "not confirmed: three better plans had failed there"));
      }
      return { ledger: [], plans: outcomes };
    },
  };

  /**
   * Gives ever more of the harmful nodes back to float, 1, 2, 4, ..., until the drop is inside the budget; then halves
   * the interval between the last two counts. Stops when the gain is gone.
   */
  async function repairOne(trial: Trial, start: Graph, before: readonly LedgerEntry[]): Promise<Trial | undefined> {
    const harmful = await judge.harmful(trial.graph);
    let [tooFew, enough] = [0, Number.POSITIVE_INFINITY];
    let found: Trial | undefined;
    while (timeLeft() && harmful.length > 0) {
      const next = enough === Number.POSITIVE_INFINITY ? Math.max(1, tooFew * 2) : Math.floor((tooFew + enough) / 2);
      if (next <= tooFew || next > harmful.length) break;
      const excluded = harmful.slice(0, next);
      const tried = await search.attempt(start, before, trial.plan, excluded);
      if (!tried) break;
      if (fits(tried)) [found, enough] = [tried, next];
      else {
        outcomes.push(refused(tried, maxDrop));
        tooFew = next;
      }
      if (tried.shortcoming) break;
    }
    return found;
  }

  return search;
}

function refused(trial: Trial, maxDrop: number): PlanOutcome {
  if (trial.verdict.drop > maxDrop) return outcomeOf(trial, "over budget", "loses more than the budget");
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
