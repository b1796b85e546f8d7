import { fail } from "../../errors.ts";
import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { convertOpset } from "../../ops/convert.ts";
import { checkLayerValues } from "../layer-values.ts";
import { simplify } from "../simplify/index.ts";
import { type Context, technique } from "../technique.ts";
import { narrowestActivation, narrowestWeight, type Options, options } from "./options.ts";
import { portableSamples, reduceSaturating, reportSaturation } from "./portable.ts";
import { rangesExhibit } from "./ranges-exhibit.ts";
import { kindOf, neverInteger, obstacle, weightOf } from "./rules.ts";
import { divideSamples } from "./samples.ts";
import { isDecided, layerSensitivity, mostTrials, search, withLearnedRounding } from "./search.ts";
import { type Setup, setUp } from "./setup.ts";
import { layersOf } from "./widths.ts";

/**
 * Runs convolutions and matrix products on 8-bit integers with ranges found on sample data:
 * `Conv(x, w, b) -> DQ(Q(Conv(DQ(Q(x)), DQ(wq), DQ(bq))))`, x = s (q - z), which ONNX Runtime fuses to integer kernels.
 * Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018;
 * Nagel et al., "A White Paper on Neural Network Quantization", 2021.
 *
 * Tried, with the outputs' signal-to-noise ratio in decibels:
 * - bias correction: MobileNet v1 0.25 from 10.8 to 19.3, FastestDet from 13.4 to 14.0; kept wherever it measures better.
 * - equalization: DS-CNN 32.8 to 34.4, FastestDet 14.0 to 15.1. Raising channels to 95 % of a Clip's bound changed
 *   MobileNet's float outputs on other images (14 dB); half the bound does not.
 * - depthwise convolutions left float between integer neighbours: MobileNet 0.3 instead of 20, since the runtime then
 *   rounds their weights itself, with one scale. A Max before QuantizeLinear stops it (emit.ts), but gains no time.
 * - one layer left float: the mel filter bank of KWT-1, whose output goes into a logarithm: 97.6 % instead of 85.4 %.
 * - the same however much of the work such layers are, where outputs are below 20 dB: Silero from 18.0 to 33.6 (its spectrum
 *   and what reads it), GTCRN from 7.2 to 28.2; with no more than a tenth of the work nothing could be left float there.
 * - ranges that clip nothing where outputs are above 35 dB all the same: boxes of UltraFace overlap by 0.97 instead of 0.94.
 * - one scale for what a Concat joins: SqueezeNet 33.7 to 34.4, and the joining takes a fifth of the time.
 * - comparing candidates after a final softmax: on 25 samples ResNet-8 then took ranges 7 dB worse than the best.
 */
export const quantizeStatic = technique({
  name: "quantize-static",
  summary: "Run convolutions and matrix products on 8-bit integers, with activation ranges found on sample data.",
  options,
  data: "required",
  identity: { exclude: ["*"] },
  applies: (node, graph) =>
    kindOf(node, graph) === "compute"
      ? (obstacle(node, graph) ?? (weightOf(node, graph) ? true : "both of its operands are activations"))
      : (neverInteger(node) ?? "it does not multiply with a weight"),
  async apply(input, options, context) {
    check(options);
    const graph = await prepared(input, options, context);
    checkLayers(graph, options);
    const learns = options.rounding !== "nearest";
    const trials = isDecided(options) && !learns ? 0 : mostTrials;
    const samples = await divideSamples(graph, options.samples, trials, context);
    const setup = await setUp(graph, samples, options, context);
    if (setup.plan.compute.size === 0) {
      for (const [node, reason] of setup.plan.left) context.skip(nodeLabel(node), reason);
      return input;
    }
    adviseOnSamples(setup);
    const pairs = samples.learning(portableSamples);
    const checks = options.portable && options.weightType === "int8" && options.activationType.endsWith("int8");
    const found = await search(setup, samples);
    const safe = checks && options.portableLayers === "saturating" ? await reduceSaturating(found, pairs) : found;
    const best = learns ? await withLearnedRounding(safe, samples) : safe;
    if (checks) await reportSaturation(best, pairs);
    for (const [node, reason] of best.plan.left) context.skip(nodeLabel(node), reason);
    const ranges = rangesExhibit(best);
    if (ranges) context.show(ranges);
    const means = [`ranges by ${best.method}`];
    if (best.setup.graph !== graph) means.push("equalized channels");
    if (best.corrected) means.push("corrected biases");
    if (best.learned) means.push(`rounding learned by ${options.rounding}`);
    const quality = best.quality === undefined ? "" : `: outputs at ${best.quality.toFixed(1)} dB signal to noise`;
    context.log(means.join(", ") + quality);
    return best.graph;
  },
});

