import { type Calibration, calibrate } from "../../analysis/calibrate.ts";
import { chooseRange, isByExtremes, type Range, type RangeMethod } from "../../analysis/ranges.ts";
import { refuseShort } from "../../data/fixed-batch.ts";
import { fail } from "../../errors.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { intermediates, type ObservedType, observeTypes } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { selector } from "../selection.ts";
import type { Context } from "../technique.ts";
import type { EmitOptions, Learned } from "./constants.ts";
import { emit } from "./emit.ts";
import { inputChannels } from "./input-channels.ts";
import { narrowestWeight, type Options } from "./options.ts";
import type { Placed } from "./place.ts";
import { makePlan, type Plan, type PlanOptions } from "./plan.ts";
import { padIntegers, toQOperator } from "./qoperator.ts";
import { kindOf } from "./rules.ts";
import { batchOf, type Samples } from "./samples.ts";
import { type Widths, widthsOf } from "./widths.ts";

/** A float graph with all that is needed to quantize any part of it. */
export interface Setup {
  readonly graph: Graph;
  readonly types: ReadonlyMap<string, ObservedType>;
  /** Everything that may be quantized. */
  readonly plan: Plan;
  readonly widths: Widths;
  /** Weights, by name, that have 7 bits so that no sum of products is clipped; besides all of them with `portable`. */
  readonly reduced: ReadonlySet<string>;
  readonly calibration: Calibration;
  readonly options: Options;
  readonly context: Context;
}

/** Multiplications that must stand against each element converted to or from integers only for a node's sake. */
const worth = 16;

/**
 * Plans and calibrates.
 *
 * @throws PareError where there is no data, it is NaN, or the runtime refuses the model
 */
export async function setUp(graph: Graph, samples: Samples, options: Options, context: Context): Promise<Setup> {
  const types = await observeTypes(graph, context.runtime, await firstOf(samples.calibration, graph, context));
  const planned = { ...planOptions(options), chosen: selector(options) };
  const plan = makePlan(graph, types, planned);
  const calibration = await observe({ graph, types, plan, options, context }, samples.calibration);
  const blocked = infinite(calibration);
  const usable = blocked.size === 0 ? plan : makePlan(graph, types, { ...planned, blocked });
  const widths = widthsOf(graph, usable, options);
  return { graph, types, plan: usable, widths, reduced: new Set(), calibration, options, context };
}

/** Calibrates what a plan needs. */
export async function observe(
  { graph, types, plan, options, context }: Omit<Setup, "calibration" | "widths" | "reduced">,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
): Promise<Calibration> {
  const { biasCorrection, equalize, weightScales, rounding } = options;
  const seen = biasCorrection || equalize || weightScales === "weighted" || rounding !== "nearest";
  const channels = seen ? inputChannels(graph, plan, types) : new Map<string, ReadonlySet<number>>();
  const sources = [...plan.values.values()].filter((name) => !plan.fixed.has(name));
  const available = context.data?.size() ?? Number.POSITIVE_INFINITY;
  const wanted = new Set([...sources, ...channels.keys()]);
  const names = [...graph.inputs.map(({ name }) => name), ...intermediates(graph)].filter((name) => wanted.has(name));
  return calibrate(graph, context.runtime, names, feeds, {
    channels,
    histograms: options.method === "auto" || !isByExtremes(options.method),
    signal: context.signal,
    progress: (done) => context.progress(done, Math.min(options.samples, available), "samples"),
  });
}

/** Values that were infinite on the data: no grid spans them. */
function infinite({ tensors }: Calibration): ReadonlySet<string> {
  return new Set([...tensors].flatMap(([name, tensor]) => (tensor.infinite ? [name] : [])));
}

function planOptions(options: Options): Omit<PlanOptions, "chosen"> {
  return {
    depthwise: options.depthwise === "quantize" || (options.depthwise === "auto" && options.perChannel),
    activationProducts: options.activationProducts,
    worth: options.target === "latency" ? worth : 0,
    integerOutputs: options.format === "qoperator",
    absorb: !options.symmetricActivations,
    blocked: new Set(),
  };
}

