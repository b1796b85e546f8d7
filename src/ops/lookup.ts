import { intsAttribute, type Node, type Subgraph, type Value } from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { dtypeOfCode } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Element types and shapes that were observed, by value name. */
export type KnownTypes = ReadonlyMap<string, { readonly dtype: DType; readonly shape: readonly number[] }>;

/** A graph, and those around it, in which values are looked up. */
export interface Scope {
  readonly graph: Subgraph;
  readonly producers: ReadonlyMap<string, Node>;
  readonly declared: ReadonlyMap<string, Value>;
  readonly outer: Scope | undefined;
}

/** What can be told of values without running the graph. */
export interface Lookup {
  /** The data of a weight or Constant. */
  constantOf(name: string): Tensor | undefined;
  /** Number of dimensions. */
  rankOf(name: string): number | undefined;
  /** Element type. */
  dtypeOf(name: string): DType | undefined;
}

export function scopeOf(graph: Subgraph, outer: Scope | undefined): Scope {
  const producers = new Map<string, Node>();
  for (const node of graph.nodes) for (const output of node.outputs) if (output !== "") producers.set(output, node);
  const declared = new Map(graph.declared);
  for (const value of [...graph.inputs, ...graph.outputs]) declared.set(value.name, value);
  return { graph, producers, declared, outer };
}

/** Operators whose first output has the rank and element type of their first input. */
const alike = new Set(
  (
    "Abs AveragePool BatchNormalization Ceil Clip Conv ConvTranspose Dropout Elu Erf Exp Floor GlobalAveragePool " +
    "GlobalMaxPool HardSigmoid HardSwish Hardmax Identity InstanceNormalization LRN LayerNormalization LeakyRelu Log " +
    "LogSoftmax LpPool MaxPool Neg PRelu Pad Reciprocal Relu Resize Round Selu Sigmoid Slice Softmax Softplus Sqrt Tanh " +
    "ThresholdedRelu Tile Transpose Upsample Concat Split"
  ).split(" "),
);
const sameType = new Set(
  "Add Div Expand Flatten Gather Gemm MatMul Max Min Mul Pow ReduceMax ReduceMean ReduceSum Reshape Squeeze Sub Sum Unsqueeze".split(
    " ",
  ),
);

/** Answers about the values that are visible in a scope. */
export function lookup(scope: Scope, types: KnownTypes): Lookup {
  const find = <T>(get: (at: Scope) => T | undefined): T | undefined => {
    for (let at: Scope | undefined = scope; at; at = at.outer) {
      const found = get(at);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const producerOf = (name: string): Node | undefined => find(({ producers }) => producers.get(name));
  const declaredType = (name: string) => {
    const type = find(({ declared }) => declared.get(name))?.type;
    return type?.kind === "tensor" ? type : undefined;
  };
  const constantOf = (name: string): Tensor | undefined => {
    const weight = find(({ graph }) => graph.weights.get(name));
    const producer = weight ? undefined : producerOf(name);
    const value = producer?.op === "Constant" && producer.domain === "" ? producer.attributes.value : undefined;
    return weight ?? (value?.type === "tensor" ? value.value : undefined);
  };
  const rankOf = (name: string, depth = 0): number | undefined => {
    const known = types.get(name)?.shape ?? declaredType(name)?.shape ?? constantOf(name)?.shape;
    const node = producerOf(name);
    if (known || !node || node.domain !== "" || depth > 100) return known?.length;
    if (node.op === "Gemm" || node.op === "Flatten") return 2;
    if (node.op === "Reshape") return constantOf(node.inputs[1] ?? "")?.size ?? intsAttribute(node, "shape")?.length;
    return alike.has(node.op) && node.inputs[0] ? rankOf(node.inputs[0], depth + 1) : undefined;
  };
  const dtypeOf = (name: string, depth = 0): DType | undefined => {
    const known = types.get(name)?.dtype ?? declaredType(name)?.dtype ?? constantOf(name)?.dtype;
    const node = producerOf(name);
    if (known || !node || node.domain !== "" || depth > 100) return known;
    const to = node.attributes.to;
    if (node.op === "Cast" && to?.type === "int") return dtypeOfCode(Number(to.value));
    const passes = node.outputs[0] === name && (alike.has(node.op) || sameType.has(node.op));
    return passes && node.inputs[0] ? dtypeOf(node.inputs[0], depth + 1) : undefined;
  };
  return { constantOf, rankOf: (name) => rankOf(name), dtypeOf: (name) => dtypeOf(name) };
}
