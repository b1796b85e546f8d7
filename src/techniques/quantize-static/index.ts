import { z } from "zod";
import { type Calibration, calibrate } from "../../analysis/calibrate.ts";
import { type ObservedType, observeTypes } from "../../analysis/observe.ts";
import { type Reference, reference, signalToNoise } from "../../analysis/output-error.ts";
import { chooseRange, type Range, rangeMethods } from "../../analysis/ranges.ts";
import { fail } from "../../errors.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { selectionOptions, selector } from "../selection.ts";
import { simplify } from "../simplify/index.ts";
import { type Context, technique } from "../technique.ts";
import { inputMeans } from "./bias.ts";
import { type EmitOptions, emit } from "./emit.ts";
import { makePlan, type Plan } from "./plan.ts";

const options = z.object({
  ...selectionOptions,
  format: z.enum(["qdq", "qoperator"]).default("qdq").describe("qdq (portable) or qoperator (for old runtimes)"),
  activationType: z.enum(["uint8", "int8", "uint16", "int16"]).default("uint8").describe("type of activations"),
  weightType: z.enum(["int8", "uint8"]).default("int8").describe("type of weights"),
  perChannel: z.boolean().default(true).describe("one scale an output channel of a weight instead of one in all"),
  symmetricActivations: z.boolean().default(false).describe("zero in the middle of the activations' integers"),
  symmetricWeights: z.boolean().default(true).describe("zero in the middle of the weights' integers"),
  portable: z.boolean().default(false).describe("7-bit weights: exact on processors without VNNI too"),
  method: z
    .enum(["auto", ...rangeMethods])
    .default("auto")
    .describe("how activation ranges are chosen; auto tries all and keeps the one with the least output error"),
  percentile: z.number().min(50).max(100).default(99.999).describe("share of elements kept by method percentile"),
  samples: z.number().int().min(1).default(128).describe("calibration samples"),
  target: z.enum(["latency", "size"]).default("latency").describe("leave float what would not get faster, or nothing"),
  depthwise: z
    .enum(["auto", "quantize", "float"])
    .default("auto")
    .describe("depthwise convolutions; auto: float where the target is latency"),
  activationProducts: z.boolean().default(false).describe("quantize products of two activations (attention) as well"),
  biasCorrection: z.boolean().default(true).describe("correct biases for the rounding of weights, where that helps"),
  simplify: z.boolean().default(true).describe("simplify first: batch normalization must be folded"),
});

type Options = z.output<typeof options>;

/**
 * Runs convolutions and matrix products on 8-bit integers with ranges found on sample data:
 * `Conv(x, w, b) -> DQ(Q(Conv(DQ(Q(x)), DQ(wq), DQ(bq))))`, x = s (q - z), which ONNX Runtime fuses to integer kernels.
 * Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018;
 * Nagel et al., "A White Paper on Neural Network Quantization", 2021.
 */
export const quantizeStatic = technique({
  name: "quantize-static",
  summary: "Run convolutions and matrix products on 8-bit integers, with activation ranges found on sample data.",
  options,
  data: "required",
  async apply(input, options, context) {
    const graph = await prepare(input, options, context);
    const feeds = sampleFeeds(graph, options, context);
    const types = await observeTypes(graph, context.runtime, await firstOf(feeds));
    let plan = planOf(graph, types, options, context);
    if (plan.compute.size === 0) return input;
    const { calibration, plan: usable } = await observeRanges(graph, types, plan, feeds, options, context);
    plan = usable;
    if (plan.compute.size === 0) return input;
    return search(graph, plan, calibration, options, context);
  },
});

async function prepare(input: Graph, options: Options, context: Context): Promise<Graph> {
  return options.simplify ? simplify().apply(input, { ...context, skip: () => {} }) : input;
}

/** The calibration samples as feeds, one a run (or as many as a fixed batch size asks for). */
function sampleFeeds(graph: Graph, options: Options, context: Context, skip = 0): AsyncIterable<Tensors> {
  const data = context.data ?? fail("quantize-static", "needs samples to find ranges on", "Give data");
  const first = graph.inputs.find(({ type }) => type?.kind === "tensor" && (type.shape?.length ?? 0) > 0)?.type;
  const fixed = first?.kind === "tensor" ? first.shape?.[0] : undefined;
  const batch = typeof fixed === "number" && fixed > 0 ? fixed : 1;
  const seed = context.random.fork("calibration").int(2 ** 31);
  return {
    async *[Symbol.asyncIterator]() {
      for await (const { inputs, size } of data.batches({ batch, limit: options.samples * batch, skip, seed })) {
        if (size === batch) yield inputs;
      }
    },
  };
}

