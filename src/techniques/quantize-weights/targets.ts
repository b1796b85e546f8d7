import { type Graph, intAttribute, intsAttribute, isNode, type Node, nodeLabel } from "../../graph/graph.ts";
import { allNodes, links } from "../../graph/walk.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** One node that takes a weight. */
export interface WeightUse {
  readonly node: Node;
  readonly kind: "matmul" | "gemm" | "gather" | "conv" | "convTranspose" | "recurrent" | "left";
  /** The Transpose node between the weight and the node, if there is one. */
  readonly transpose?: Node;
}

/**
 * How a weight is seen for quantization: reshaped to `split`, permuted by `permutation`, then reshaped to `shape`, whose
 * `axis` is the one that is summed over. Blocks run along it.
 */
export interface WeightLayout {
  readonly split?: readonly number[];
  readonly permutation?: readonly number[];
  readonly shape: readonly number[];
  readonly axis: number;
}

/** A constant weight that can be stored in fewer bits, with everything that reads it. */
export interface WeightTarget {
  readonly name: string;
  readonly weight: Tensor;
  readonly layout: WeightLayout;
  readonly uses: readonly WeightUse[];
}

/** What became of the constants of a graph: targets, and nodes left alone with the reason. */
export interface WeightSurvey {
  readonly targets: readonly WeightTarget[];
  readonly skipped: readonly { readonly node: Node; readonly reason: string }[];
}

/** Which weights to take. */
export interface SurveyOptions {
  readonly select: (node: Node) => boolean;
  readonly minElements: number;
}

/**
 * The float weights of a graph that matrix products, convolutions, recurrent layers and embeddings take, each once
 * however many nodes read it.
 */
export function surveyWeights(graph: Graph, options: SurveyOptions): WeightSurvey {
  const targets: WeightTarget[] = [];
  const skipped: { node: Node; reason: string }[] = [];
  const inner = innerReaders(graph);
  for (const [name, weight] of graph.weights) {
    const { uses, foreign } = usesOf(graph, name, weight);
    const chosen = uses.filter(({ node }) => options.select(node));
    if (chosen.length === 0) continue;
    const reason = refusal(graph, name, weight, uses, chosen, foreign, inner, options);
    if (reason) for (const { node } of chosen) skipped.push({ node, reason });
    else targets.push({ name, weight, uses, layout: layoutOf(weight, uses) });
  }
  const main = new Set(graph.nodes);
  for (const node of allNodes(graph)) {
    if (!weighted(node) || !options.select(node)) continue;
    if (!main.has(node)) skipped.push({ node, reason: "it is in the body of a control-flow node" });
    else if (!takesConstant(graph, node)) skipped.push({ node, reason: "none of its operands is a constant weight" });
  }
  return { targets, skipped };
}

/**
 * A technique's answer to whether it applies to a node, from what it would do with a whole graph; asked once a graph.
 *
 * @param judge what becomes of a target: true, or why it is left alone
 */
export function nodeVerdicts(
  survey: (graph: Graph) => WeightSurvey,
  judge: (target: WeightTarget) => true | string,
): (node: Node, graph: Graph) => true | string {
  const known = new WeakMap<Graph, ReadonlyMap<Node, true | string>>();
  return (node, graph) => {
    let verdicts = known.get(graph);
    if (!verdicts) {
      const { targets, skipped } = survey(graph);
      const found = new Map<Node, true | string>(skipped.map(({ node, reason }) => [node, reason]));
      for (const target of targets) {
        const verdict = judge(target);
        for (const use of target.uses) if (found.get(use.node) !== true) found.set(use.node, verdict);
      }
      known.set(graph, found);
      verdicts = found;
    }
    return verdicts.get(node) ?? `${node.op} has no weight of a product, a convolution, a recurrent layer or a lookup`;
  };
}

function refusal(
  graph: Graph,
  name: string,
  weight: Tensor,
  uses: readonly WeightUse[],
  chosen: readonly WeightUse[],
  foreign: Node | undefined,
  inner: ReadonlySet<string>,
  options: SurveyOptions,
): string | undefined {
  if (weight.size < options.minElements) {
    return `weight '${name}' has ${weight.size} elements, fewer than ${options.minElements}`;
  }
  if (weight.dtype !== "float32" && weight.dtype !== "float16") return `weight '${name}' is ${weight.dtype}`;
  if (links(graph).outputs.has(name)) return `weight '${name}' is an output of the model`;
  if (inner.has(name)) return `weight '${name}' is read inside a nested graph`;
  if (foreign)
    return `weight '${name}' is shared with '${nodeLabel(foreign)}' (${foreign.op}), which needs it in float`;
  const other = uses.find((use) => !chosen.includes(use));
  return other && `weight '${name}' is shared with '${nodeLabel(other.node)}', which is not selected`;
}

