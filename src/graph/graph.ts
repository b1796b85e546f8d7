import type { DType } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A dimension: a size, the name of a free size ("batch"), or null when nothing is said. */
export type Dim = number | string | null;

/** The type of a value (onnx.proto, TypeProto). A missing shape means unknown rank. */
export type Type =
  | { readonly kind: "tensor" | "sparse"; readonly dtype: DType; readonly shape?: readonly Dim[] }
  | { readonly kind: "sequence" | "optional"; readonly element: Type }
  | { readonly kind: "map"; readonly key: DType; readonly value: Type }
  | { readonly kind: "other" };

/** A named value at a graph's border, or a declared intermediate. */
export interface Value {
  readonly name: string;
  readonly type?: Type;
  /** What the file format said beyond this (doc string, denotations, unknown fields); opaque, kept for writing. */
  readonly extra?: unknown;
}

/** A sparse constant: values and their int64 coordinates (onnx.proto, SparseTensorProto). */
export interface SparseTensor {
  readonly values: Tensor;
  readonly indices: Tensor;
  readonly shape: readonly number[];
  readonly extra?: unknown;
}

/**
 * An attribute's value. Integers are bigint beyond 2^53 and number otherwise; strings that are not UTF-8 stay bytes.
 * "ref" is a function's reference to an attribute of its caller; "types" keep the format's own message.
 */
export type Attribute =
  | { readonly type: "float"; readonly value: number }
  | { readonly type: "int"; readonly value: number | bigint }
  | { readonly type: "string"; readonly value: string | Uint8Array }
  | { readonly type: "tensor"; readonly value: Tensor }
  | { readonly type: "sparse"; readonly value: SparseTensor }
  | { readonly type: "graph"; readonly value: Subgraph }
  | { readonly type: "floats"; readonly value: readonly number[] }
  | { readonly type: "ints"; readonly value: readonly (number | bigint)[] }
  | { readonly type: "strings"; readonly value: readonly (string | Uint8Array)[] }
  | { readonly type: "tensors"; readonly value: readonly Tensor[] }
  | { readonly type: "sparses"; readonly value: readonly SparseTensor[] }
  | { readonly type: "graphs"; readonly value: readonly Subgraph[] }
  | { readonly type: "ref"; readonly value: string; readonly of: string }
  | { readonly type: "other"; readonly value: unknown };

/** One operation. `""` in `inputs` is an optional input left out. */
export interface Node {
  /** Operator name, of any domain. */
  readonly op: string;
  /** Operator set: "" is ONNX's own (also spelled "ai.onnx" in files), "com.microsoft" the runtime's contrib set. */
  readonly domain: string;
  /** May be "" and need not be unique: use {@link nodeLabel} to name a node to a person. */
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** Function overload, "" for none. */
  readonly overload?: string;
  /** What the file format said beyond this; opaque, kept for writing. */
  readonly extra?: unknown;
}

/** The part of a graph that control-flow attributes nest: it sees the values of the graphs around it. */
export interface Subgraph {
  readonly name: string;
  /** In topological order. */
  readonly nodes: readonly Node[];
  /** Constants by name, with lazy bytes, shared between versions of a graph. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** Sparse constants by name. */
  readonly sparse: ReadonlyMap<string, SparseTensor>;
  /** May repeat names of `weights`: those inputs are optional, with the weight as default. */
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  /** Types the file declared for intermediate values (a hint: pare observes types instead of trusting it). */
  readonly declared: ReadonlyMap<string, Value>;
  readonly extra?: unknown;
}

/** A function of the model: an operator defined by nodes. */
export interface FunctionDef {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes without default. */
  readonly attributes: readonly string[];
  readonly defaults: Readonly<Record<string, Attribute>>;
  readonly nodes: readonly Node[];
  readonly opsets: Readonly<Record<string, number>>;
  readonly declared: ReadonlyMap<string, Value>;
  readonly extra?: unknown;
}

/** A model: an immutable value. Change it with {@link edit}. */
export interface Graph extends Subgraph {
  /** Operator-set versions by domain; `opsets[""]` is ONNX's own. */
  readonly opsets: Readonly<Record<string, number>>;
  /** ONNX IR version. */
  readonly irVersion: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly functions: readonly FunctionDef[];
  /** What the model file said beyond this (producer, training info, unknown fields); opaque, kept for writing. */
  readonly modelExtra?: unknown;
}

/** Contents of a graph to be, everything but the nodes optional. */
export type GraphInit = Partial<Graph> & Pick<Graph, "nodes" | "inputs" | "outputs">;

/** The ONNX operator set and IR version that pare gives to graphs it builds itself: what every runtime of 2025 reads. */
export const defaultOpset = 21;
export const defaultIrVersion = 10;

