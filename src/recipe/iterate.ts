import { syntheticFeeds } from "../data/synthetic.ts";
import { fail, messageOf, PareError } from "../errors.ts";
import { digest } from "../formats/digest.ts";
import type { Graph } from "../graph/graph.ts";
import type { Tensors } from "../platform/runtime.ts";
import { calibrationBatches } from "../techniques/calibration-batches.ts";
import type { Context, Step } from "../techniques/technique.ts";
import { within } from "../training/checkpoint.ts";
import { laterSteps, type StepCache } from "./cache.ts";
import type { Cutter } from "./iterate-cutters.ts";
import {
  isReached,
  type Lane,
  nextShare,
  noteKept,
  noteTooLittle,
  noteTooMuch,
  openTargets,
  smallestShare,
  startLane,
} from "./iterate-lanes.ts";
import { progressOf } from "./iterate-progress.ts";
import { leftOf, type ModelSize, modelSize, type SizeQuantity, type SizeTarget } from "./iterate-size.ts";
import { type Measures, steadyMeasures } from "./iterate-times.ts";
import type { Judge, Verdict } from "./judge.ts";
import type { LedgerEntry, Measurement } from "./ledger.ts";
import { run } from "./run.ts";

/** What is asked of {@link iterate}. */
export interface IterateOptions {
  /** What to cut, in turn. */
  readonly cutters: readonly Cutter[];
  /** Sizes to get to: the search ends when all are reached. Without any it ends when the budget is used up. */
  readonly targets?: readonly SizeTarget[];
  /** The budget: points for shares, relative for everything else; there is none if absent. */
  readonly maxDrop?: number;
  /** Share of what is left that a round takes away at first; 0.2 if absent. */
  readonly step?: number;
  /** Smallest share: steps are halved where a round breaks the budget; 0.02 if absent, 0.0001 at least. */
  readonly tolerance?: number;
  /** Rounds at most; as many as it takes if absent. */
  readonly rounds?: number;
  /** Where the finished rounds of a chain are kept; asked with all its steps, from the original on. */
  readonly cache?: (steps: readonly Step[]) => Promise<StepCache>;
  /** Called before the first round. */
  onStart?(original: ModelSize, baseline: Verdict["before"]): void;
  /** Called after every round, with its model where that was kept: the best so far. */
  onRound?(round: IterateRound, graph?: Graph): void;
}

/** What became of a round. */
export interface IterateRound {
  /** From 1. */
  readonly round: number;
  /** The cutter's name. */
  readonly cutter: string;
  /** Share of what was left that was to go. */
  readonly share: number;
  readonly step: Pick<Step, "name" | "options">;
  /** Of the cut model, repaired and retrained; absent where the step failed. */
  readonly size?: ModelSize;
  readonly measured?: Measurement;
  /** On the selection samples. */
  readonly verdict?: Verdict;
  readonly outcome: "kept" | "over budget" | "no change" | "failed";
  /** Why, in one sentence. */
  readonly reason: string;
}

/** A finished search. */
export interface IterateResult {
  /** The model to hand out; absent where nothing was kept, or was inside the budget on the confirmation samples. */
  readonly graph?: Graph;
  /** The round that made it. */
  readonly chosen?: number;
  /** The steps that made it. */
  readonly ledger: readonly LedgerEntry[];
  readonly rounds: readonly IterateRound[];
  readonly original: ModelSize;
  /** The original's score on the selection samples. */
  readonly baseline: Verdict["before"];
  /** Of the model handed out. */
  readonly size?: ModelSize;
  /** The model handed out on the confirmation samples; the last that was tried where none is. */
  readonly confirmed?: Verdict;
  /** Rounds that kept the budget on the selection samples but not on the confirmation samples. */
  readonly unconfirmed: readonly number[];
  /** Targets that were not reached. */
  readonly open: readonly SizeTarget[];
  /** Why there were no more rounds, in one sentence. */
  readonly stopped: string;
}

/** Models that may be tried on the confirmation samples: each further try makes them choose a little. */
const maxConfirmations = 3;

/**
 * Makes a model smaller round by round: each cuts a share of what is left from the best model so far, repairs and retrains
 * it as the step's own options say, and keeps it if it is inside the budget on the selection samples; if not, the next
 * cut is half as large. The smallest is confirmed on samples that chose nothing. The original is the teacher of all
 * retraining.
 *
 * @throws PareError where a cutter's first step refuses, or the targets ask for nothing that it could do; the signal's
 *   reason once it is aborted
 */
export async function iterate(
  graph: Graph,
  context: Context,
  judge: Judge,
  options: IterateOptions,
): Promise<IterateResult> {
  const search = await begin(graph, context, judge, options);
  let stopped: string | undefined;
  for (let turn = 0; stopped === undefined; turn++) stopped = await advance(search, turn);
  return choose(search, stopped);
}

/** A model, and how it came about. */
interface Trial {
  /** 0 is the original. */
  readonly round: number;
  readonly graph: Graph;
  readonly measured: Measurement;
  readonly size: ModelSize;
  /** All of them, from the original on. */
  readonly steps: readonly Step[];
  readonly ledger: readonly LedgerEntry[];
}

