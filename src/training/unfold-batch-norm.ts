import { edit } from "../graph/edit.ts";
import { float, floatAttribute, type Graph, isNode, makeNode, type Node, nodeLabel } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import { convertOpset } from "../ops/convert.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { float32, sizeOf, type Tensor, toFloat32 } from "../tensor/tensor.ts";

const epsilon = 1e-5;

/** What {@link unfoldBatchNorm} is told beyond the model and its data. */
export interface UnfoldOptions {
  /** Nodes that may get a normalization; all by default. */
  readonly selected?: (node: Node) => boolean;
  /** Called with a layer that stays as it is, and the reason. */
  readonly skip?: (node: string, reason: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Puts batch normalization back behind layers into whose weights it was folded.
 *
 * `Conv | Gemm with a bias b` => `k W without bias -> BatchNormalization`, with the mean m and the variance v of the
 * layer's output k W x over the data, scale = sqrt(v + epsilon) / k and offset = m / k + b: on statistics as observed the
 * network computes what it did. The factor k of each channel changes nothing either, since the normalization takes it out
 * again, but a step of training counts by the norm of the weights (van Laarhoven 2017): k makes it sqrt(2), that of He et
 * al.'s initialization (2015), so that rates mean what they do in networks trained with batch normalization. Layers without
 * another layer behind them are heads and stay; so do those that have a normalization.
 *
 * @param stream feeds to measure the statistics on, iterable more than once
 * @throws PareError where the runtime refuses model or feeds
 */
export async function unfoldBatchNorm(
  model: Graph,
  runtime: Runtime,
  stream: AsyncIterable<Tensors> | Iterable<Tensors>,
  options: UnfoldOptions = {},
): Promise<Graph> {
  // from operator set 9 on, BatchNormalization has the form of today
  const graph = (model.opsets[""] ?? 0) < 9 ? convertOpset(model, 13) : model;
  const { selected = () => true, skip = () => {}, signal } = options;
  const layers = graph.nodes.filter((node) => {
    if (!(isNode(node, "Conv") || isNode(node, "Gemm")) || !selected(node)) return false;
    const reason = reasonAgainst(graph, node);
    if (reason !== undefined) skip(nodeLabel(node), reason);
    return reason === undefined;
  });
  if (layers.length === 0) return graph;
  const moments = new Map(layers.map((node) => [node.outputs[0]!, new Moments()]));
  await observeValues(graph, runtime, [...moments.keys()], stream, (name, value) => moments.get(name)!.add(value), {
    ...(signal && { signal }),
  });
  return edit(graph, (draft) => {
    for (const node of layers) {
      const [x, w, b] = node.inputs as readonly [string, string, string];
      const [y] = node.outputs as readonly [string];
      const bias = toFloat32(graph.weights.get(b)!);
      const { mean, variance } = moments.get(y)!;
      const { weight, factors } = rescaled(graph, node);
      const vector = (stem: string, value: (c: number, k: number) => number): string =>
        draft.constant(
          `${y}/${stem}`,
          float32(
            [bias.length],
            Float32Array.from(bias, (_, c) => value(c, factors[c]!)),
          ),
        );
      const inputs = [
        vector("scale", (c, k) => Math.sqrt(k * k * variance(c) + epsilon) / k),
        vector("offset", mean),
        vector("mean", (c, k) => k * (mean(c) - bias[c]!)),
        vector("variance", (c, k) => k * k * variance(c)),
      ];
      draft.weights.set(w, weight);
      const plain = draft.fresh(`${y}/unbiased`);
      const attributes = { epsilon: float(epsilon) };
      const name = draft.fresh(`${node.name || node.op}/BatchNormalization`);
      draft.replace(
        node,
        { ...node, inputs: [x, w], outputs: [plain] },
        makeNode("BatchNormalization", [plain, ...inputs], [y], attributes, name),
      );
    }
  });
}

/** A layer's weights with the norm of every output channel made sqrt(2), and the factors that do so. */
function rescaled(graph: Graph, node: Node): { weight: Tensor; factors: Float64Array } {
  const weight = graph.weights.get(node.inputs[1]!)!;
  const values = toFloat32(weight).slice();
  const byColumn = isNode(node, "Gemm") && node.attributes.transB?.value !== 1;
  const channels = weight.shape[byColumn ? 1 : 0]!;
  const channel = byColumn
    ? (i: number): number => i % channels
    : (i: number): number => Math.floor(i / (values.length / channels));
  const factors = new Float64Array(channels);
  for (const [i, value] of values.entries()) factors[channel(i)]! += value * value;
  for (const [c, square] of factors.entries()) factors[c] = square > 0 ? Math.sqrt(2 / square) : 1;
  for (const [i, value] of values.entries()) values[i] = value * factors[channel(i)]!;
  return { weight: float32(weight.shape, values), factors };
}

/** Why a layer gets no normalization. */
function reasonAgainst(graph: Graph, node: Node): string | undefined {
  const bias = graph.weights.get(node.inputs[2] ?? "");
  if (!bias) return "it has no constant bias, so nothing was folded into it";
  if (bias.dtype !== "float32") return `its bias is ${bias.dtype}`;
  const weight = graph.weights.get(node.inputs[1]!);
  if (!weight) return "its weights are computed";
  if (links(graph).consumers.get(node.inputs[1]!)!.length > 1) return "its weights are used elsewhere too";
  if (isNode(node, "Gemm")) {
    const channels = weight.shape[node.attributes.transB?.value === 1 ? 0 : 1]!;
    if (bias.size !== channels || floatAttribute(node, "beta", 1) !== 1) return "its bias is not one value a channel";
  }
  const readers = links(graph).consumers.get(node.outputs[0]!) ?? [];
  if (readers.some((reader) => isNode(reader, "BatchNormalization"))) return "it is followed by a normalization";
  return feedsLayer(graph, node.outputs[0]!) ? undefined : "it is the network's head";
}

const layerOps = new Set(["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"]);

/** Whether a value reaches another layer. */
function feedsLayer(graph: Graph, value: string): boolean {
  const { consumers } = links(graph);
  const seen = new Set([value]);
  for (const name of seen) {
    for (const reader of consumers.get(name) ?? []) {
      if (reader.domain === "" && layerOps.has(reader.op)) return true;
      for (const output of reader.outputs) seen.add(output);
    }
  }
  return false;
}

/** Mean and variance of each channel (axis 1) over a stream of tensors, merged as by Chan et al. (1979). */
class Moments {
  #count = 0;
  #means = new Float64Array();
  #squares = new Float64Array();

  add(x: Tensor): void {
    const values = toFloat32(x);
    const [n = 0, channels = 0, ...inner] = x.shape;
    const area = sizeOf(inner);
    const size = n * area;
    if (this.#count === 0) {
      this.#means = new Float64Array(channels);
      this.#squares = new Float64Array(channels);
    }
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        const from = (i * channels + c) * area;
        for (let k = from; k < from + area; k++) sum += values[k]!;
      }
      const mean = sum / size;
      let squares = 0;
      for (let i = 0; i < n; i++) {
        const from = (i * channels + c) * area;
        for (let k = from; k < from + area; k++) squares += (values[k]! - mean) ** 2;
      }
      const gap = mean - this.#means[c]!;
      this.#means[c]! += (gap * size) / (this.#count + size);
      this.#squares[c]! += squares + (gap * gap * this.#count * size) / (this.#count + size);
    }
    this.#count += size;
  }

  readonly mean = (channel: number): number => this.#means[channel]!;
  readonly variance = (channel: number): number => this.#squares[channel]! / this.#count;
}