/** A graph from its parts, with empty defaults. */
export function makeGraph(init: GraphInit): Graph {
  return {
    name: "graph",
    weights: new Map(),
    sparse: new Map(),
    declared: new Map(),
    opsets: { "": defaultOpset },
    irVersion: defaultIrVersion,
    metadata: {},
    functions: [],
    ...init,
  };
}

/** Attribute values in plain JavaScript; {@link attributesOf} turns them into {@link Attribute}s by their kind. */
export type PlainAttribute =
  | number
  | bigint
  | string
  | Tensor
  | Attribute
  | readonly number[]
  | readonly string[]
  | undefined;

/**
 * A node.
 *
 * @param op operator, with its domain before a colon where that is not ONNX's own: "com.microsoft:MatMulNBits"
 * @param attributes plain values: an integral number is an int (wrap a float attribute in {@link float}), undefined is
 *   left out
 */
export function makeNode(
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, PlainAttribute>> = {},
  name = "",
): Node {
  const colon = op.lastIndexOf(":");
  return {
    op: op.slice(colon + 1),
    domain: colon < 0 ? "" : op.slice(0, colon),
    name: name || `${op.slice(colon + 1)}_${outputs[0] ?? ""}`,
    inputs,
    outputs,
    attributes: attributesOf(attributes),
  };
}

/** A float attribute, whatever its value: plain integral numbers would be taken for ints. */
export function float(value: number): Attribute {
  return { type: "float", value };
}

/** A list-of-floats attribute. */
export function floats(value: readonly number[]): Attribute {
  return { type: "floats", value };
}

/** Plain values as attributes. Lists of numbers are ints; use {@link floats} for floats. */
export function attributesOf(plain: Readonly<Record<string, PlainAttribute>>): Record<string, Attribute> {
  const out: Record<string, Attribute> = {};
  for (const [name, value] of Object.entries(plain)) {
    if (value !== undefined) out[name] = attributeOf(value);
  }
  return out;
}

function attributeOf(value: Exclude<PlainAttribute, undefined>): Attribute {
  if (typeof value === "bigint") return { type: "int", value };
  if (typeof value === "number") return Number.isInteger(value) ? { type: "int", value } : { type: "float", value };
  if (typeof value === "string") return { type: "string", value };
  if (Array.isArray(value)) {
    return typeof value[0] === "string" ? { type: "strings", value } : { type: "ints", value: value as number[] };
  }
  return "dtype" in value ? { type: "tensor", value } : (value as Attribute);
}

/** How to name a node to a person: its name, or its operator and first output. */
export function nodeLabel(node: Pick<Node, "name" | "op" | "outputs">): string {
  return node.name || `${node.op}(${node.outputs.find((output) => output !== "") ?? ""})`;
}

/** Whether a node is the operator of the ONNX domain, or of another where the name is spelled "domain:Op". */
export function isNode(node: Node, op: string): boolean {
  const colon = op.lastIndexOf(":");
  return node.op === op.slice(colon + 1) && node.domain === (colon < 0 ? "" : op.slice(0, colon));
}

/** The operator with its domain before a colon where that is not ONNX's own. */
export function opKey(node: Pick<Node, "op" | "domain">): string {
  return node.domain === "" ? node.op : `${node.domain}:${node.op}`;
}

/** An int attribute as a number, or the default. */
export function intAttribute(node: Node, name: string, fallback: number): number {
  const attribute = node.attributes[name];
  return attribute?.type === "int" ? Number(attribute.value) : fallback;
}

/** A float attribute, or the default. */
export function floatAttribute(node: Node, name: string, fallback: number): number {
  const attribute = node.attributes[name];
  return attribute?.type === "float" ? attribute.value : fallback;
}

/** A list-of-ints attribute as numbers; undefined where it is absent. */
export function intsAttribute(node: Node, name: string): number[] | undefined {
  const attribute = node.attributes[name];
  return attribute?.type === "ints" ? attribute.value.map(Number) : undefined;
}

/** A string attribute, or the default. */
export function stringAttribute(node: Node, name: string, fallback: string): string {
  const attribute = node.attributes[name];
  if (attribute?.type !== "string") return fallback;
  return typeof attribute.value === "string" ? attribute.value : new TextDecoder().decode(attribute.value);
}

/** The subgraphs nested in a node's attributes. */
export function subgraphsOf(node: Node): readonly Subgraph[] {
  const found: Subgraph[] = [];
  for (const attribute of Object.values(node.attributes)) {
    if (attribute.type === "graph") found.push(attribute.value);
    else if (attribute.type === "graphs") found.push(...attribute.value);
  }
  return found;
}