/** The plan for some of the compute nodes alone. */
export function restrict({ graph, types, plan, calibration, options }: Setup, only: ReadonlySet<Node>): Plan {
  const chosen = selector(options);
  const part = makePlan(graph, types, {
    ...planOptions(options),
    chosen: (node) => (kindOf(node, graph) === "compute" ? only.has(node) : chosen(node)),
    worth: 0,
    blocked: infinite(calibration),
  });
  return { ...part, left: plan.left };
}

/** What learning found: constants, and ranges of values. */
export interface LearnedRounding extends Learned {
  readonly ranges: ReadonlyMap<string, Range>;
}

/** How a plan is written. */
export interface Writing {
  readonly method: RangeMethod;
  /** Biases corrected for the rounding of weights. */
  readonly corrected: boolean;
  readonly learned?: LearnedRounding;
}

/** Writes a plan, or part of it. */
export function write(setup: Setup, plan: Plan, writing: Writing): Graph {
  const { format, activationType } = setup.options;
  const { graph } = writeQdq(setup, plan, writing);
  if (format === "qoperator") return toQOperator(graph);
  return activationType.endsWith("16") ? graph : padIntegers(graph);
}

/** The same with DequantizeLinear and QuantizeLinear whatever the format, and what values are called in it. */
export function writeQdq(setup: Setup, plan: Plan, writing: Writing): Placed {
  const { learned, method } = writing;
  const found = rangesFor(setup, plan, method);
  const ranges = learned
    ? new Map([...found].map(([name, range]) => [name, learned.ranges.get(name) ?? range]))
    : found;
  return emit(setup.graph, plan, ranges, emitOptions(setup, writing));
}

/** How constants are written. */
export function emitOptions(setup: Setup, { corrected, learned }: Writing): EmitOptions {
  const { options, widths, reduced, calibration } = setup;
  const { weightScales, portable, portableLayers } = options;
  return {
    ...options,
    weightScales: weightScales === "auto" ? (narrowestWeight(options) < 8 ? "mse" : "min-max") : weightScales,
    // fewer bits fit as they are
    reduceRange: (weight) =>
      portable && widths.weight(weight) === 8 && (portableLayers === "all" || reduced.has(weight)),
    widths,
    corrected,
    calibration,
    ...(learned && { learned }),
  };
}

const rangeCache = new WeakMap<Calibration, Map<string, Range>>();

/** The ranges of a plan's values by a method. */
export function rangesFor(setup: Setup, plan: Plan, method: RangeMethod): ReadonlyMap<string, Range> {
  const { plan: full, calibration, options } = setup;
  const cached = rangeCache.get(calibration) ?? new Map<string, Range>();
  rangeCache.set(calibration, cached);
  const ranges = new Map<string, Range>();
  for (const name of new Set(plan.values.values())) {
    if (plan.fixed.has(name)) continue;
    // in a part of the plan a value may have its own scale that in the whole has that of what it was moved from
    const source = calibration.tensors.has(name) ? name : (full.values.get(name) ?? name);
    const key = `${method} ${source}`;
    const range = cached.get(key) ?? full.fixed.get(source) ?? chosen(setup, source, method, options);
    cached.set(key, range);
    ranges.set(name, range);
  }
  return ranges;
}

function chosen({ calibration, widths }: Setup, name: string, method: RangeMethod, options: Options): Range {
  const { activationType: dtype, symmetricActivations: symmetric, percentile } = options;
  const bits = widths.value(name);
  return chooseRange(calibration.tensors.get(name)!, method, { dtype, symmetric, percentile, bits });
}

async function firstOf(feeds: AsyncIterable<Tensors>, graph: Graph, { data }: Context): Promise<Tensors> {
  for await (const feed of feeds) return feed;
  const batch = batchOf(graph);
  if (data && batch > 1) refuseShort(data, batch);
  return fail("quantize-static", "the data has no samples", "Give at least one");
}
