import { type Graph, intAttribute, intsAttribute, isNode, type Node, nodeLabel, opKey } from "../../graph/graph.ts";
import { links, soleConsumer } from "../../graph/walk.ts";
import type { ObservedType } from "../../platform/observe.ts";
import { reducedAxes } from "./reduced-axes.ts";

/** A node that multiplies the channels of a value with a constant matrix. */
export interface Reader {
  readonly node: Node;
  readonly weight: string;
  /** Axis of the weight that is summed over. */
  readonly axis: number;
}

/** A constant input of a node to which the channels of a value are proportional. */
export interface Source {
  readonly node: Node;
  readonly input: number;
  readonly name: string;
  /** Axis of the channels; "last" where the constant is added or multiplied and may be broadcast. */
  readonly axis: number | "last";
  /** Scales have to be positive, since a Relu follows. */
  readonly positive?: true;
}

/** A value whose channels, along its last axis, can be divided by numbers where they are made and multiplied where they are read. */
export interface ScalableChannels {
  readonly channels: number;
  readonly sources: readonly Source[];
  readonly readers: readonly Reader[];
}

/** What can be scaled, and the products that can't with the reason. */
export interface ScalableSurvey {
  readonly found: readonly ScalableChannels[];
  readonly refused: readonly { readonly node: Node; readonly reason: string }[];
}

type Types = ReadonlyMap<string, ObservedType>;

/**
 * The values in front of products with constant matrices whose channels can be scaled without changing what the graph
 * computes: everything that reads such a value is a product, and what makes it ends in constants that take the scales up,
 * those of a normalization or of a product.
 */
export function scalableChannels(graph: Graph, types: Types, select: (node: Node) => boolean): ScalableSurvey {
  const found = new Map<string, ScalableChannels>();
  const refused: { node: Node; reason: string }[] = [];
  for (const node of graph.nodes) {
    const reader = productReader(graph, node);
    if (!reader || !select(node)) continue;
    const value = origin(graph, types, node.inputs[0]!);
    if (found.has(value)) continue;
    const made = scalableAt(graph, types, value, select);
    if (typeof made === "string") refused.push({ node, reason: made });
    else found.set(value, made);
  }
  return { found: [...found.values()], refused };
}

function scalableAt(
  graph: Graph,
  types: Types,
  value: string,
  select: (node: Node) => boolean,
): ScalableChannels | string {
  const channels = types.get(value)?.shape.at(-1);
  if (channels === undefined) return `the shape of '${value}' can't be told`;
  const readers = readersOf(graph, types, value);
  if (typeof readers === "string") return readers;
  const other = readers.find(({ node }) => !select(node));
  if (other) return `'${nodeLabel(other.node)}', which reads the same, is not selected`;
  const nodes = new Set(readers.map(({ node }) => node));
  const shared = readers.find(({ weight }) => !weightReaders(graph, weight).every((node) => nodes.has(node)));
  if (shared) return `weight '${shared.weight}' is read elsewhere too`;
  const sources = sourcesOf(graph, types, value, channels);
  return typeof sources === "string" ? sources : { channels, sources, readers };
}

/** The value that was made before it was only reshaped. */
function origin(graph: Graph, types: Types, value: string): string {
  const node = links(graph).producer.get(value);
  return node && keepsChannels(graph, node, node.inputs[0]!, types) ? origin(graph, types, node.inputs[0]!) : value;
}

const reductions = new Set(["ReduceMean", "ReduceSum"]);

/** Operators over other axes than the last one, too, where that shows in the shapes, or in the axes of reductions. */
const reshaping = new Set([
  ...reductions,
  "Reshape",
  "Squeeze",
  "Unsqueeze",
  "Flatten",
  "Identity",
  "Dropout",
  "Transpose",
]);

/** Whether a node gives its input's numbers anew, or sums of them, each along the last axis where it was. */
function keepsChannels(graph: Graph, node: Node, value: string, types: Types): boolean {
  if (node.domain !== "" || !reshaping.has(node.op) || node.inputs[0] !== value) return false;
  if (node.outputs.slice(1).some((name) => name !== "")) return false;
  const [before, after] = [types.get(value)?.shape, types.get(node.outputs[0]!)?.shape];
  if (!before || !after || before.length === 0 || before.at(-1) !== after.at(-1) || after.at(-1) === 1) return false;
  if (reductions.has(node.op)) return reducedAxes(graph, node, types)?.includes(0) === false;
  return node.op !== "Transpose" || intsAttribute(node, "perm")?.at(-1) === before.length - 1;
}

function readersOf(graph: Graph, types: Types, value: string): readonly Reader[] | string {
  const { consumers, outputs } = links(graph);
  if (outputs.has(value)) return `'${value}' is an output of the model`;
  const readers: Reader[] = [];
  for (const node of consumers.get(value) ?? []) {
    const reader = readerOf(graph, node, value);
    if (reader) {
      readers.push(reader);
      continue;
    }
    if (!keepsChannels(graph, node, value, types)) return `'${nodeLabel(node)}' (${node.op}) reads its input too`;
    const behind = readersOf(graph, types, node.outputs[0]!);
    if (typeof behind === "string") return behind;
    readers.push(...behind);
  }
  return readers;
}

/** A node as a product of its first input with a constant matrix; undefined where it is none. */
export function productReader(graph: Graph, node: Node): Reader | undefined {
  return readerOf(graph, node, node.inputs[0] ?? "");
}

function readerOf(graph: Graph, node: Node, value: string): Reader | undefined {
  if (value === "" || node.inputs.indexOf(value, 1) > 0 || node.inputs[0] !== value) return undefined;
  const matrix = constantMatrix(graph, node);
  return matrix && (node.op === "MatMul" || !intAttribute(node, "transA", 0))
    ? { node, weight: matrix.name, axis: matrix.turned ? 1 : 0 }
    : undefined;
}

