import { mergeCalibrations } from "../../analysis/calibrate.ts";
import { costs } from "../../analysis/cost.ts";
import { type Reference, reference, signalToNoise } from "../../analysis/output-error.ts";
import { type RangeMethod, rangeMethods } from "../../analysis/ranges.ts";
import { loudest } from "../../analysis/sensitivity.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import type { Context } from "../technique.ts";
import { equalize } from "./equalize.ts";
import type { Options } from "./options.ts";
import { macs, type Plan } from "./plan.ts";
import { learnRounding } from "./rounding/index.ts";
import { divideSamples, type Samples } from "./samples.ts";
import { type LearnedRounding, observe, restrict, type Setup, setUp, write } from "./setup.ts";

/** A way to quantize, with the signal-to-noise ratio of its outputs in decibels. */
export interface Candidate {
  readonly setup: Setup;
  readonly plan: Plan;
  readonly method: RangeMethod;
  readonly corrected: boolean;
  readonly learned?: LearnedRounding;
  readonly graph: Graph;
  readonly quality: number;
}

/** What {@link search} chose; `quality` is absent where nothing was to choose, so nothing was measured. */
export type Choice = Omit<Candidate, "quality"> & Partial<Pick<Candidate, "quality">>;

/** Whether the options leave nothing to try. */
export function isDecided({ method, biasCorrection, equalize, protect }: Options): boolean {
  return method !== "auto" && !biasCorrection && !equalize && !protect;
}

/** Below this, in decibels, single layers are looked into. */
const goodQuality = 25;
/** From here on equalization is not tried: it takes another calibration. */
const fineQuality = 50;
/** The same for models so large that calibration takes long. */
const fineLargeQuality = 35;
/** A single layer that makes more than this share of the noise is left float... */
const loudShare = 0.2;
/** ...as long as such layers make up no more than this share of the model's multiplications... */
const mostProtected = 0.1;
/** ...or whatever they cost, in decibels, below this: such outputs are hardly the model's. */
const poorQuality = 20;
/** A change must gain this many decibels to be kept. */
const leastGain = 0.1;
/** A method must gain this many decibels over a more generous one: what it clips may matter on data not seen... */
const clippingGain = 0.5;
/** ...and from here on nothing is clipped: what is rare, as a face is to a detector, is worth more than decibels. */
const unclippedQuality = 35;

/**
 * Tries what can help, each on its own, measures the outputs on samples not used for calibration where there are enough,
 * and keeps what helps: methods for ranges, bias correction, equalization, float for the layers that make most noise.
 */
export async function search(first: Setup, samples: Samples): Promise<Choice> {
  const { options, context, graph, plan } = first;
  const { method } = options;
  if (method !== "auto" && isDecided(options)) {
    return { setup: first, plan, method, corrected: false, graph: write(first, plan, { method, corrected: false }) };
  }
  const wanted = await trialReference(first, samples);
  let best = await bestMethod(first, first.plan, wanted);
  if (best.corrected) best = better(best, await candidate(first, first.plan, best.method, false, wanted));
  const fine = workOf(plan, first.types) * first.calibration.samples > longWork ? fineLargeQuality : fineQuality;
  if (options.equalize && best.quality < fine) {
    const equalized = equalize(graph, first.plan, first.calibration);
    if (equalized) {
      const setup = await setUp(equalized, samples, options, context);
      const same = better(best, await candidate(setup, setup.plan, best.method, best.corrected, wanted));
      if (same !== best) best = better(same, await bestMethod(setup, setup.plan, wanted));
    }
  }
  if (options.protect && best.quality < goodQuality) best = await protect(best, wanted);
  return samples.heldBack ? onAllSamples(best, samples) : best;
}

/** The same with weights rounded the way that is learned, if its outputs are better. */
export async function withLearnedRounding(best: Choice, samples: Samples): Promise<Choice> {
  const { setup, plan } = best;
  const { runtime, log } = setup.context;
  const learned = await learnRounding(best, samples.learning(setup.options.roundingSamples));
  const graph = write(setup, plan, { ...best, learned });
  const wanted = await trialReference(setup, samples);
  const before = await signalToNoise(best.graph, runtime, wanted);
  const quality = await signalToNoise(graph, runtime, wanted);
  log(`learned rounding: ${before.toFixed(1)} dB to ${quality.toFixed(1)} dB`);
  return quality > before ? { ...best, learned, graph, quality } : { ...best, quality: before };
}

/** The same with ranges and means of the samples held back as well. */
async function onAllSamples(best: Candidate, samples: Samples): Promise<Candidate> {
  const held = await observe(best.setup, samples.trial);
  const setup = { ...best.setup, calibration: mergeCalibrations(best.setup.calibration, held) };
  return { ...best, setup, graph: write(setup, best.plan, best) };
}

function better(a: Candidate, b: Candidate, gain = leastGain): Candidate {
  return b.quality > a.quality + gain ? b : a;
}

