import { type Calibration, calibrate } from "../../analysis/calibrate.ts";
import { chooseRange, isByExtremes, type Range, type RangeMethod } from "../../analysis/ranges.ts";
import { fail } from "../../errors.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { intermediates, type ObservedType, observeTypes } from "../../platform/observe.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { selector } from "../selection.ts";
import type { Context } from "../technique.ts";
import { inputMeans } from "./bias.ts";
import { emit } from "./emit.ts";
import type { Options } from "./options.ts";
import { makePlan, type Plan, type PlanOptions } from "./plan.ts";
import { toQOperator } from "./qoperator.ts";
import { kindOf } from "./rules.ts";
import type { Samples } from "./samples.ts";

/** A float graph with all that is needed to quantize any part of it. */
export interface Setup {
  readonly graph: Graph;
  readonly types: ReadonlyMap<string, ObservedType>;
  /** Everything that may be quantized. */
  readonly plan: Plan;
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
  const types = await observeTypes(graph, context.runtime, await firstOf(samples.calibration));
  const planned = { ...planOptions(options), chosen: selector(options) };
  const plan = makePlan(graph, types, planned);
  const calibration = await observe({ graph, types, plan, options, context }, samples.calibration);
  const blocked = infinite(calibration);
  if (blocked.size === 0) return { graph, types, plan, calibration, options, context };
  const usable = makePlan(graph, types, { ...planned, blocked });
  return { graph, types, plan: usable, calibration, options, context };
}

/** Calibrates what a plan needs. */
export async function observe(
  { graph, types, plan, options, context }: Omit<Setup, "calibration">,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
): Promise<Calibration> {
  const channels = options.biasCorrection || options.equalize ? inputMeans(graph, plan, types) : new Map();
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

/** Writes a plan, or part of it, with ranges by a method; biases corrected if wanted. */
export function write(setup: Setup, plan: Plan, method: RangeMethod, corrected: boolean): Graph {
  const { graph, options, calibration } = setup;
  const settings = { ...options, reduceRange: options.portable };
  const written = emit(graph, plan, rangesFor(setup, plan, method), settings, corrected ? calibration : undefined);
  return options.format === "qoperator" ? toQOperator(written) : written;
}

const rangeCache = new WeakMap<Calibration, Map<string, Range>>();

function rangesFor(setup: Setup, plan: Plan, method: RangeMethod): ReadonlyMap<string, Range> {
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

function chosen({ calibration }: Setup, name: string, method: RangeMethod, options: Options): Range {
  const { activationType: dtype, symmetricActivations: symmetric, percentile } = options;
  return chooseRange(calibration.tensors.get(name)!, method, { dtype, symmetric, percentile });
}

async function firstOf(feeds: AsyncIterable<Tensors>): Promise<Tensors> {
  for await (const feed of feeds) return feed;
  return fail("quantize-static", "the data has no samples", "Give at least one");
}