interface Search {
  readonly context: Context;
  readonly judge: Judge;
  readonly measure: Measures["measure"];
  readonly options: IterateOptions;
  readonly targets: readonly SizeTarget[];
  readonly least: number;
  /** What one inference is fed. */
  readonly feeds: Tensors;
  readonly original: Trial;
  readonly baseline: Verdict["before"];
  readonly lanes: readonly Lane[];
  readonly rounds: IterateRound[];
  /** The last rounds that were kept, as many as may be confirmed; the best last. */
  readonly kept: Trial[];
}

async function begin(graph: Graph, context: Context, judge: Judge, options: IterateOptions): Promise<Search> {
  const { cutters, targets = [], step = 0.2, tolerance = 0.02 } = options;
  checkTargets(cutters, targets);
  const feeds = await oneSample(graph, context);
  const timed = targets.some(({ quantity }) => quantity === "ms");
  const store = timed ? context.training?.store : undefined;
  const { original: measured, measure } = await steadyMeasures(graph, judge, context.runtime, store);
  const size = await modelSize(graph, measured, context.runtime, feeds);
  if (targets.length > 0 && targets.every((target) => isReached(target, size, size))) {
    fail("prune", "the model is as small as asked for already", "Give a smaller target, or --max-drop alone");
  }
  const { before: baseline } = await judge.select(graph);
  options.onStart?.(size, baseline);
  const original: Trial = { round: 0, graph, measured, size, steps: [], ledger: [] };
  const lanes = cutters.map((cutter) => startLane(cutter, step));
  const least = Math.max(smallestShare, Math.min(step, tolerance));
  return { context, judge, measure, options, targets, least, feeds, original, baseline, lanes, rounds: [], kept: [] };
}

/** Refuses targets that no cutter brings nearer. */
function checkTargets(cutters: readonly Cutter[], targets: readonly SizeTarget[]): void {
  const movable = new Set(cutters.flatMap(({ reduces }) => reduces));
  const idle = targets.find(({ quantity }) => !movable.has(quantity));
  if (!idle) return;
  const names = cutters.map(({ name }) => name).join(" and ");
  fail("prune", `cutting ${names} does not change ${idle.quantity}`, hintFor(idle.quantity));
}

function hintFor(quantity: SizeQuantity): string {
  return quantity === "sparsity"
    ? "Cut weights too"
    : "Cut channels or layers too: zeros leave files and times as they are";
}

async function oneSample(graph: Graph, context: Context): Promise<Tensors> {
  if (!context.data) return syntheticFeeds(graph, context.random.fork("size"));
  for await (const { inputs } of calibrationBatches(graph, context, 1, 1, "prune")) return inputs;
  return fail("prune", "there is no sample of the batch size that the model wants", "Give more data");
}

/** The best model so far. */
function best({ kept, original }: Search): Trial {
  return kept.at(-1) ?? original;
}

/**
 * One turn: a round of the cutter whose turn it is, if that has something to do.
 *
 * @returns why there are no more rounds, once there are none
 */
async function advance(search: Search, turn: number): Promise<string | undefined> {
  const { lanes, targets, options, rounds, original, context } = search;
  context.signal.throwIfAborted();
  const { size } = best(search);
  const openTo = (lane: Lane): SizeTarget[] => openTargets(lane, targets, size, original.size);
  const waiting = lanes.filter((lane) => targets.length === 0 || openTo(lane).length > 0);
  if (waiting.length === 0) return "every target is reached";
  if (waiting.every(({ done }) => done !== undefined)) {
    return waiting.map(({ cutter, done }) => `${cutter.name}: ${done}`).join("; ");
  }
  if (rounds.length >= (options.rounds ?? Number.POSITIVE_INFINITY)) return `${rounds.length} rounds were allowed`;
  const lane = lanes[turn % lanes.length]!;
  if (lane.done !== undefined || !waiting.includes(lane)) return undefined;
  const share = nextShare(lane, openTo(lane), size, original.size, search.least);
  if (share !== undefined) await cutOnce(search, lane, share);
  return undefined;
}

/** Cuts a share, measures and judges. */
async function cutOnce(search: Search, lane: Lane, share: number): Promise<void> {
  const { context, options, rounds } = search;
  const from = best(search);
  const random = context.random.fork(`round:${from.steps.length}`);
  let step: Step | undefined;
  try {
    step = await lane.cutter.cut(share, from.graph, { ...context, random }, lane.last?.step);
  } catch (error) {
    lane.done = refusal(search, lane, error);
    return;
  }
  if (!step) {
    lane.done = "nothing is left to cut";
    return;
  }
  const key = JSON.stringify([step.name, step.options]);
  if (key === lane.refused) {
    noteTooMuch(lane, share, search.least, key);
    return;
  }
  const { trial, ...result } = await attempt(search, from, lane, step);
  if (result.outcome === "kept") {
    noteKept(search.lanes, lane, { step, share, before: from.size, after: trial!.size });
    search.kept.push(trial!);
    search.kept.splice(0, search.kept.length - maxConfirmations);
  } else if (result.outcome === "no change") noteTooLittle(lane, share);
  else noteTooMuch(lane, share, search.least, key);
  const { name, options: bound } = step;
  rounds.push({ round: rounds.length + 1, cutter: lane.cutter.name, share, step: { name, options: bound }, ...result });
  options.onRound?.(rounds.at(-1)!, trial?.graph);
}