async function candidate(
  setup: Setup,
  plan: Plan,
  method: RangeMethod,
  corrected: boolean,
  wanted: Reference,
): Promise<Candidate> {
  setup.context.signal.throwIfAborted();
  const graph = write(setup, plan, { method, corrected });
  const quality = await signalToNoise(graph, setup.context.runtime, wanted);
  return { setup, plan, method, corrected, graph, quality };
}

/** Whether bias correction could change anything. */
function isCorrectable({ calibration }: Setup): boolean {
  return [...calibration.tensors.values()].some(({ channels }) => channels !== undefined);
}

async function bestMethod(setup: Setup, plan: Plan, wanted: Reference): Promise<Candidate> {
  const { method } = setup.options;
  const biasCorrection = setup.options.biasCorrection && isCorrectable(setup);
  const [first, ...others] = method === "auto" ? rangeMethods : [method];
  let best = await candidate(setup, plan, first!, biasCorrection, wanted);
  for (const other of best.quality < unclippedQuality ? others : []) {
    best = better(best, await candidate(setup, plan, other, biasCorrection, wanted), clippingGain);
  }
  return best;
}

/** The candidate with its loudest layers left float, as far as that is better. */
async function protect(first: Candidate, wanted: Reference): Promise<Candidate> {
  const { graph, types } = first.setup;
  let best = first;
  let budget = mostProtected * costs(graph, types).macs;
  for (let round = 0; round < 4 && best.quality < goodQuality; round++) {
    const isPoor = best.quality < poorQuality;
    const quieter = await withoutLoudest(best, wanted, isPoor ? Number.POSITIVE_INFINITY : budget);
    if (!quieter) break;
    if (!isPoor) budget -= workOf(best.plan, types) - workOf(quieter.plan, types);
    best = quieter;
  }
  return best;
}

/** The candidate with its loudest layers left float, of at most so many multiplications; undefined if it is no better. */
async function withoutLoudest(best: Candidate, wanted: Reference, budget: number): Promise<Candidate | undefined> {
  const { setup, plan, method } = best;
  const few: Reference = { feeds: wanted.feeds.slice(0, 8), outputs: wanted.outputs.slice(0, 8) };
  const noiseOf = async (only: readonly Node[]): Promise<number> => {
    const { quality } = await candidate(setup, restrict(setup, new Set(only)), method, best.corrected, few);
    return 10 ** (-quality / 10);
  };
  const found = await loudest([...plan.compute], noiseOf, loudShare);
  let left = budget;
  const spared = found.filter(({ item }) => {
    const cost = macs(item, setup.types);
    if (cost > left) return false;
    left -= cost;
    return true;
  });
  if (spared.length === 0 || spared.length === plan.compute.size) return undefined;
  const items = new Set(spared.map(({ item }) => item));
  const kept = new Set([...plan.compute].filter((node) => !items.has(node)));
  const reasons = new Map(plan.left);
  for (const { item, noise } of spared) {
    const what =
      noise < Number.POSITIVE_INFINITY
        ? `lower the outputs to ${(-10 * Math.log10(noise)).toFixed(0)} dB signal to noise`
        : "leave outputs that are not finite";
    reasons.set(item, `it alone would ${what}`);
  }
  const next = await bestMethod(setup, { ...restrict(setup, kept), left: reasons }, wanted);
  return next.quality > best.quality + leastGain ? next : undefined;
}

/** Samples that candidates are compared on, at most. */
export const mostTrials = 32;
/** Multiplications that a trial may take; large models are tried on fewer samples. */
const trialWork = 2 ** 34;
/** A calibration of more multiplications than this takes long: seconds on a few cores. */
const longWork = 2 ** 35;

function workOf(plan: Plan, types: Setup["types"]): number {
  return [...plan.compute].reduce((sum, node) => sum + macs(node, types), 0);
}

async function trialReference(setup: Setup, { trial }: Samples): Promise<Reference> {
  const count = Math.max(4, Math.floor(trialWork / Math.max(1, workOf(setup.plan, setup.types))));
  return reference(setup.graph, setup.context.runtime, trial.slice(0, count));
}

/**
 * The signal-to-noise ratio of the outputs, in decibels, when each compute node alone is quantized; worst first.
 *
 * @throws PareError where there is no data, or the runtime refuses the model
 */
export async function layerSensitivity(
  graph: Graph,
  options: Options,
  context: Context,
): Promise<readonly { readonly node: Node; readonly quality: number }[]> {
  const samples = await divideSamples(graph, options.samples, mostTrials, context);
  const setup = await setUp(graph, samples, options, context);
  const wanted = await trialReference(setup, samples);
  const method = options.method === "auto" ? "percentile" : options.method;
  const found: { node: Node; quality: number }[] = [];
  for (const node of setup.plan.compute) {
    const { quality } = await candidate(
      setup,
      restrict(setup, new Set([node])),
      method,
      options.biasCorrection,
      wanted,
    );
    found.push({ node, quality });
    context.progress(found.length, setup.plan.compute.size, "layers");
  }
  return found.sort((a, b) => a.quality - b.quality);
}
