import { fail, messageOf, PareError } from "../errors.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import type { FormatsExhibit } from "../techniques/exhibit.ts";
import type { Context, Step } from "../techniques/technique.ts";
import { laterSteps, type StepCache } from "./cache.ts";
import type { SizeTarget } from "./iterate-size.ts";
import type { Gain, Judge, Verdict } from "./judge.ts";
import type { LedgerEntry, Measurement } from "./ledger.ts";
import { after, type Move, type Option, path } from "./mixed-choice.ts";
import { formatNames, formatsOf, stepsFor } from "./mixed-formats.ts";
import { type Layer, layersOf } from "./mixed-layers.ts";
import { type DamageMeasure, type Effect, measureEffects } from "./mixed-sensitivity.ts";
import { bindPlan, type PlanStep } from "./plans.ts";
import { run } from "./run.ts";

/** What is asked of {@link quantizeMixed}. */
export interface MixedOptions {
  /** Names of the formats that layers may take; all if absent. */
  readonly formats?: readonly string[];
  /** Bytes or milliseconds to get to; as few bytes as the budget allows if absent. */
  readonly target?: SizeTarget;
  /** The budget: points for shares, relative for everything else; there is none if absent. */
  readonly maxDrop?: number;
  /**
   * How the damage of a layer is found: kl of class probabilities, noise of the outputs, or fisher: whichever of these suits
   * the metric, estimated by one pass over the samples with gradients. Measured, by what suits the metric, if absent.
   */
  readonly damage?: DamageMeasure;
  /** Samples that single layers are judged on; 32 if absent. */
  readonly samples?: number;
  /** Numbers that a weight must have for its layer to have a format of its own; 1024 if absent. */
  readonly minElements?: number;
  /** Where the finished steps of a plan are kept; asked with all its steps, from the original on. */
  readonly cache?: (steps: readonly Step[]) => Promise<StepCache>;
  /**
   * Times the original and a model that is to be handed out as faster once more, for longer. The next best takes the place
   * of one that turns out not to be.
   */
  readonly lastLook?: (graph: Graph) => Promise<Times>;
  onTrial?(trial: MixedTrial): void;
}

/** A timing against the original. */
type Times = Pick<Gain, "latency" | "latencyInterval">;

/** A choice of formats that was tried as a whole. */
export interface MixedTrial {
  /** Format of each layer. */
  readonly formats: readonly string[];
  /** Bits of a weight, over all layers that could be chosen for. */
  readonly meanBits: number;
  readonly steps: readonly PlanStep[];
  readonly measured?: Measurement;
  /** On the selection samples. */
  readonly verdict?: Verdict;
  readonly gain?: Gain;
  readonly outcome: "within budget" | "over budget" | "no gain" | "failed";
  /** Why, in one sentence. */
  readonly reason: string;
}

/** A finished search. */
export interface MixedResult {
  /** The model to hand out; absent where nothing was inside the budget, or gained what was asked for. */
  readonly graph?: Graph;
  /** The trial that made it. */
  readonly chosen?: MixedTrial;
  readonly ledger: readonly LedgerEntry[];
  readonly layers: readonly Layer[];
  /** What each format does to each layer alone. */
  readonly effects: readonly (readonly Effect[])[];
  readonly trials: readonly MixedTrial[];
  /** The model handed out on the confirmation samples; the last that was tried where none is. */
  readonly confirmed?: Verdict;
  /** Trials that kept the budget on the selection samples but not on the confirmation samples. */
  readonly unconfirmed: readonly MixedTrial[];
  /** Whether the target was reached, where there is one. */
  readonly reached: boolean;
}

/** Models that may be tried on the confirmation samples: each further try makes them choose a little. */
const maxConfirmations = 3;

const damageNames = {
  kl: "divergence of the outputs (nats)",
  noise: "noise of the outputs (share of the signal)",
} as const;

/** Metrics about which of several classes is likeliest. */
const aboutClasses = /^(top-\d|agreement|perplexity|token-accuracy|cross-entropy|f1(-.*)?)$/;

/**
 * Gives every layer a format of its own. What each format does to each layer alone, to the outputs, to the file and to
 * the time, is measured; from there the search walks along the best exchange of damage for bytes or milliseconds, trying
 * whole models, as far as the budget allows or until the target is reached. The result is confirmed on samples that chose
 * nothing. A target of time is met by measured time alone.
 *
 * @throws PareError where no layer can be quantized, or the target is about another size; the signal's reason once it is
 *   aborted
 */
export async function quantizeMixed(
  graph: Graph,
  context: Context,
  judge: Judge,
  options: MixedOptions,
): Promise<MixedResult> {
  const search = await begin(graph, context, judge, options);
  await walk(search);
  return choose(search);
}

interface Built {
  readonly count: number;
  readonly trial: MixedTrial;
  readonly graph?: Graph;
  readonly ledger: readonly LedgerEntry[];
}

