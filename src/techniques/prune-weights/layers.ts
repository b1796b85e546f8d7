import { didYouMean, fail } from "../../errors.ts";
import { type Graph, intAttribute, type Node, nodeLabel } from "../../graph/graph.ts";
import { matcher } from "../../graph/select.ts";
import { links } from "../../graph/walk.ts";
import { sizeOf, toFloat32 } from "../../tensor/tensor.ts";
import {
  surveyWeights,
  type WeightSurvey,
  type WeightTarget,
  type WeightUse,
  weighted,
} from "../quantize-weights/targets.ts";
import { selector } from "../selection.ts";
import type { PruneWeightsOptions } from "./options.ts";
import type { Pattern } from "./patterns.ts";

/** A weight as a matrix with a row for each output and a column for each input; inputs of one tap are neighbours. */
export interface Layer {
  readonly target: WeightTarget;
  readonly use: WeightUse;
  readonly rows: number;
  /** taps x channels */
  readonly columns: number;
  readonly channels: number;
  readonly groups: number;
  /** The weight's shape as these dimensions, which permuted are [rows..., taps, channels]. */
  readonly dims: readonly number[];
  readonly permutation: readonly number[];
  /** Sparsity asked for this layer by name. */
  readonly wanted: number | undefined;
}

/** The layers to prune, and what is left alone with the reason. */
export interface LayerSurvey {
  readonly layers: readonly Layer[];
  readonly skipped: WeightSurvey["skipped"];
}

/** Which layers of a graph are pruned. */
export function surveyLayers(graph: Graph, options: PruneWeightsOptions, pattern: Pattern): LayerSurvey {
  const select = selector(options);
  const { minElements } = options;
  const survey = surveyWeights(graph, {
    // those that are named are pruned whatever their size
    minElements: 0,
    select: (node) => select(node) && (options.embeddings || node.op !== "Gather"),
  });
  const found = survey.targets.map((target) => layerOf(target, wantedSparsity(target, options)));
  checkPatterns(graph, found, options);
  const tooSmall = ({ target, wanted }: Layer): boolean => wanted === undefined && target.weight.size < minElements;
  const all = found.filter((layer) => !tooSmall(layer));
  const total = all.reduce((sum, { target }) => sum + target.weight.size, 0);
  const ends = endNodes(graph);
  const reasonFor = (layer: Layer): string | undefined => {
    const { name, weight } = layer.target;
    if (tooSmall(layer)) return `weight '${name}' has ${weight.size} elements, fewer than ${minElements}`;
    const misfit = patternMisfit(layer, pattern);
    if (misfit || layer.wanted !== undefined) return misfit;
    if (layer.channels === 1 && layer.groups > 1) return "a depthwise convolution has few weights, each of them needed";
    const end = layer.target.uses.map(({ node }) => ends.get(node)).find((which) => which !== undefined);
    if (end === undefined || options.ends === "prune" || all.length === 1) return undefined;
    const share = layer.target.weight.size / total;
    if (options.ends === "auto" && share > 0.05) return undefined;
    return `the ${end} layer is kept dense: it holds ${(100 * share).toFixed(1)} % of the weights`;
  };
  const skipped = [...survey.skipped];
  const layers = found.filter((layer) => {
    const reason = reasonFor(layer);
    if (reason) for (const { node } of layer.target.uses) skipped.push({ node, reason });
    return !reason;
  });
  return { layers, skipped };
}

function wantedSparsity(target: WeightTarget, { layerSparsity }: PruneWeightsOptions): number | undefined {
  const fitting = Object.entries(layerSparsity).filter(([pattern]) => fitsTarget(target, pattern));
  return fitting.at(-1)?.[1];
}

function fitsTarget({ name, uses }: WeightTarget, pattern: string): boolean {
  const fits = matcher(pattern);
  return fits({ name, op: "", domain: "" }) || uses.some(({ node }) => fits(node));
}

function checkPatterns(graph: Graph, layers: readonly Layer[], { layerSparsity }: PruneWeightsOptions): void {
  for (const pattern of Object.keys(layerSparsity)) {
    if (layers.some(({ target }) => fitsTarget(target, pattern))) continue;
    const known = [...graph.weights.keys(), ...graph.nodes.flatMap(({ name, op }) => [name, op])];
    const hint = didYouMean(pattern, known) || "See the names with `pare inspect`";
    fail("prune-weights", `no prunable layer fits --layer-sparsity '${pattern}'`, hint);
  }
}

function patternMisfit({ rows, channels, groups }: Layer, pattern: Pattern): string | undefined {
  if (pattern.kind === "n:m") {
    return channels % pattern.of === 0 ? undefined : `${channels} inputs are no multiple of ${pattern.of}`;
  }
  if ((rows / groups) % pattern.rows === 0 && channels % pattern.columns === 0) return undefined;
  return `${rows} outputs by ${channels} inputs do not divide into blocks of ${pattern.rows}x${pattern.columns}`;
}

