import { type DType, isPacked, packedBytes } from "../tensor/dtype.ts";
import { unpack } from "../tensor/pack.ts";
import { type Tensor, tensor, typed } from "../tensor/tensor.ts";
import type { Attribute, FunctionDef, Graph, Node, SparseTensor, Subgraph, Type, Value } from "./graph.ts";
import { subgraphsOf } from "./graph.ts";

/** Choices for {@link print}. */
export interface PrintOptions {
  /** Elements shown of a constant, the rest as "..."; Infinity shows all. 8 by default. */
  readonly limit?: number;
}

/**
 * A graph in ONNX's textual syntax (onnx/docs/Syntax.md). With `limit: Infinity` ONNX's own parser reads the text back,
 * but for what that syntax has no words for: sparse initializers, elements below 8 bits, complex numbers. 16-bit and
 * 8-bit floats stand as the integers of their bits, as the syntax prescribes.
 */
export function print(graph: Graph, options: PrintOptions = {}): string {
  const limit = options.limit ?? 8;
  const head = [`ir_version: ${graph.irVersion}`, `opset_import: ${opsetList(graph.opsets)}`];
  const metadata = Object.entries(graph.metadata).map(([key, value]) => `${quoted(key)}: ${quoted(value)}`);
  if (metadata.length > 0) head.push(`metadata_props: [${metadata.join(", ")}]`);
  const functions = graph.functions.map((def) => `\n${printFunction(def, limit)}\n`);
  return `<\n  ${head.join(",\n  ")}\n>\n${printGraph(graph, "", limit)}\n${functions.join("")}`;
}

/** One node in ONNX's textual syntax, e.g. `[fc] y = Gemm <transB: int = 1> (x, w, b)`. */
export function printNode(node: Node, limit = 8, indent = ""): string {
  const label = node.name ? `[${id(node.name)}] ` : "";
  const domain = node.domain ? `${node.domain}.` : "";
  const op = `${domain}${node.op}${node.overload ? `:${node.overload}` : ""}`;
  const entries = Object.entries(node.attributes);
  const attributes =
    entries.length > 0 ? ` <${entries.map(([name, a]) => printAttribute(name, a, indent, limit)).join(", ")}>` : "";
  const inputs = ` (${node.inputs.map(id).join(", ")})`;
  // an attribute that holds a graph stands last, so that the inputs are not lost behind it
  const rest = subgraphsOf(node).length > 0 ? inputs + attributes : attributes + inputs;
  return `${indent}${label}${node.outputs.map(id).join(", ")} = ${op}${rest}`;
}

function printGraph(graph: Subgraph, indent: string, limit: number): string {
  const border = (values: readonly Value[]): string => `(${values.map(printValue).join(", ")})`;
  const inner = `${indent}  `;
  const values = [
    ...[...graph.weights].map(([name, t]) => `${tensorType(t)} ${id(name)} = ${printData(t, limit)}`),
    ...[...graph.sparse].map(([name, s]) => `${sparseType(s)} ${id(name)} = ${printSparse(s, limit)}`),
    ...[...graph.declared.values()].filter(({ type }) => type).map(printValue),
  ];
  const list = values.length > 0 ? `\n${indent}<\n${inner}${values.join(`,\n${inner}`)}\n${indent}>` : "";
  const nodes = graph.nodes.map((node) => `${printNode(node, limit, inner)}\n`).join("");
  return `${id(graph.name)} ${border(graph.inputs)} => ${border(graph.outputs)}${list}\n${indent}{\n${nodes}${indent}}`;
}

function printFunction(def: FunctionDef, limit: number): string {
  const head = [`domain: ${quoted(def.domain)}`, `opset_import: ${opsetList(def.opsets)}`];
  if (def.overload) head.push(`overload: ${quoted(def.overload)}`);
  const defaults = Object.entries(def.defaults).map(([name, a]) => printAttribute(name, a, "", limit));
  const attributes = [...def.attributes, ...defaults];
  const list = attributes.length > 0 ? ` <${attributes.join(", ")}>` : "";
  const declared = [...def.declared.values()].filter(({ type }) => type).map(printValue);
  const types = declared.length > 0 ? `\n<${declared.join(", ")}>` : "";
  const border = `(${def.inputs.map(id).join(", ")}) => (${def.outputs.map(id).join(", ")})`;
  const nodes = def.nodes.map((node) => `${printNode(node, limit, "  ")}\n`).join("");
  return `<\n  ${head.join(",\n  ")}\n>\n${id(def.name)}${list} ${border}${types}\n{\n${nodes}}`;
}

function opsetList(opsets: Readonly<Record<string, number>>): string {
  const entries = Object.entries(opsets).map(([domain, version]) => `${quoted(domain)} : ${version}`);
  return `[${entries.join(", ")}]`;
}