interface Search {
  readonly context: Context;
  readonly judge: Judge;
  readonly options: MixedOptions;
  /** The simplified model, and how it came about. */
  readonly start: { readonly graph: Graph; readonly steps: readonly Step[]; readonly ledger: readonly LedgerEntry[] };
  readonly layers: readonly Layer[];
  readonly effects: readonly (readonly Effect[])[];
  /** What the damage is, for the report. */
  readonly damage: string;
  readonly choices: readonly (readonly Option[])[];
  readonly moves: readonly Move[];
  /** What may stay, in the target's unit; endless where there is no target. */
  readonly limit: number;
  readonly built: Map<number, Built>;
}

async function begin(graph: Graph, context: Context, judge: Judge, options: MixedOptions): Promise<Search> {
  const { target, formats: names = formatNames, samples = 32, minElements = 1024 } = options;
  const quantity = target?.quantity ?? "bytes";
  if (quantity !== "bytes" && quantity !== "ms") {
    fail("quantize", `formats of layers do not change ${quantity}`, "Give bytes=... or ms=... as the target");
  }
  const steps = bindPlan({ name: "clean", steps: [["simplify", {}]] });
  const clean = await run(graph, steps, context, { measure: (each) => judge.measure(each) });
  const { layers: found, left } = layersOf(clean.graph, minElements);
  for (const { node, reason } of left) context.skip(node, reason);
  const { before } = await judge.select(graph);
  const suiting = aboutClasses.test(before.metric) ? "kl" : "noise";
  const estimated = options.damage === "fisher";
  const measure = options.damage === undefined || options.damage === "fisher" ? suiting : options.damage;
  const formats = formatsOf(names, minElements);
  const measured = await measureEffects(clean.graph, found, formats, context, {
    damage: measure,
    estimated,
    samples,
    times: quantity === "ms",
  });
  const movable = measured.flatMap((each, i) => (each.length > 1 ? [i] : []));
  if (movable.length === 0) {
    fail("quantize", "no layer can take any of the formats", "Allow more formats, or see `pare inspect`");
  }
  const [layers, effects] = [movable.map((i) => found[i]!), movable.map((i) => measured[i]!)];
  const choices = effects.map((each) =>
    each.map(({ format, bytes, ms, damage: harm }) => ({
      format,
      cost: quantity === "ms" ? ms! : bytes,
      damage: harm,
    })),
  );
  const size = await judge.measure(graph);
  const whole = quantity === "ms" ? size.latency!.median : size.bytes;
  const limit = target === undefined ? Number.NEGATIVE_INFINITY : target.value * (target.relative ? whole : 1);
  const start = { graph: clean.graph, steps, ledger: clean.ledger };
  const moves = path(choices);
  const damage = `${damageNames[measure]}${estimated ? ", estimated" : ""}`;
  return { context, judge, options, start, layers, effects, damage, choices, moves, limit, built: new Map() };
}

/** What the size that the target is about is with so many moves, as far as single layers tell. */
function predicted({ start, choices, moves, options }: Search, measured: Measurement, count: number): number {
  const sum = (each: readonly Option[]): number => each.reduce((total, { cost }) => total + cost, 0);
  const saved = sum(after(choices, moves, 0)) - sum(after(choices, moves, count));
  return (options.target?.quantity === "ms" ? measured.latency!.median : onnxSize(start.graph)) - saved;
}

function sizeOf({ options }: Search, { bytes, latency }: Measurement): number {
  return options.target?.quantity === "ms" ? latency!.median : bytes;
}

/** Tries whole models along the path: the fewest moves that reach the target, or the most that the budget allows. */
async function walk(search: Search): Promise<void> {
  const { moves, limit, options } = search;
  const measured = await search.judge.measure(search.start.graph);
  let most = moves.length;
  if (options.target) {
    while (most > 1 && predicted(search, measured, most - 1) <= limit) most--;
    // single layers predict the whole nearly: ever more moves where that was not enough
    for (let more = 1; most < moves.length; more *= 2) {
      const { trial } = await attempt(search, most);
      if (trial.measured && sizeOf(search, trial.measured) <= limit) break;
      most = Math.min(moves.length, most + more);
    }
  }
  let [good, bad] = [0, most + 1];
  for (let next = most; good < next && next < bad; next = (good + bad) >> 1) {
    const { trial } = await attempt(search, next);
    if (trial.outcome === "over budget" || trial.outcome === "failed") bad = next;
    else good = next;
  }
}

