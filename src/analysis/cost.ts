import { type Graph, intAttribute, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import { allNodes, links, reads } from "../graph/walk.ts";
import { type DType, dtypes, packedBytes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { InferredType } from "./infer.ts";
import { workOf } from "./work.ts";
import type { Shapes } from "./work-rules.ts";

/** Types of a graph's values: observed ones, or inferred ones, where a free size makes costs unknown. */
export type Types = ReadonlyMap<string, InferredType>;

/** Bytes by element type. */
export type BytesByType = Readonly<Partial<Record<DType, number>>>;

/** What one node costs. A weight that several nodes read counts at the first of them. */
export interface NodeCost {
  readonly node: Node;
  /** Learned numbers, quantized ones included; scales, zero points, shapes and indices are not counted. */
  readonly parameters: number;
  readonly weightBytes: BytesByType;
  /** Multiply-accumulates of one run; undefined where unknown. */
  readonly macs: number | undefined;
  /** Other arithmetic of one run; undefined where unknown. */
  readonly flops: number | undefined;
  /** Bytes of the node's outputs in one run; undefined where a shape is unknown. */
  readonly outputBytes: number | undefined;
  /** Why macs or flops are unknown. */
  readonly unknown?: string;
}

/** What a graph costs: its nodes in order, and the totals. */
export interface Costs {
  readonly nodes: readonly NodeCost[];
  readonly parameters: number;
  readonly weightBytes: BytesByType;
  /** Sum of the known MACs. */
  readonly macs: number;
  readonly flops: number;
  /** How many nodes have unknown MACs: if above 0 the sums are lower bounds. */
  readonly unknown: number;
  /** Sum of all outputs of all nodes, were they all kept. */
  readonly activationBytes: number;
  /** Largest sum of values alive at one time, and the node during which. */
  readonly peak: { readonly bytes: number; readonly node: string };
}

/**
 * Parameters, arithmetic, bytes and peak activation memory of a graph's main nodes (nested subgraphs count only with
 * their weights, at the node that holds them).
 */
export function costs(graph: Graph, types: Types): Costs {
  const counted = new Set<string>();
  const made = constantValues(graph);
  const nodes = graph.nodes.map((node) => costOf(graph, node, types, made, counted));
  const known = (value: (cost: NodeCost) => number | undefined): number =>
    nodes.reduce((sum, cost) => sum + (value(cost) ?? 0), 0);
  return {
    nodes,
    parameters: known((cost) => cost.parameters),
    weightBytes: weightBytes([...graph.weights.values(), ...graph.nodes.flatMap(nestedWeights)]),
    macs: known((cost) => cost.macs),
    flops: known((cost) => cost.flops),
    unknown: nodes.filter((cost) => cost.unknown !== undefined).length,
    activationBytes: known((cost) => cost.outputBytes),
    peak: peakMemory(graph, types),
  };
}

function costOf(
  graph: Graph,
  node: Node,
  types: Types,
  made: ReadonlyMap<string, Node>,
  counted: Set<string>,
): NodeCost {
  const own: Tensor[] = nestedWeights(node);
  // what constants alone make is counted where something reads it: by then it is unpacked
  const constant = node.outputs.some((name) => made.has(name));
  let parameters = constant ? 0 : own.reduce((sum, t) => sum + (dtypes[t.dtype].kind === "float" ? t.size : 0), 0);
  for (const name of reads(node)) {
    if (counted.has(name)) continue;
    const weight = graph.weights.get(name);
    const index = node.inputs.indexOf(name);
    if (!weight && (constant || !made.has(name) || helperInputs[opKey(node)]?.includes(index))) continue;
    counted.add(name);
    if (weight) own.push(weight);
    if (!constant) parameters += weight ? parametersIn(node, index, weight) : parametersOf(graph, name, types, made);
  }
  // the runtime computes constants once, on loading: no work of an inference
  const work = constant ? { macs: 0, flops: 0 } : knownWork(node, types);
  const outputs = constant ? [] : node.outputs.filter((name) => name !== "");
  const sizes = outputs.map((name) => bytesOf(types.get(name)));
  return {
    node,
    parameters,
    weightBytes: weightBytes(own),
    macs: work.macs,
    flops: work.flops,
    outputBytes: sizes.every((bytes) => bytes !== undefined) ? sizes.reduce((a, b) => a + b, 0) : undefined,
    ...(work.unknown !== undefined && { unknown: work.unknown }),
  };
}

function nestedWeights(node: Node): Tensor[] {
  const found: Tensor[] = [];
  const attributes = Object.values(node.attributes);
  for (const attribute of attributes) {
    if (attribute.type === "tensor" && node.op === "Constant") found.push(attribute.value);
    const graphs = attribute.type === "graph" ? [attribute.value] : attribute.type === "graphs" ? attribute.value : [];
    for (const subgraph of graphs) {
      found.push(...subgraph.weights.values());
      for (const inner of allNodes(subgraph)) if (inner !== node) found.push(...constantsOf(inner));
    }
  }
  return found;
}

function constantsOf(node: Node): Tensor[] {
  const value = node.op === "Constant" ? node.attributes.value : undefined;
  return value?.type === "tensor" ? [value.value] : [];
}

/** Values that nodes make of constants alone, and their nodes: weights that are stored packed, quantized or turned. */
function constantValues(graph: Graph): ReadonlyMap<string, Node> {
  const inputs = new Set(graph.inputs.map(({ name }) => name));
  const made = new Map<string, Node>();
  for (const node of graph.nodes) {
    const fixed = (name: string): boolean => made.has(name) || (graph.weights.has(name) && !inputs.has(name));
    const makesConstants = reads(node).size > 0 ? [...reads(node)].every(fixed) : node.op === "Constant";
    if (makesConstants) for (const name of node.outputs) made.set(name, node);
  }
  return made;
}

/** Learned numbers in a value made of constants: its elements where its type is known, else those of what it is made of. */
function parametersOf(graph: Graph, name: string, types: Types, made: ReadonlyMap<string, Node>): number {
  const type = types.get(name);
  if (type && dtypes[type.dtype].kind !== "float") return 0;
  const shape = concrete(type);
  if (shape) return shape.reduce((a, b) => a * b, 1);
  const node = made.get(name)!;
  const nested = nestedWeights(node).reduce((sum, t) => sum + (dtypes[t.dtype].kind === "float" ? t.size : 0), 0);
  return node.inputs.reduce((sum, input, index) => {
    const weight = graph.weights.get(input);
    if (weight) return sum + parametersIn(node, index, weight);
    return made.has(input) ? sum + parametersOf(graph, input, types, made) : sum;
  }, nested);
}

/** Positions of scales, zero points and other helpers of quantized operators: no parameters. */
const helperInputs: Readonly<Record<string, readonly number[]>> = {
  QuantizeLinear: [1, 2],
  DequantizeLinear: [1, 2],
  QLinearConv: [1, 2, 4, 5, 6, 7],
  QLinearMatMul: [1, 2, 4, 5, 6, 7],
  ConvInteger: [2, 3],
  MatMulInteger: [2, 3],
  Resize: [1, 2, 3],
  Upsample: [1],
  Clip: [1, 2],
  Pad: [1, 2],
  "com.microsoft:MatMulNBits": [2, 3, 4],
  "com.microsoft:GatherBlockQuantized": [1, 2, 3],
  "com.microsoft:QGemm": [1, 2, 4, 5, 7, 8],
  "com.microsoft:DynamicQuantizeLSTM": [8, 9, 10, 11],
  "com.microsoft:MatMulIntegerToFloat": [2, 3, 4, 5],
  "com.microsoft:DynamicQuantizeMatMul": [2, 3],
};

/** Operators that store several parameters in a byte of a uint8 input, with the default of their `bits`. */
const packedOperators = new Map([
  ["com.microsoft:MatMulNBits", { input: 1, bits: 4 }],
  ["com.microsoft:GatherBlockQuantized", { input: 0, bits: 4 }],
  ["com.microsoft:MatMulBnb4", { input: 1, bits: 4 }],
]);

function parametersIn(node: Node, index: number, weight: Tensor): number {
  const key = opKey(node);
  if (helperInputs[key]?.includes(index)) return 0;
  const packed = packedOperators.get(key);
  if (packed?.input === index && weight.dtype === "uint8") {
    return (weight.size * 8) / intAttribute(node, "bits", packed.bits);
  }
  const { kind, bits } = dtypes[weight.dtype];
  if (kind === "float" || (bits <= 8 && (kind === "int" || kind === "uint"))) return weight.size;
  const bias =
    node.op === "DequantizeLinear" ||
    (node.op === "QLinearConv" && index === 8) ||
    (key.endsWith("QGemm") && index === 6);
  return weight.dtype === "int32" && bias ? weight.size : 0;
}

function weightBytes(weights: Iterable<Tensor>): BytesByType {
  const bytes: Partial<Record<DType, number>> = {};
  for (const { dtype, byteLength } of new Set(weights)) bytes[dtype] = (bytes[dtype] ?? 0) + byteLength;
  return bytes;
}

class UnknownShape extends Error {}

function knownWork(
  node: Node,
  types: Types,
): { macs: number | undefined; flops: number | undefined; unknown?: string } {
  const shape = (name = ""): readonly number[] => concrete(types.get(name)) ?? missing(name);
  const missing = (name: string): never => {
    throw new UnknownShape(`the shape of '${name}' is unknown`);
  };
  const shapes: Shapes = {
    input: (index) => shape(node.inputs[index]),
    output: (index) => shape(node.outputs[index]),
    has: (index) => (node.inputs[index] ?? "") !== "",
  };
  try {
    const work = workOf(node, shapes);
    return typeof work === "string" ? { macs: undefined, flops: undefined, unknown: work } : work;
  } catch (error) {
    if (!(error instanceof UnknownShape)) throw error;
    return { macs: undefined, flops: undefined, unknown: error.message };
  }
}

/** The sizes of a type whose shape is fully known. */
export function concrete(type: InferredType | undefined): readonly number[] | undefined {
  return type?.shape?.every((dim) => typeof dim === "number") ? (type.shape as readonly number[]) : undefined;
}

function bytesOf(type: InferredType | undefined): number | undefined {
  const shape = concrete(type);
  return (
    shape &&
    packedBytes(
      type!.dtype,
      shape.reduce((a, b) => a * b, 1),
    )
  );
}

/** Operators whose output is their first input's memory under another shape. */
const views = new Set(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"]);

/**
 * The most bytes of activations alive at one time when nodes run in order, inputs and outputs included, weights and what
 * is made of them alone not:
 * a value lives from the node that makes it to the last that reads it, graph inputs from the start, graph outputs to the
 * end. Views share their source's memory; nothing else is assumed to be computed in place. Values of unknown size count
 * as 0.
 */
export function peakMemory(graph: Graph, types: Types): { readonly bytes: number; readonly node: string } {
  const constants = constantValues(graph);
  const { consumers, outputs } = links(graph);
  const owner = new Map<string, string>();
  const root = (name: string): string => owner.get(name) ?? name;
  for (const { op, domain, inputs, outputs: made } of graph.nodes) {
    if (domain === "" && views.has(op) && !graph.weights.has(inputs[0]!)) owner.set(made[0]!, root(inputs[0]!));
  }
  const order = new Map(graph.nodes.map((node, i) => [node, i]));
  const last = new Map<string, number>();
  const note = (name: string, at: number): void => void last.set(root(name), Math.max(last.get(root(name)) ?? -1, at));
  for (const [name, readers] of consumers) for (const node of readers) note(name, order.get(node) ?? 0);
  for (const name of outputs) note(name, graph.nodes.length);
  const ending = new Map<number, string[]>();
  for (const [name, at] of last) ending.set(at, [...(ending.get(at) ?? []), name]);

  const size = (name: string): number =>
    graph.weights.has(name) || constants.has(name) ? 0 : (bytesOf(types.get(name)) ?? 0);
  const alive = new Set(graph.inputs.map(({ name }) => name));
  let now = [...alive].reduce((sum, name) => sum + size(name), 0);
  let peak = { bytes: now, node: "" };
  graph.nodes.forEach((node, at) => {
    for (const name of node.outputs) {
      if (name === "" || root(name) !== name) continue;
      alive.add(name);
      now += size(name);
    }
    if (now > peak.bytes) peak = { bytes: now, node: nodeLabel(node) };
    const unread = node.outputs.filter((name) => root(name) === name && !last.has(name));
    for (const name of [...(ending.get(at) ?? []), ...unread]) if (alive.delete(name)) now -= size(name);
  });
  return peak;
}