async function firstOf(feeds: AsyncIterable<Tensors>): Promise<Tensors> {
  for await (const feed of feeds) return feed;
  return fail("quantize-static", "the data has no samples", "Give at least one");
}

function planOf(
  graph: Graph,
  types: ReadonlyMap<string, ObservedType>,
  options: Options,
  context: Context,
  blocked: ReadonlySet<string> = new Set(),
): Plan {
  const latency = options.target === "latency";
  return makePlan(graph, types, {
    chosen: selector(options),
    depthwise: options.depthwise === "quantize" || (options.depthwise === "auto" && !latency),
    activationProducts: options.activationProducts,
    worth: latency ? 16 : 0,
    absorb: !options.symmetricActivations,
    blocked,
    skip: context.skip,
  });
}

async function observeRanges(
  graph: Graph,
  types: ReadonlyMap<string, ObservedType>,
  plan: Plan,
  feeds: AsyncIterable<Tensors>,
  options: Options,
  context: Context,
): Promise<{ calibration: Calibration; plan: Plan }> {
  const sources = [...new Set(plan.values.values())].filter((name) => !plan.fixed.has(name));
  const channels = options.biasCorrection ? inputMeans(graph, plan, types) : new Map<string, number>();
  const names = [...new Set([...sources, ...channels.keys()])];
  const calibration = await calibrate(graph, context.runtime, names, feeds, {
    channels,
    signal: context.signal,
    progress: (done) => context.progress(done, options.samples, "samples"),
  });
  if (calibration.samples < 16) {
    context.log(`only ${calibration.samples} samples: ranges may be too narrow; 100 or more are usual`);
  } else if ((calibration.growth ?? 0) > 0.2) {
    const growth = (100 * calibration.growth!).toFixed(0);
    context.log(`the later half of the samples still widened ranges by ${growth} %: more samples would help`);
  }
  const infinite = names.filter((name) => calibration.tensors.get(name)?.infinite);
  if (infinite.length === 0) return { calibration, plan };
  return { calibration, plan: planOf(graph, types, options, context, new Set(infinite)) };
}

/** Samples that candidates are compared on. */
const trialSamples = 32;

async function search(
  graph: Graph,
  plan: Plan,
  calibration: Calibration,
  options: Options,
  context: Context,
): Promise<Graph> {
  const wanted = await trialReference(graph, options, context);
  const emitOptions: EmitOptions = { ...options, reduceRange: options.portable };
  let best: { graph: Graph; quality: number; method: string } | undefined;
  let bestRanges: ReadonlyMap<string, Range> = new Map();
  const methods = options.method === "auto" ? rangeMethods : [options.method];
  for (const method of methods) {
    context.signal.throwIfAborted();
    const ranges = rangesBy(method, plan, calibration, options);
    const candidate = emit(graph, plan, ranges, emitOptions);
    const quality = await signalToNoise(candidate, context.runtime, wanted);
    if (!best || quality > best.quality) {
      best = { graph: candidate, quality, method };
      bestRanges = ranges;
    }
  }
  if (options.biasCorrection) {
    const corrected = emit(graph, plan, bestRanges, emitOptions, calibration);
    const quality = await signalToNoise(corrected, context.runtime, wanted);
    if (quality > best!.quality) best = { ...best!, graph: corrected, quality };
  }
  context.log(`ranges by ${best!.method}, outputs at ${best!.quality.toFixed(1)} dB signal to noise`);
  return best!.graph;
}

async function trialReference(graph: Graph, options: Options, context: Context): Promise<Reference> {
  for (const skip of [options.samples, 0]) {
    const feeds: Tensors[] = [];
    for await (const feed of sampleFeeds(graph, options, context, skip)) {
      if (feeds.push(feed) === trialSamples) break;
    }
    if (feeds.length >= trialSamples / 2 || skip === 0) return reference(graph, context.runtime, feeds);
  }
  return fail("quantize-static", "the data has no samples", "Give at least one");
}

function rangesBy(
  method: (typeof rangeMethods)[number],
  plan: Plan,
  calibration: Calibration,
  options: Options,
): Map<string, Range> {
  const settings = {
    dtype: options.activationType,
    symmetric: options.symmetricActivations,
    percentile: options.percentile,
  };
  const ranges = new Map<string, Range>();
  for (const source of new Set(plan.values.values())) {
    const observed = calibration.tensors.get(source);
    if (observed && !plan.fixed.has(source)) ranges.set(source, chooseRange(observed, method, settings));
  }
  return ranges;
}