/** The layers that no other layer comes before, or after. */
function endNodes(graph: Graph): ReadonlyMap<Node, "first" | "last"> {
  const { consumers } = links(graph);
  const isLayer = (node: Node): boolean =>
    (weighted(node) || (node.op === "Gather" && node.domain === "")) &&
    node.inputs.some((name) => (graph.weights.get(name)?.shape.length ?? 0) >= 2);
  const ends = new Map<Node, "first" | "last">();
  const behind = new Set<string>();
  for (const node of graph.nodes) {
    const later = node.inputs.some((name) => behind.has(name));
    if (isLayer(node) && !later) ends.set(node, "first");
    if (later || isLayer(node)) for (const name of node.outputs) behind.add(name);
  }
  const before = new Set<Node>();
  for (const node of graph.nodes.toReversed()) {
    const readers = node.outputs.flatMap((name) => consumers.get(name) ?? []);
    const earlier = readers.some((reader) => before.has(reader) || isLayer(reader));
    if (earlier) before.add(node);
    else if (isLayer(node)) ends.set(node, "last");
  }
  return ends;
}

function layerOf(target: WeightTarget, wanted: number | undefined): Layer {
  const use = target.uses.find(({ kind }) => kind !== "gather") ?? target.uses[0]!;
  const matrix = matrixOf(target, use);
  const size = target.weight.size;
  const channels = matrix.channels;
  const groups = use.kind === "conv" || use.kind === "convTranspose" ? intAttribute(use.node, "group", 1) : 1;
  const columns = channels * (matrix.taps ?? 1);
  const { dims, permutation } = matrix;
  return { target, use, rows: size / columns, columns, channels, groups, dims, permutation, wanted };
}

interface Matrix {
  readonly dims: readonly number[];
  readonly permutation: readonly number[];
  readonly channels: number;
  readonly taps?: number;
}

function matrixOf({ weight: { shape, size } }: WeightTarget, { node, kind, transpose }: WeightUse): Matrix {
  const last = shape.at(-1)!;
  const asStored = (channels: number): Matrix => ({ dims: [size / channels, channels], permutation: [0, 1], channels });
  const turned = (channels: number): Matrix => {
    const dims = [size / channels / last, channels, last];
    return { dims, permutation: [0, 2, 1], channels };
  };
  switch (kind) {
    case "matmul":
      return transpose ? asStored(last) : turned(shape.at(-2)!);
    case "gemm":
      return intAttribute(node, "transB", 0) ? asStored(last) : turned(shape[0]!);
    case "left":
      return node.op === "Gemm" && intAttribute(node, "transA", 0) ? turned(shape[0]!) : asStored(last);
    case "conv": {
      const [outputs, channels, taps] = [shape[0]!, shape[1]!, sizeOf(shape.slice(2))];
      return { dims: [outputs, channels, taps], permutation: [0, 2, 1], channels, taps };
    }
    case "convTranspose": {
      const groups = intAttribute(node, "group", 1);
      const [channels, outputs, taps] = [shape[0]! / groups, shape[1]!, sizeOf(shape.slice(2))];
      return { dims: [groups, channels, outputs, taps], permutation: [0, 2, 3, 1], channels, taps };
    }
    case "recurrent":
      return asStored(last);
    case "gather":
      return asStored(size / shape[0]!);
  }
}

/** Where each element of the matrix stands in the weight; undefined where the order is the same. */
export function elementOrder({ dims, permutation }: Layer): Uint32Array | undefined {
  const moving = permutation.filter((axis) => dims[axis]! > 1);
  if (moving.every((axis, i) => i === 0 || moving[i - 1]! < axis)) return undefined;
  const sizes = permutation.map((axis) => dims[axis]!);
  const steps = permutation.map((axis) => sizeOf(dims.slice(axis + 1)));
  const order = new Uint32Array(sizeOf(dims));
  const index = sizes.map(() => 0);
  for (let at = 0, from = 0; at < order.length; at++) {
    order[at] = from;
    for (let d = sizes.length - 1; d >= 0; d--) {
      from += steps[d]!;
      if (++index[d]! < sizes[d]!) break;
      from -= steps[d]! * sizes[d]!;
      index[d] = 0;
    }
  }
  return order;
}

/**
 * A copy of the weight as a matrix, row by row.
 *
 * @throws PareError naming the weight if it holds NaN or infinity
 */
export function matrixValues({ target }: Layer, order: Uint32Array | undefined): Float32Array {
  const values = toFloat32(target.weight);
  const matrix = new Float32Array(values.length);
  let finite = true;
  for (let i = 0; i < matrix.length; i++) {
    matrix[i] = values[order ? order[i]! : i]!;
    finite &&= Number.isFinite(matrix[i]);
  }
  if (!finite) fail(`weight '${target.name}'`, "holds NaN or infinite values", "Repair the weight: it can't be ranked");
  return matrix;
}

/** How a layer is called in messages. */
export function layerLabel({ use }: Layer): string {
  return nodeLabel(use.node);
}
