import { PareError } from "../../errors.ts";
import { type Graph, isNode, type Node, nodeLabel } from "../../graph/graph.ts";
import { convertOpset } from "../../ops/convert.ts";
import { observeTypes } from "../../platform/observe.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { productReader, type Reader, type ScalableChannels, scalableChannels } from "../channel-scaling/places.ts";
import { scaleChannels } from "../channel-scaling/scale.ts";
import { convolutionPairs, type Pair } from "../equalization/pairs.ts";
import { rescaled, visitWeight } from "../equalization/rescale.ts";
import { hoistConstants } from "../hoist-constants.ts";
import { obstacle } from "../quantize-static/rules.ts";
import { sampleFeeds } from "../sample-feeds.ts";
import { selector } from "../selection.ts";
import { simplify } from "../simplify/index.ts";
import { type Context, technique } from "../technique.ts";
import { type EqualizeLayersOptions, equalizeLayersOptions } from "./options.ts";
import { equalizingScales, type Joint, type LayerWeight } from "./scales.ts";

const who = "equalize-layers";

/**
 * Evens out the sizes of channels between layers, so that they fit one grid of integers better; what the model computes stays
 * the same, and no data is needed.
 *
 *     W2 f(W1 x + b1)  =>  (W2 / k) f(k W1 x + k b1),   f(k x) = k f(x),   k_c = sqrt(max|W2_c| / max|W1_c|)
 *
 * f is Relu, LeakyRelu, PRelu, pooling, or nothing; Clip is left alone, or bounds each channel on its own. Between
 * convolutions, depthwise ones included, and between products of matrices. Cross-layer equalization: Nagel et al. 2019.
 */
export const equalizeLayers = technique({
  name: who,
  summary: "Even out channels between layers before quantization, without data; changes no result.",
  options: equalizeLayersOptions,
  data: "optional",
  identity: { exclude: ["*"] },
  applies: (node, graph) => {
    if (isNode(node, "Conv")) return obstacle(node, graph) ?? true;
    return productReader(graph, node) !== undefined || "it does not multiply with a constant matrix";
  },
  async apply(input, options, context) {
    const hoisted = hoistConstants(options.clips === "min" ? convertOpset(input, minOpset) : input, 1);
    const graph = options.simplify ? await simplify().apply(hoisted, { ...context, skip: () => {} }) : hoisted;
    const pairs = pairsOf(graph, options, context);
    const products = await productsOf(graph, options, context);
    const joints = new Map<Joint, Pair | ScalableChannels>([
      ...pairs.map((pair) => [convolutionJoint(graph, pair), pair] as const),
      ...products.map((at) => [productJoint(graph, at), at] as const),
    ]);
    context.log(`equalized the channels between layers at ${joints.size} places`);
    if (joints.size === 0) return input;
    const scales = equalizingScales([...joints.keys()], options.mostScale);
    const between = new Map<Pair, Float64Array>();
    const scalings: Parameters<typeof scaleChannels>[1][number][] = [];
    for (const [joint, place] of joints) {
      const own = scales.get(joint)!;
      if ("sources" in place) scalings.push({ at: place, scales: own.map((k) => 1 / k) });
      else between.set(place, own);
    }
    return rescaled(scaleChannels(graph, scalings), between, options.clips);
  },
});

/** First operator set whose Min broadcasts. */
const minOpset = 8;

/** The pairs of convolutions that may be changed. */
function pairsOf(graph: Graph, options: EqualizeLayersOptions, context: Context): readonly Pair[] {
  const select = selector(options);
  const isLayer = (node: Node): boolean => select(node) && obstacle(node, graph) === undefined;
  const { pairs, refused } = convolutionPairs(graph, isLayer);
  for (const { node, reason } of refused) context.skip(nodeLabel(node), reason);
  return pairs.filter(({ producer, clips }) => {
    if (options.clips === "min") return true;
    const [clip] = clips.keys();
    if (clip) {
      const label = `'${nodeLabel(clip)}' (Clip)`;
      context.skip(
        nodeLabel(producer),
        `${label} would clip its channels elsewhere; clips: min gives each its own bound`,
      );
    }
    return !clip;
  });
}

/** Where products of matrices follow on others. */
async function productsOf(
  graph: Graph,
  options: EqualizeLayersOptions,
  context: Context,
): Promise<readonly ScalableChannels[]> {
  if (!graph.nodes.some((node) => productReader(graph, node))) return [];
  try {
    const types = await observeTypes(graph, context.runtime, await sampleFeeds(graph, context, who));
    const { found, refused } = scalableChannels(graph, types, selector(options));
    for (const { node, reason } of refused) context.skip(nodeLabel(node), reason);
    return found.filter((at) => {
      const made = producerOf(at) !== undefined;
      const reason = "a normalization makes what it reads: smooth-activations scales that, by data";
      if (!made) for (const { node } of at.readers) context.skip(nodeLabel(node), reason);
      return made;
    });
  } catch (error) {
    if (context.signal.aborted || !(error instanceof PareError)) throw error;
    context.log(`products of matrices are left alone: ${error.message}`);
    return [];
  }
}

function convolutionJoint(graph: Graph, { producer, consumers }: Pair): Joint {
  const weight = (node: Node): LayerWeight => {
    const tensor = graph.weights.get(node.inputs[1]!)!;
    return { name: node.inputs[1]!, values: toFloat32(tensor), visit: (visitor) => visitWeight(node, tensor, visitor) };
  };
  const channels = graph.weights.get(producer.inputs[1]!)!.shape[0]!;
  return { channels, producer: weight(producer), consumers: consumers.map(weight) };
}

/** The product that makes some channels: its matrix, and the axis that is summed over. */
function producerOf({ sources }: ScalableChannels): Omit<Reader, "node"> | undefined {
  for (const { name, axis } of sources) if (axis !== "last") return { weight: name, axis: 1 - axis };
  return undefined;
}

function productJoint(graph: Graph, at: ScalableChannels): Joint {
  const consumers = new Map(at.readers.map((reader) => [reader.weight, matrix(graph, reader)]));
  return { channels: at.channels, producer: matrix(graph, producerOf(at)!), consumers: [...consumers.values()] };
}

function matrix(graph: Graph, { weight, axis }: Omit<Reader, "node">): LayerWeight {
  const tensor = graph.weights.get(weight)!;
  const [rows, columns] = tensor.shape as [number, number];
  return {
    name: weight,
    values: toFloat32(tensor),
    visit(visitor) {
      for (let r = 0, at = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++, at++) visitor(at, axis === 0 ? c : r, axis === 0 ? r : c);
      }
    },
  };
}