/** The constant matrix [inputs, outputs] of a product, or [outputs, inputs] where it is turned. */
export function constantMatrix(graph: Graph, node: Node): { name: string; turned: boolean } | undefined {
  if (!isNode(node, "MatMul") && !isNode(node, "Gemm")) return undefined;
  const name = node.inputs[1]!;
  const turned = node.op === "Gemm" && intAttribute(node, "transB", 0) === 1;
  if (isMatrix(graph, name)) return { name, turned };
  const before = links(graph).producer.get(name);
  const weight = before && isNode(before, "Transpose") ? before.inputs[0]! : "";
  return isMatrix(graph, weight) ? { name: weight, turned: !turned } : undefined;
}

function isMatrix(graph: Graph, name: string): boolean {
  const weight = graph.weights.get(name);
  const free = !links(graph).outputs.has(name) && !graph.inputs.some((input) => input.name === name);
  return free && weight?.shape.length === 2 && (weight.dtype === "float32" || weight.dtype === "float16");
}

/** The nodes that read a weight, those behind a Transpose for it. */
function weightReaders(graph: Graph, weight: string): readonly Node[] {
  const { consumers } = links(graph);
  return (consumers.get(weight) ?? []).flatMap((node) =>
    isNode(node, "Transpose") ? (consumers.get(node.outputs[0]!) ?? []) : [node],
  );
}

/** Inputs with the scale and the shift of normalizations over the last axis. */
export const normalizations: Readonly<Record<string, readonly number[]>> = {
  LayerNormalization: [1, 2],
  RMSNormalization: [1],
  SimplifiedLayerNormalization: [1],
  "com.microsoft:SkipLayerNormalization": [2, 3],
  "com.microsoft:SkipSimplifiedLayerNormalization": [2],
};

function sourcesOf(graph: Graph, types: Types, value: string, channels: number): readonly Source[] | string {
  const node = links(graph).producer.get(value);
  if (!node) return `'${value}' is no layer's output`;
  const before = (name: string): readonly Source[] | string => {
    if (types.get(name)?.shape.at(-1) !== channels) return `'${name}' is spread over the channels`;
    if (soleConsumer(graph, name) !== node) return `'${name}', from which its input is made, is read elsewhere too`;
    return sourcesOf(graph, types, name, channels);
  };
  const source = (input: number, axis: Source["axis"]): Source => ({ node, input, name: node.inputs[input]!, axis });
  const vector = (input: number): boolean => spreads(graph, node.inputs[input] ?? "", channels);
  const constants = [0, 1].filter((input) => graph.weights.has(node.inputs[input] ?? ""));
  const norm = normalizations[opKey(node)];
  if (norm && node.outputs[0] === value) {
    const given = norm.filter((input) => node.inputs[input]);
    const last = [-1, (types.get(value)?.shape.length ?? 0) - 1].includes(intAttribute(node, "axis", -1));
    if (last && given.every(vector)) return given.map((input) => source(input, "last"));
    return `the scale of '${nodeLabel(node)}' is no constant of the channels`;
  }
  if (node.domain !== "") return `'${nodeLabel(node)}' (${node.op}) does not scale with its input`;
  switch (node.op) {
    case "Relu":
    case "LeakyRelu": {
      const sources = before(node.inputs[0]!);
      return typeof sources === "string" ? sources : sources.map((one) => ({ ...one, positive: true }));
    }
    case "Mul":
      if (constants.length === 1 && vector(constants[0]!)) return [source(constants[0]!, "last")];
      return constants.length === 0
        ? either(before, [node.inputs[1]!, node.inputs[0]!])
        : "a factor is not one of channels";
    case "Add": {
      const [constant] = constants;
      if (constant === undefined || !vector(constant)) return "it is a sum of what other layers make";
      const rest = before(node.inputs[1 - constant]!);
      return typeof rest === "string" ? rest : [...rest, source(constant, "last")];
    }
    case "MatMul":
    case "Gemm":
      return productSources(graph, node, channels, source);
    default:
      if (keepsChannels(graph, node, node.inputs[0] ?? "", types)) return before(node.inputs[0]!);
      return `'${nodeLabel(node)}' (${node.op}) does not scale with its input`;
  }
}

/** Of two factors one that takes the scales up. */
function either(
  before: (name: string) => readonly Source[] | string,
  factors: readonly string[],
): readonly Source[] | string {
  const tried = factors.map(before);
  return tried.find((sources) => typeof sources !== "string") ?? tried[0]!;
}

function productSources(
  graph: Graph,
  node: Node,
  channels: number,
  source: (input: number, axis: Source["axis"]) => Source,
): readonly Source[] | string {
  const matrix = constantMatrix(graph, node);
  if (!matrix) return `'${nodeLabel(node)}' multiplies two activations`;
  if (weightReaders(graph, matrix.name).length > 1) return `weight '${matrix.name}' is read elsewhere too`;
  const product = { ...source(1, matrix.turned ? 0 : 1), name: matrix.name };
  const bias = node.op === "Gemm" ? node.inputs[2] : undefined;
  if (!bias) return [product];
  return spreads(graph, bias, channels)
    ? [product, source(2, "last")]
    : `bias '${bias}' is no constant of the channels`;
}

/** Whether a constant has one number a channel, or one for all. */
function spreads(graph: Graph, name: string, channels: number): boolean {
  const weight = graph.weights.get(name);
  if (!weight || graph.inputs.some((input) => input.name === name)) return false;
  if (weight.dtype !== "float32" && weight.dtype !== "float16") return false;
  return weight.size === 1 || weight.shape.at(-1) === channels;
}