/** How a layer alone changes the outputs. */
export interface LayerSensitivity {
  /** The node's label; kept nodes have their names in the graph given. */
  readonly node: string;
  /** Signal-to-noise ratio of the outputs when only this layer is quantized, in decibels. */
  readonly quality: number;
}

/**
 * What quantizing each layer alone does to the outputs, worst first: what to `exclude` when the whole is too inexact.
 *
 * @param settings options of {@link quantizeStatic}
 * @throws PareError where options contradict each other, there is no data, or the runtime refuses the model
 */
export async function staticSensitivity(
  graph: Graph,
  settings: Parameters<typeof quantizeStatic>[0],
  context: Context,
): Promise<readonly LayerSensitivity[]> {
  const bound = options.parse(settings ?? {});
  check(bound);
  const found = await layerSensitivity(await prepared(graph, bound, context), bound, context);
  return found.map(({ node, quality }) => ({ node: nodeLabel(node), quality }));
}

/** First operator set with scales along an axis, with 4-bit and 16-bit integers, and with 2-bit ones. */
const perAxisOpset = 13;
const wideOpset = 21;
const narrowestOpset = 25;

/** The graph as it is planned: at an operator set that has what is written, and simplified. */
export async function prepared(input: Graph, options: Options, context: Context): Promise<Graph> {
  const { activationType, packed } = options;
  const wide = activationType.endsWith("16") || packed;
  const opset = packed && narrowestWeight(options) <= 2 ? narrowestOpset : wide ? wideOpset : perAxisOpset;
  const graph = convertOpset(input, opset);
  return options.simplify ? simplify().apply(graph, { ...context, skip: () => {} }) : graph;
}

/** Refuses options that contradict each other. */
function check(options: Options): void {
  const who = "quantize-static";
  const [weightBits, activationBits] = [narrowestWeight(options), narrowestActivation(options)];
  // of int8 the runtime makes uint8 before it looks for kernels, but not where a Clip follows
  if (activationBits < 8 && options.activationType !== "uint8")
    fail(who, `activations of ${activationBits} bits are held in uint8, got ${options.activationType}`, "Choose uint8");
  if (options.packed && weightBits > 4)
    fail(who, `only weights of 4 bits or fewer can be packed, got ${weightBits}`, "Lower --weight-bits");
  if (options.format !== "qoperator") return;
  if (options.activationType.endsWith("16"))
    fail(
      who,
      `format qoperator has activations of 8 bits, got ${options.activationType}`,
      "Choose uint8, or format qdq",
    );
  if (options.activationType === "int8" && options.weightType === "uint8")
    fail(who, "format qoperator has no uint8 weights beside int8 activations", "Choose int8 weights, or format qdq");
}

/** Refuses bits for layers that are not there. */
function checkLayers(graph: Graph, { layerBits, layerActivationBits }: Options): void {
  const layers = layersOf(graph, graph.nodes);
  const weighted = layers.filter(({ weight }) => weight !== undefined);
  checkLayerValues(layerBits, weighted, graph, "quantize-static", "--layer-bits");
  checkLayerValues(layerActivationBits, layers, graph, "quantize-static", "--layer-activation-bits");
}

function adviseOnSamples({ calibration: { samples, growth = 0 }, context }: Setup): void {
  if (samples < 16) {
    context.log(`only ${samples} samples: ranges may be too narrow; 100 or more are usual`);
  } else if (growth > 0.2) {
    context.log(`the later half of the samples widened ranges by ${(100 * growth).toFixed(0)} %: more would help`);
  }
}