function printAttribute(name: string, attribute: Attribute, indent: string, limit: number): string {
  if (attribute.type === "ref") return `${id(name)}: ${attribute.of.toLowerCase()} = @${attribute.value}`;
  return `${id(name)}: ${attributeTypes[attribute.type] ?? attribute.type} = ${printAttributeValue(attribute, indent, limit)}`;
}

const attributeTypes: Partial<Record<Attribute["type"], string>> = {
  sparse: "sparse_tensor",
  sparses: "sparse_tensors",
  other: "type_proto",
};

function printAttributeValue(attribute: Attribute, indent: string, limit: number): string {
  const list = <T>(items: readonly T[], one: (item: T) => string): string => `[${items.map(one).join(", ")}]`;
  const constant = (t: Tensor): string => `${tensorType(t)} ${printData(t, limit)}`;
  const sparse = (s: SparseTensor): string => `${sparseType(s)} ${printSparse(s, limit)}`;
  const graph = (g: Subgraph): string => printGraph(g, `${indent}  `, limit);
  switch (attribute.type) {
    case "float":
      return printFloat(attribute.value, true);
    case "int":
      return `${attribute.value}`;
    case "string":
      return quoted(attribute.value);
    case "tensor":
      return constant(attribute.value);
    case "sparse":
      return sparse(attribute.value);
    case "graph":
      return graph(attribute.value);
    case "floats":
      return list(attribute.value, (v) => printFloat(v, true));
    case "ints":
      return list(attribute.value, String);
    case "strings":
      return list(attribute.value, quoted);
    case "tensors":
      return list(attribute.value, constant);
    case "sparses":
      return list(attribute.value, sparse);
    case "graphs":
      return list(attribute.value, graph);
    default:
      return "...";
  }
}

function printValue(value: Value): string {
  return `${value.type ? `${printType(value.type)} ` : ""}${id(value.name)}`;
}

const typeNames: Partial<Record<DType, string>> = { float32: "float", float64: "double" };

/** A type in ONNX's textual syntax: "float[N,3]", "float" for a scalar, "float[]" for unknown rank. */
export function printType(type: Type): string {
  switch (type.kind) {
    case "tensor":
    case "sparse": {
      const dims = type.shape?.map((dim) => (dim === null ? "?" : typeof dim === "string" ? id(dim) : dim));
      const shape = dims?.length === 0 ? "" : `[${dims?.join(",") ?? ""}]`;
      const text = `${typeNames[type.dtype] ?? type.dtype}${shape}`;
      return type.kind === "sparse" ? `sparse_tensor(${text})` : text;
    }
    case "sequence":
      return `seq(${printType(type.element)})`;
    case "optional":
      return `optional(${printType(type.element)})`;
    case "map":
      return `map(${typeNames[type.key] ?? type.key}, ${printType(type.value)})`;
    default:
      return "opaque()";
  }
}

function tensorType(t: Tensor): string {
  return printType({ kind: "tensor", dtype: t.dtype, shape: t.shape });
}

function sparseType(s: SparseTensor): string {
  return printType({ kind: "sparse", dtype: s.values.dtype, shape: s.shape });
}

function printSparse(s: SparseTensor, limit: number): string {
  return `${printData(s.values, limit)} at ${printData(s.indices, limit)}`;
}

function printData(t: Tensor, limit: number): string {
  const shown = Math.min(t.size, limit);
  const items = t.strings ? t.strings.slice(0, shown).map(quoted) : firstElements(t, shown);
  if (shown < t.size) items.push("...");
  return `{${items.join(", ")}}`;
}

/** The first elements as text, with no more bytes read than they take. */
function firstElements(t: Tensor, count: number): string[] {
  const bytes = t.bytes(0, packedBytes(t.dtype, count));
  if (t.dtype === "float4e2m1") return Array.from(unpack(bytes, "uint4", count), String);
  if (isPacked(t.dtype)) return Array.from(unpack(bytes, t.dtype, count), String);
  const data = typed(tensor(t.dtype, [count], bytes));
  if (data instanceof Float32Array) return Array.from(data, (v) => printFloat(v, true));
  if (data instanceof Float64Array) return Array.from(data, (v) => printFloat(v, false));
  return Array.from(data as ArrayLike<number | bigint>, String);
}

/** The shortest decimal that reads back to the same number. */
function printFloat(value: number, single: boolean): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0";
  if (single) {
    for (let digits = 6; digits < 9; digits++) {
      const text = Number(value.toPrecision(digits));
      if (Math.fround(text) === Math.fround(value)) return `${text}`;
    }
  }
  return `${single ? Number(value.toPrecision(9)) : value}`;
}

/** A name, quoted where it is not a plain identifier. */
function id(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? name : quoted(name);
}

function quoted(text: string | Uint8Array): string {
  if (typeof text === "string") return `"${text.replace(/[\\"]/g, "\\$&")}"`;
  return `"${Array.from(text, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}"`;
}
