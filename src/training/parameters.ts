import { z } from "zod";
import { fakeQuantizeOf, fakeQuantizeOp } from "../autodiff/fake-quantize.ts";
import { foldedBiasOp } from "../autodiff/folded-bias.ts";
import { didYouMean, fail } from "../errors.ts";
import { type Graph, intAttribute, isNode, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import { matcher } from "../graph/select.ts";
import { allNodes, consumersOf, links } from "../graph/walk.ts";
import { sizeOf, type Tensor, toFloat32 } from "../tensor/tensor.ts";

/** Which inputs of an operator are learned, and which of these are matrices that decay. */
interface Learned {
  readonly weights: readonly number[];
  readonly vectors: readonly number[];
  /** Those that learn by others that read them. */
  readonly silent?: readonly number[];
}

const normalization: Learned = { weights: [], vectors: [1, 2] };
const recurrent: Learned = { weights: [1, 2], vectors: [3, 7] };
const product: Learned = { weights: [0, 1, 2], vectors: [] };

/** Positions of learned inputs by operator; constants anywhere else are part of the computation. */
const learned: Readonly<Record<string, Learned>> = {
  BatchNormalization: normalization,
  Conv: { weights: [1], vectors: [2] },
  ConvTranspose: { weights: [1], vectors: [2] },
  Einsum: product,
  GRU: recurrent,
  Gather: { weights: [0], vectors: [] },
  Gemm: { weights: [0, 1], vectors: [2] },
  GroupNormalization: normalization,
  InstanceNormalization: normalization,
  LSTM: recurrent,
  LayerNormalization: normalization,
  MatMul: product,
  PRelu: { weights: [], vectors: [1] },
  RMSNormalization: normalization,
  RNN: recurrent,
  SimplifiedLayerNormalization: normalization,
  "com.microsoft:Attention": { weights: [1], vectors: [2] },
  "com.microsoft:BiasGelu": { weights: [], vectors: [1] },
  "com.microsoft:FastGelu": { weights: [], vectors: [1] },
  "com.microsoft:FusedConv": { weights: [1], vectors: [2] },
  "com.microsoft:FusedMatMul": product,
  "com.microsoft:MultiHeadAttention": { weights: [], vectors: [3] },
  "com.microsoft:SkipLayerNormalization": { weights: [], vectors: [2, 3, 4] },
  "com.microsoft:SkipSimplifiedLayerNormalization": { weights: [], vectors: [2, 3] },
  "pare:BatchNormalization": normalization,
  "pare:FoldedBias": { weights: [], vectors: [0, 1, 6], silent: [4, 5] },
};

/** Operators that show a value in another shape or order. */
const views = new Set(["Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"]);

/** Operators whose result gets a bias. */
const products = new Set(["Conv", "ConvTranspose", "Einsum", "FusedMatMul", "Gemm", "MatMul"]);

/** Elementwise operators by which exporters spell biases and scales. */
const spelled = new Set(["Add", "Sub", "Mul", "Div"]);

/** Which weights learn otherwise than the rest. Patterns are as in {@link selector}, over weights too. */
export const groupOptions = z.object({
  freeze: z
    .array(z.string().min(1))
    .default([])
    .describe("what does not learn: weights, nodes, operators, globs or /patterns/"),
  rateFactors: z
    .record(z.string(), z.number().min(0))
    .default({})
    .describe("factors on the learning rate of what a pattern fits, as 'features*=0.1,head*=10'; the last fit counts"),
  decays: z
    .record(z.string(), z.number().min(0))
    .default({})
    .describe("weight decay of what a pattern fits, in place of --decay, and of 0 for biases and norms"),
});

/** Options of parameter groups, defaults filled in. */
export type GroupOptions = z.output<typeof groupOptions>;

/** How one weight learns. */
export interface WeightSettings {
  readonly frozen: boolean;
  /** Factor on the learning rate. */
  readonly rateFactor: number;
  /** Weight decay in place of the optimizer's; undefined for the default. */
  readonly decay: number | undefined;
}

/**
 * The settings of each weight that a pattern of the groups fits, by its own name or by that of a node that reads it.
 *
 * @throws PareError for a pattern that fits nothing
 */
export function weightSettings(graph: Graph, groups: GroupOptions): ReadonlyMap<string, WeightSettings> {
  const settings = new Map<string, WeightSettings>();
  const apply = (flag: string, pattern: string, change: Partial<WeightSettings>): void => {
    const names = weightsFitting(graph, pattern);
    if (names.size === 0) {
      const known = [...graph.weights.keys(), ...graph.nodes.flatMap(({ name, op }) => [name, op])];
      fail("train", `nothing fits --${flag} '${pattern}'`, didYouMean(pattern, known) || "See `pare inspect`");
    }
    for (const name of names) {
      const before = settings.get(name) ?? { frozen: false, rateFactor: 1, decay: undefined };
      settings.set(name, { ...before, ...change });
    }
  };
  for (const pattern of groups.freeze) apply("freeze", pattern, { frozen: true });
  for (const [pattern, rateFactor] of Object.entries(groups.rateFactors)) {
    apply("rate-factors", pattern, rateFactor === 0 ? { frozen: true } : { rateFactor });
  }
  for (const [pattern, decay] of Object.entries(groups.decays)) apply("decays", pattern, { decay });
  return settings;
}

function weightsFitting(graph: Graph, pattern: string): ReadonlySet<string> {
  const fits = matcher(pattern);
  const found = new Set([...graph.weights.keys()].filter((name) => fits({ name, op: "", domain: "" })));
  const { producer } = links(graph);
  for (const node of allNodes(graph)) {
    if (!fits(node)) continue;
    for (const name of [...node.inputs, ...node.inputs.flatMap((input) => roundedFor(producer.get(input)))]) {
      if (graph.weights.has(name)) found.add(name);
    }
  }
  return found;
}

/** What is rounded for a node belongs to it. */
function roundedFor(maker: Node | undefined): readonly string[] {
  if (maker && isNode(maker, foldedBiasOp)) return maker.inputs.slice(0, 2);
  return maker && isNode(maker, fakeQuantizeOp) ? maker.inputs : [];
}

/** A weight that training changes. */
export interface Parameter {
  /** Name of the weight. */
  readonly name: string;
  /** Labels of the nodes that read it. */
  readonly nodes: readonly string[];
  /** Whether weight decay applies: to matrices and kernels, not to biases, norms and slopes. */
  readonly decays: boolean;
  /** The linear maps that it holds, one after the other; absent for vectors, and for tables that rows are looked up in. */
  readonly matrices?: Matrices;
}

/** Linear maps in a weight: how many, and the rows and columns of each. */
export type Matrices = readonly [count: number, rows: number, columns: number];

/**
 * The float weights of a graph that a network of its kind would have learned: kernels, matrices, embeddings, biases,
 * norms, slopes, whether they belong to an operator or are spelled as Mul and Add. Scalars, masks and other constants
 * are not.
 *
 * @param trains which nodes may learn; a weight is a parameter if any node that reads it may
 */
export function parametersOf(graph: Graph, trains: (node: Node) => boolean = () => true): readonly Parameter[] {
  const { consumers } = links(graph);
  return [...graph.weights].flatMap(([name, weight]) => {
    if (weight.dtype !== "float32" || weight.size === 0) return [];
    const nodes = consumers.get(name) ?? [];
    const roles = nodes.map((node) => roleOf(graph, node, name, weight));
    if (roles.includes("none") || roles.every((role) => role === "silent") || !nodes.some(trains)) return [];
    const decays = roles.includes("weight");
    const readers = nodes.flatMap((node) =>
      isNode(node, fakeQuantizeOp) ? consumersOf(graph, node.outputs[0]!) : [node],
    );
    const matrices = decays ? matricesOf(weight.shape, readers) : undefined;
    return [{ name, nodes: nodes.map(nodeLabel), decays, ...(matrices && { matrices }) }];
  });
}

/** A kernel maps patches to channels, each group of a convolution on its own; of other weights the last two axes count. */
function matricesOf(shape: readonly number[], readers: readonly Node[]): Matrices | undefined {
  if (shape.length < 2 || readers.some((node) => isNode(node, "Gather"))) return undefined;
  const convolution = readers.find(({ op }) => op === "Conv" || op === "ConvTranspose" || op === "FusedConv");
  const size = sizeOf(shape);
  if (convolution === undefined) {
    const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
    return [size / (rows * columns), rows, columns];
  }
  const groups = intAttribute(convolution, "group", 1);
  return [groups, shape[0]! / groups, size / shape[0]!];
}

/** A silent reader takes what others let learn. */
type Role = "weight" | "vector" | "none" | "silent";

/** What one reader takes a weight for; a reader that only shows it in another shape, what those behind it do. */
function roleOf(graph: Graph, node: Node, value: string, weight: Tensor): Role {
  const places = node.inputs.flatMap((input, i) => (input === value ? [i] : []));
  if (places.length === 0) return "none"; // read inside control flow
  if (isNode(node, fakeQuantizeOp) && !places.includes(0)) {
    return fakeQuantizeOf(node).rule === "none" ? "silent" : "vector";
  }
  const positions = learned[opKey(node)];
  if (positions) {
    if (places.every((i) => positions.silent?.includes(i))) return "silent";
    if (places.every((i) => positions.weights.includes(i))) return "weight";
    return places.every((i) => positions.vectors.includes(i) || positions.weights.includes(i)) ? "vector" : "none";
  }
  if (node.domain !== "" && !isNode(node, fakeQuantizeOp)) return "none";
  if ((views.has(node.op) || isNode(node, fakeQuantizeOp)) && places.every((i) => i === 0)) {
    const shown = node.outputs[0]!;
    const roles = consumersOf(graph, shown).map((reader) => roleOf(graph, reader, shown, weight));
    if (roles.length === 0 || roles.includes("none") || links(graph).outputs.has(shown)) return "none";
    return roles.find((role) => role === "weight") ?? roles.find((role) => role === "vector") ?? "silent";
  }
  return spelled.has(node.op) ? spelledRole(graph, node, value, weight) : "none";
}

/**
 * Biases and scales are vectors that are not one repeated number, or that are added to a product; learned positions are
 * matrices added to embeddings or patches. Huge numbers are masks.
 */
function spelledRole(graph: Graph, node: Node, value: string, weight: Tensor): Role {
  const wide = weight.shape.filter((dim) => dim !== 1).length;
  const values = toFloat32(weight);
  if (wide === 0 || !values.every((v) => Math.abs(v) < 1e4)) return "none";
  const other = node.inputs.find((input) => input !== value) ?? "";
  const repeated = values.every((v) => v === values[0]);
  if (wide === 1 && !repeated) return "vector";
  if (node.op !== "Add") return "none";
  const source = sourceOf(graph, other);
  if (wide === 1) return source !== undefined && products.has(source.op) ? "vector" : "none";
  return source !== undefined && (products.has(source.op) || source.op === "Gather") && !repeated ? "vector" : "none";
}

/** The node that makes a value, looking through those that only rearrange it. */
function sourceOf(graph: Graph, value: string): Node | undefined {
  const { producer } = links(graph);
  let node = producer.get(value);
  while (node && (views.has(node.op) || node.op === "Concat")) {
    const made: Node = node;
    node = made.inputs.map((input) => producer.get(input)).find((source) => source !== undefined);
  }
  return node;
}