/** Names that nested graphs take from the main graph. */
function innerReaders(graph: Graph): ReadonlySet<string> {
  const found = new Set<string>();
  for (const [name, nodes] of links(graph).consumers) {
    if (nodes.some((node) => !node.inputs.includes(name))) found.add(name);
  }
  return found;
}

function usesOf(graph: Graph, name: string, weight: Tensor): { uses: WeightUse[]; foreign: Node | undefined } {
  const uses: WeightUse[] = [];
  let foreign: Node | undefined;
  for (const node of links(graph).consumers.get(name) ?? []) {
    const behind = transposed(graph, node, weight);
    if (behind) {
      for (const product of behind) uses.push({ node: product, kind: "matmul", transpose: node });
      continue;
    }
    for (const [index, input] of node.inputs.entries()) {
      if (input !== name) continue;
      const kind = kindOf(node, index, weight);
      if (kind) uses.push({ node, kind });
      else foreign = node;
    }
  }
  return { uses, foreign };
}

/** The products behind a Transpose of a matrix, if nothing else reads it. */
export function transposed(graph: Graph, node: Node, weight: Tensor): readonly Node[] | undefined {
  if (!isNode(node, "Transpose") || weight.shape.length !== 2) return undefined;
  if ((intsAttribute(node, "perm") ?? [1, 0]).join() !== "1,0") return undefined;
  const { consumers, outputs } = links(graph);
  const output = node.outputs[0]!;
  const readers = consumers.get(output) ?? [];
  if (outputs.has(output) || readers.length === 0) return undefined;
  const products = readers.every((r) => isNode(r, "MatMul") && r.inputs[1] === output && r.inputs[0] !== output);
  return products ? readers : undefined;
}

function kindOf(node: Node, index: number, weight: Tensor): WeightUse["kind"] | undefined {
  if (node.domain !== "") return undefined;
  const rank = weight.shape.length;
  switch (node.op) {
    case "MatMul":
      if (rank < 2) return undefined;
      return index === 1 ? "matmul" : "left";
    case "Gemm":
      if (index > 1) return undefined;
      return index === 1 ? "gemm" : "left";
    case "Conv":
      return index === 1 ? "conv" : undefined;
    case "ConvTranspose":
      return index === 1 ? "convTranspose" : undefined;
    case "Gather":
      return index === 0 && rank >= 2 ? "gather" : undefined;
    case "LSTM":
    case "GRU":
    case "RNN":
      return index === 1 || index === 2 ? "recurrent" : undefined;
    default:
      return undefined;
  }
}

const weightedOps = new Set(["MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"]);

/** Whether a node should have a weight: a product, a convolution or a recurrent layer. */
export function weighted({ op, domain }: Node): boolean {
  return domain === "" && weightedOps.has(op);
}

/** Whether a node that should have a weight has one, as a constant or a transposed constant. */
function takesConstant(graph: Graph, node: Node): boolean {
  const constant = (name: string | undefined): boolean =>
    name !== undefined &&
    (graph.weights.has(name) || graph.weights.has(links(graph).producer.get(name)?.inputs[0] ?? ""));
  return constant(node.inputs[1]) || (node.op === "MatMul" && constant(node.inputs[0]));
}

/** The axis that is summed over, from the use whose kernel fixes it most: products before lookups. */
function layoutOf(weight: Tensor, uses: readonly WeightUse[]): WeightLayout {
  const { shape } = weight;
  const rank = shape.length;
  const use = uses.find(({ kind }) => kind !== "gather") ?? uses[0]!;
  const { node, kind } = use;
  const rest = (from: number): number => shape.slice(from).reduce((a, b) => a * b, 1);
  switch (kind) {
    case "matmul":
      return { shape, axis: use.transpose ? 1 : rank - 2 };
    case "gemm":
      return { shape, axis: intAttribute(node, "transB", 0) ? 1 : 0 };
    case "left":
      return { shape, axis: node.op === "Gemm" && intAttribute(node, "transA", 0) ? 0 : rank - 1 };
    case "conv":
      return { shape: [shape[0]!, rest(1)], axis: 1 };
    case "convTranspose": {
      // [I, O/g, taps] with I in g groups -> [g, O/g, I/g, taps] -> one row an output channel
      const group = intAttribute(node, "group", 1);
      const [inputs, outputs, taps] = [shape[0]! / group, shape[1]!, rest(2)];
      const split = [group, inputs, outputs, taps];
      return { split, permutation: [0, 2, 1, 3], shape: [group * outputs, inputs * taps], axis: 1 };
    }
    case "gather":
      return { shape: [shape[0]!, rest(1)], axis: 1 };
    case "recurrent":
      return { shape: [rest(0) / shape[rank - 1]!, shape[rank - 1]!], axis: 1 };
  }
}
