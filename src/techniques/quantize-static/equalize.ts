import type { Calibration } from "../../analysis/calibrate.ts";
import { edit } from "../../graph/edit.ts";
import { floatAttribute, type Graph, intAttribute, isNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { float32, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import type { Plan } from "./plan.ts";
import { constant, isDepthwise } from "./rules.ts";

/** Share of a Clip's bound that scaled channels may reach on the calibration data: unseen data reaches further. */
const margin = 0.5;

/** A convolution and all the convolutions that read its output, over nothing but channelwise homogeneous functions. */
interface Pair {
  readonly producer: Node;
  readonly consumers: readonly Node[];
  /** Upper bound of a Clip between them. */
  readonly bound: number;
}

/** No channel is scaled by more than this: far beyond, a channel was nearly dead on the calibration data. */
const mostScale = 32;

/**
 * Cross-layer equalization (Nagel et al. 2019, section 4.1), with activation ranges measured: each channel between two
 * convolutions is multiplied by k and divided again, f(k x) = k f(x), so that all channels fill the range that they
 * share. Producer rows have a scale each, so k costs nothing there. In the consumers' rows k competes with the other
 * channels: k = sqrt((w / W) (R / r)), r and w a channel's largest activation and largest weight relative to its row, R
 * and W the largest over channels. A depthwise consumer has a scale for each channel: k = R / r. Under Clip only channels
 * that stay well below its bound are raised, and no further than that they still do.
 * Undefined where there is nothing to equalize.
 */
export function equalize(graph: Graph, plan: Plan, calibration: Calibration): Graph | undefined {
  const rows = new Map<Node, Float64Array>();
  const columns = new Map<Node, Float64Array>();
  for (const pair of findPairs(graph, plan)) {
    const scales = channelScales(pair, graph, calibration);
    if (!scales) continue;
    rows.set(pair.producer, scales);
    for (const consumer of pair.consumers) columns.set(consumer, scales);
  }
  if (rows.size === 0) return undefined;
  return edit(graph, (draft) => {
    for (const node of new Set([...rows.keys(), ...columns.keys()])) {
      const [, w, b] = node.inputs;
      draft.weights.set(w!, scaledWeight(node, graph, rows.get(node), columns.get(node)));
      const up = rows.get(node);
      if (!b || !up) continue;
      const bias = toFloat32(graph.weights.get(b)!);
      const name = draft.constant(
        `${b}_equalized`,
        float32(
          [bias.length],
          bias.map((v, c) => v * up[c]!),
        ),
      );
      draft.replace(node, { ...node, inputs: [node.inputs[0]!, w!, name] });
    }
  });
}

function scaledWeight(node: Node, graph: Graph, rows?: Float64Array, columns?: Float64Array) {
  const weight = graph.weights.get(node.inputs[1]!)!;
  const [outs, perGroup] = [weight.shape[0]!, weight.shape[1]!];
  const taps = weight.shape.slice(2).reduce((a, b) => a * b, 1);
  const groupOuts = outs / intAttribute(node, "group", 1);
  const out = Float32Array.from(toFloat32(weight));
  for (let o = 0, at = 0; o < outs; o++) {
    const from = Math.floor(o / groupOuts) * perGroup;
    for (let i = 0; i < perGroup; i++) {
      const factor = (rows?.[o] ?? 1) / (columns?.[from + i] ?? 1);
      for (let k = 0; k < taps; k++) out[at++]! *= factor;
    }
  }
  return float32(weight.shape, out);
}

function findPairs(graph: Graph, plan: Plan): Pair[] {
  const { consumers } = links(graph);
  const own = (node: Node): boolean => consumers.get(node.inputs[1]!)?.length === 1;
  return [...plan.compute].flatMap((producer) => {
    if (!isNode(producer, "Conv") || !own(producer)) return [];
    const found: Node[] = [];
    const bound = walk(producer.outputs[0]!, graph, plan, found);
    return bound !== undefined && found.length > 0 && found.every(own) ? [{ producer, consumers: found, bound }] : [];
  });
}

/** Collects the convolutions behind a value; gives the smallest Clip bound on the way, or undefined for a dead end. */
function walk(name: string, graph: Graph, plan: Plan, found: Node[]): number | undefined {
  const { consumers, outputs } = links(graph);
  if (outputs.has(name)) return undefined;
  let bound = Number.POSITIVE_INFINITY;
  for (const node of consumers.get(name) ?? []) {
    if (node.inputs[0] !== name || node.inputs.indexOf(name, 1) > 0) return undefined;
    if (isNode(node, "Conv") && plan.compute.has(node)) {
      found.push(node);
      continue;
    }
    const limit = homogeneousBelow(node, graph);
    const behind = limit === undefined ? undefined : walk(node.outputs[0]!, graph, plan, found);
    if (limit === undefined || behind === undefined) return undefined;
    bound = Math.min(bound, limit, behind);
  }
  return bound;
}

/** Up to which magnitude f(k x) = k f(x) holds for each channel, k > 0; undefined where it does not. */
function homogeneousBelow(node: Node, graph: Graph): number | undefined {
  if (node.domain !== "" || node.outputs.length > 1) return undefined;
  switch (node.op) {
    case "Relu":
    case "LeakyRelu":
    case "MaxPool":
    case "AveragePool":
    case "GlobalAveragePool":
      return Number.POSITIVE_INFINITY;
    case "Clip": {
      const bounds = [1, 2].map((at) => {
        const given = node.inputs[at];
        const t = given ? constant(graph, given) : undefined;
        return given ? t && toNumbers(t)[0] : floatAttribute(node, at === 1 ? "min" : "max", at === 1 ? -1 : Infinity);
      });
      return bounds[0] === 0 ? bounds[1] : undefined;
    }
    default:
      return undefined;
  }
}

function channelScales({ consumers, bound }: Pair, graph: Graph, calibration: Calibration): Float64Array | undefined {
  const first = calibration.tensors.get(consumers[0]!.inputs[0]!)?.channels?.absMax;
  if (!first) return undefined;
  const reach = Float64Array.from(first);
  for (const node of consumers.slice(1)) {
    const absMax = calibration.tensors.get(node.inputs[0]!)?.channels?.absMax;
    if (absMax?.length !== reach.length) return undefined;
    for (const [c, r] of absMax.entries()) reach[c] = Math.max(reach[c]!, r);
  }
  const largest = reach.reduce((a, b) => Math.max(a, b), 0);
  const free = consumers.every((node) => isDepthwise(node, graph));
  const share = free ? undefined : weightShare(consumers, graph, reach.length);
  return reach.map((r, c) => {
    if (r === 0 || r > 0.99 * bound) return 1;
    const k = share ? Math.sqrt((share[c]! * largest) / r) : largest / r;
    const limited = Math.min(mostScale, Math.max(1 / mostScale, k));
    return Number.isFinite(bound) ? Math.max(1, Math.min(limited, (margin * bound) / r)) : limited;
  });
}

/** Largest weight of each input channel relative to the largest of its row, over all rows; the largest share is 1. */
function weightShare(consumers: readonly Node[], graph: Graph, channels: number): Float64Array {
  const share = new Float64Array(channels);
  for (const node of consumers) {
    const weight = graph.weights.get(node.inputs[1]!)!;
    const values = toFloat32(weight);
    const [outs, perGroup] = [weight.shape[0]!, weight.shape[1]!];
    const taps = weight.shape.slice(2).reduce((a, b) => a * b, 1);
    const groupOuts = outs / intAttribute(node, "group", 1);
    const largest = new Float64Array(perGroup);
    for (let o = 0, at = 0; o < outs; o++) {
      const from = Math.floor(o / groupOuts) * perGroup;
      let row = Number.MIN_VALUE;
      for (let i = 0; i < perGroup; i++) {
        let m = 0;
        for (const end = at + taps; at < end; at++) m = Math.max(m, Math.abs(values[at]!));
        largest[i] = m;
        row = Math.max(row, m);
      }
      for (let i = 0; i < perGroup; i++) share[from + i] = Math.max(share[from + i]!, largest[i]! / row);
    }
  }
  return share;
}