type Attempt = Pick<IterateRound, "size" | "measured" | "verdict" | "outcome" | "reason"> & {
  /** Where it is kept. */
  readonly trial?: Trial;
};

async function attempt(search: Search, from: Trial, lane: Lane, step: Step): Promise<Attempt> {
  const { context, judge, measure, options, rounds } = search;
  const steps = [...from.steps, step];
  try {
    const cache = options.cache && laterSteps(await options.cache(steps), from.steps.length);
    const { graph, ledger } = await run(from.graph, [step], await roundContext(search, steps), {
      measure: async (changed) => (changed === from.graph ? from.measured : measure(changed)),
      ...(cache && { cache }),
    });
    // a round that was finished in an earlier run was timed then
    const { latency } = ledger.at(-1)!.after;
    const measured = { ...(await measure(graph)), ...(latency && { latency }) };
    const size = await modelSize(graph, measured, context.runtime, search.feeds);
    if (graph === from.graph || !isSmaller(size, from.size, lane.cutter.reduces)) {
      return { size, measured, outcome: "no change", reason: "nothing became smaller" };
    }
    const verdict = await judge.select(graph);
    const found = { size, measured, verdict };
    if (!isInside(verdict, options)) return { ...found, outcome: "over budget", reason: "loses more than the budget" };
    const trial = { round: rounds.length + 1, graph, measured, size, steps, ledger: [...from.ledger, ...ledger] };
    return { ...found, outcome: "kept", reason: "within the budget", trial };
  } catch (error) {
    return { outcome: "failed", reason: refusal(search, lane, error) };
  }
}

/** What an error says; one of the first cut, or that the user can't mend, is thrown on. */
function refusal({ context, rounds }: Search, { cutter }: Lane, error: unknown): string {
  const first = rounds.every((round) => round.cutter !== cutter.name);
  if (context.signal.aborted || !(error instanceof PareError) || first) throw error;
  return messageOf(error);
}

/** Random numbers, teacher and checkpoints of a round: the same whenever the same chain of steps is gone through. */
async function roundContext({ context, original }: Search, steps: readonly Step[]): Promise<Context> {
  const { training, random } = context;
  const store = training?.store;
  const chain = await digest(JSON.stringify(steps.map(({ name, options }) => [name, options])));
  return {
    ...context,
    random: random.fork(`round:${steps.length - 1}`),
    training: {
      teacher: original.graph,
      ...training,
      ...(store && { store: within(store, `round-${chain.slice(0, 16)}`) }),
    },
  };
}

/** Whether some quantity fell; times alone prove nothing, since they differ from one measurement to the next. */
function isSmaller(size: ModelSize, before: ModelSize, reduces: readonly SizeQuantity[]): boolean {
  const certain = reduces.filter((quantity) => quantity !== "ms");
  return certain.length === 0 || certain.some((quantity) => leftOf(size, quantity) < leftOf(before, quantity));
}

/** A model that is broken altogether (NaN) has an endless drop: it is outside of no budget at all, too. */
function isInside({ drop }: Verdict, { maxDrop = Number.POSITIVE_INFINITY }: IterateOptions): boolean {
  return Number.isFinite(drop) && drop <= maxDrop;
}

/** The smallest that the confirmation samples bear out. */
async function choose(search: Search, stopped: string): Promise<IterateResult> {
  const { judge, options, rounds, original, baseline, kept, targets } = search;
  const unconfirmed: number[] = [];
  let confirmed: Verdict | undefined;
  let found: Trial | undefined;
  for (const trial of kept.toReversed()) {
    confirmed = await judge.confirm(trial.graph);
    if (isInside(confirmed, options)) {
      found = trial;
      break;
    }
    unconfirmed.push(trial.round);
  }
  const size = found?.size ?? original.size;
  return {
    ...(found && { graph: found.graph, chosen: found.round, size: found.size }),
    ledger: found ? withProgress(search, found) : [],
    rounds,
    original: original.size,
    baseline,
    ...(confirmed && { confirmed }),
    unconfirmed,
    open: targets.filter((target) => !isReached(target, size, original.size)),
    stopped,
  };
}

/** A ledger whose last entry shows how quality went with the amount, over all rounds. */
function withProgress({ context, targets, lanes, ...facts }: Search, { round, ledger }: Trial): LedgerEntry[] {
  const quantity = targets[0]?.quantity ?? lanes[0]!.cutter.reduces[0]!;
  const exhibit = progressOf(facts.rounds, round, quantity, facts.original.size, facts.baseline, facts.options.maxDrop);
  context.show(exhibit);
  const last = ledger.at(-1)!;
  return [...ledger.slice(0, -1), { ...last, exhibits: [...last.exhibits, exhibit] }];
}
