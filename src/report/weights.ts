import { type Graph, isNode, makeGraph, type Node, nodeLabel } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import type { Runtime } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { type Tensor, toFloat32 } from "../tensor/tensor.ts";
import type { HistogramReport, WeightsReport } from "./report.ts";

const weighted = ["Conv", "ConvTranspose", "MatMul", "Gemm"];
const bins = 64;
const maxChannels = 256;
/** Larger weights would make the report slow to build for a picture that looks the same. */
const maxElements = 2 ** 25;

/**
 * The weights that a change has moved most: histograms before and after, ranges of the channels, signal to noise.
 *
 * @param limit layers at most, the worst first
 */
export async function weightReports(
  before: Graph,
  after: Graph,
  runtime: Runtime,
  limit = 6,
): Promise<readonly WeightsReport[]> {
  const successors = new Map(after.nodes.map((node) => [nodeLabel(node), node]));
  const found: WeightsReport[] = [];
  for (const node of before.nodes) {
    const name = node.inputs[1] ?? "";
    const weight = before.weights.get(name);
    if (!weighted.some((op) => isNode(node, op)) || !weight || dtypes[weight.dtype].kind !== "float") continue;
    const next = successors.get(nodeLabel(node));
    if (!next || next.inputs[1] === undefined || weight.size > maxElements) continue;
    const changed = await constantValue(after, next.inputs[1], runtime);
    if (!changed || changed === weight || changed.size !== weight.size) continue;
    found.push(reportOf(node, name, weight, changed));
  }
  return found
    .sort((a, b) => (a.sqnr ?? Number.POSITIVE_INFINITY) - (b.sqnr ?? Number.POSITIVE_INFINITY))
    .slice(0, limit);
}

/**
 * The value of something computed from constants alone, as floating point: a weight, or what DequantizeLinear makes of
 * one. Undefined where it depends on an input, or is no floating-point tensor.
 */
export async function constantValue(graph: Graph, value: string, runtime: Runtime): Promise<Tensor | undefined> {
  const direct = graph.weights.get(value);
  if (direct) return dtypes[direct.dtype].kind === "float" ? direct : undefined;
  const nodes = new Set<Node>();
  const { producer } = links(graph);
  const open = [value];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (graph.weights.has(name)) continue;
    const node = producer.get(name);
    if (!node) return undefined;
    if (!nodes.has(node)) open.push(...reads(node));
    nodes.add(node);
  }
  const part = makeGraph({
    ...graph,
    nodes: graph.nodes.filter((node) => nodes.has(node)),
    inputs: [],
    outputs: [{ name: value, type: { kind: "tensor", dtype: "float32" } }],
  });
  const used = new Set(part.nodes.flatMap((node) => [...reads(node)]));
  const session = await runtime.open({
    ...part,
    weights: new Map([...graph.weights].filter(([name]) => used.has(name))),
  });
  try {
    const result = (await session.run({}))[value];
    return result && dtypes[result.dtype].kind === "float" ? result : undefined;
  } finally {
    await session.release();
  }
}

function reportOf(node: Node, weight: string, before: Tensor, after: Tensor): WeightsReport {
  const [w, q] = [toFloat32(before), toFloat32(after)];
  const [min, max] = rangeOf(w);
  let [signal, noise] = [0, 0];
  for (let i = 0; i < w.length; i++) {
    signal += w[i]! ** 2;
    noise += (w[i]! - q[i]!) ** 2;
  }
  const outputs = isNode(node, "Conv") ? (before.shape[0] ?? 1) : 0;
  return {
    layer: nodeLabel(node),
    weight,
    before: histogramOf(w, min, max),
    after: histogramOf(q, min, max),
    ...(outputs > 0 && { channels: channelRanges(w, outputs) }),
    ...(noise > 0 && signal > 0 && { sqnr: 10 * Math.log10(signal / noise) }),
  };
}

function rangeOf(values: Float32Array): [min: number, max: number] {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return min < max ? [min, max] : [min - 1, min + 1];
}

/** Counts between `min` and `max`; what lies beyond counts in the outer bins. */
function histogramOf(values: Float32Array, min: number, max: number): HistogramReport {
  const counts = new Array<number>(bins).fill(0);
  const scale = bins / (max - min);
  for (const value of values) {
    const bin = Math.floor((value - min) * scale);
    counts[bin < 0 ? 0 : bin >= bins ? bins - 1 : bin]!++;
  }
  return { min, max, counts };
}

function channelRanges(values: Float32Array, channels: number): (readonly [number, number])[] {
  const size = values.length / channels;
  return Array.from({ length: Math.min(channels, maxChannels) }, (_, c) =>
    rangeOf(values.subarray(c * size, (c + 1) * size)),
  );
}