/** Applies the first moves of the path, measures and judges; once for each count. */
async function attempt(search: Search, count: number): Promise<Built> {
  const known = search.built.get(count);
  if (known) return known;
  const { context, judge, options, start, layers, choices, moves, effects } = search;
  const formats = after(choices, moves, count).map(({ format }) => format);
  const purpose = options.target?.quantity === "ms" ? "latency" : "size";
  const steps = stepsFor(layers, formats, purpose, options.minElements);
  const facts = { formats, meanBits: meanBits(layers, effects, formats), steps };
  let built: Built;
  try {
    const all = [...start.steps, ...bindPlan({ name: "mixed", steps })];
    const cache = options.cache && laterSteps(await options.cache(all), start.steps.length);
    const { graph, ledger } = await run(start.graph, all.slice(start.steps.length), context, {
      measure: (changed) => judge.measure(changed),
      ...(cache && { cache }),
    });
    const [measured, verdict, gain] = [await judge.measure(graph), await judge.select(graph), await judge.gain(graph)];
    const trial = { ...facts, measured, verdict, gain, ...outcomeOf(options, verdict, gain) };
    built = { count, trial, graph, ledger: [...start.ledger, ...ledger] };
  } catch (error) {
    if (context.signal.aborted || !(error instanceof PareError)) throw error;
    built = { count, trial: { ...facts, outcome: "failed", reason: messageOf(error) }, ledger: [] };
  }
  search.built.set(count, built);
  options.onTrial?.(built.trial);
  return built;
}

function outcomeOf(
  { maxDrop = Number.POSITIVE_INFINITY, target }: MixedOptions,
  { drop }: Verdict,
  gain: Gain,
): Pick<MixedTrial, "outcome" | "reason"> {
  if (!(Number.isFinite(drop) && drop <= maxDrop))
    return { outcome: "over budget", reason: "loses more than the budget" };
  const slow = target?.quantity === "ms" && slowness(gain);
  if (slow) return { outcome: "no gain", reason: slow };
  if (target?.quantity !== "ms" && gain.bytes >= 1) return { outcome: "no gain", reason: "the file is no smaller" };
  return { outcome: "within budget", reason: "within the budget" };
}

/** Why a model can't be called faster: undefined if it can. */
function slowness({ latency, latencyInterval: [low, high] }: Times): string | undefined {
  if (high < 1) return undefined;
  return `not measurably faster: ${latency.toFixed(2)} times the original's time [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}

/** Bits of a weight, over all layers. */
function meanBits(
  layers: readonly Layer[],
  effects: readonly (readonly Effect[])[],
  formats: readonly string[],
): number {
  let [bits, elements] = [0, 0];
  for (const [i, layer] of layers.entries()) {
    bits += layer.elements * effects[i]!.find(({ format }) => format === formats[i])!.bits;
    elements += layer.elements;
  }
  return bits / elements;
}

/** The smallest (or fastest) that the confirmation samples bear out. */
async function choose(search: Search): Promise<MixedResult> {
  const { judge, options, layers, effects, built, limit } = search;
  const good = [...built.values()]
    .filter(({ trial }) => trial.outcome === "within budget")
    .sort((a, b) => sizeOf(search, a.trial.measured!) - sizeOf(search, b.trial.measured!));
  // with a target, less damage is better than more saved
  const reaching = good.filter(({ trial }) => sizeOf(search, trial.measured!) <= limit).reverse();
  const unconfirmed: MixedTrial[] = [];
  let confirmed: Verdict | undefined;
  let found: Built | undefined;
  for (const each of [...reaching, ...good.filter((one) => !reaching.includes(one))].slice(0, maxConfirmations)) {
    confirmed = await judge.confirm(each.graph!);
    if (!(confirmed.drop < Number.POSITIVE_INFINITY && confirmed.drop <= (options.maxDrop ?? confirmed.drop))) {
      unconfirmed.push(each.trial);
      continue;
    }
    const times = options.target?.quantity === "ms" ? await options.lastLook?.(each.graph!) : undefined;
    const slow = times && slowness(times);
    const refused = slow && { outcome: "no gain" as const, reason: `in the final timing ${slow}` };
    const looked = times
      ? { ...each, trial: { ...each.trial, gain: { ...each.trial.gain!, ...times }, ...refused } }
      : each;
    built.set(each.count, looked);
    if (slow) continue;
    found = looked;
    break;
  }
  return {
    ...(found && { graph: found.graph!, chosen: found.trial }),
    ledger: found ? withFormats(search, found) : [],
    layers,
    effects,
    trials: [...built.values()].map(({ trial }) => trial),
    ...(confirmed && { confirmed }),
    unconfirmed,
    reached: !options.target || (found !== undefined && reaching.includes(found)),
  };
}

/** A ledger whose last entry shows what every format does to every layer. */
function withFormats({ context, layers, effects, damage }: Search, { trial, ledger }: Built): LedgerEntry[] {
  const exhibit: FormatsExhibit = {
    kind: "formats",
    damage: { name: damage },
    layers: layers.map(({ nodes, elements }, i) => ({
      name: nodes[0]!,
      elements,
      chosen: trial.formats[i]!,
      options: effects[i]!.map(({ format, bits, damage: harm }) => ({ format, bits, damage: harm })),
    })),
  };
  context.show(exhibit);
  const last = ledger.at(-1)!;
  return [...ledger.slice(0, -1), { ...last, exhibits: [...last.exhibits, exhibit] }];
}
