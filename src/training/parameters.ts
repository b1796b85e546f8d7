import { z } from "zod";
import { didYouMean, fail } from "../errors.ts";
import { type Graph, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import { matcher } from "../graph/select.ts";
import { allNodes, links } from "../graph/walk.ts";
import { toFloat32 } from "../tensor/tensor.ts";

/** Which inputs of an operator are learned, and which of these are matrices that decay. */
interface Learned {
  readonly weights: readonly number[];
  readonly vectors: readonly number[];
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
};

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
  for (const node of allNodes(graph)) {
    if (fits(node)) for (const name of node.inputs) if (graph.weights.has(name)) found.add(name);
  }
  return found;
}

/** A weight that training changes. */
export interface Parameter {
  /** Name of the weight. */
  readonly name: string;
  /** Labels of the nodes that read it. */
  readonly nodes: readonly string[];
  /** Whether weight decay applies: to matrices and kernels, not to biases, norms and slopes. */
  readonly decays: boolean;
}

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
    const roles = nodes.map((node) => roleOf(graph, node, name));
    if (roles.some((role) => role === "none") || roles.length === 0 || !nodes.some(trains)) return [];
    return [{ name, nodes: nodes.map(nodeLabel), decays: roles.includes("weight") }];
  });
}

function roleOf(graph: Graph, node: Node, name: string): "weight" | "vector" | "none" {
  const places = node.inputs.flatMap((input, i) => (input === name ? [i] : []));
  if (places.length === 0) return "none"; // read inside control flow
  const positions = learned[opKey(node)];
  if (positions) {
    if (places.every((i) => positions.weights.includes(i))) return "weight";
    return places.every((i) => positions.vectors.includes(i) || positions.weights.includes(i)) ? "vector" : "none";
  }
  if (node.domain !== "" || !spelled.has(node.op)) return "none";
  const weight = graph.weights.get(name)!;
  const wide = weight.shape.filter((dim) => dim !== 1);
  if (wide.length !== 1) return "none";
  // a vector of one repeated number, or of huge ones, is a constant of the computation: a mask, a range
  const values = toFloat32(weight);
  return values.every((v) => Math.abs(v) < 1e4) && new Set(values).size > 1 ? "vector" : "none";
}
