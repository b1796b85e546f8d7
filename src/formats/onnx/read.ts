import { fromBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  type FunctionProto,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type SparseTensorProto,
  type ValueInfoProto,
} from "onnx-buf";
import { fail, messageOf, PareError } from "../../errors.ts";
import type { Attribute, FunctionDef, Graph, Node, SparseTensor, Subgraph, Value } from "../../graph/graph.ts";
import { reads, topological } from "../../graph/walk.ts";
import { sizeOf, type Tensor } from "../../tensor/tensor.ts";
import type { ByteSource } from "../source.ts";
import { beyond, exactList, normalDomain, readMetadata, readOpsets, safeInteger } from "./messages.ts";
import { decodeString, type OpenExternal, readTensor, readTensorAt } from "./tensors.ts";
import { readValue } from "./values.ts";
import { extract } from "./wire.ts";

const graphField = 7;
const initializerField = 5;
/** Other readers stop at 100 nested protobuf messages, of which each graph takes three. */
const maxDepth = 33;

/** What a file said of an attribute beyond type, name and value. */
export const attributeExtras = new WeakMap<Attribute, Readonly<Record<string, unknown>>>();

/**
 * Reads an ONNX model. Weights stay in the source until asked for. Everything the file says survives: what pare has no
 * place for is kept as it is and written back.
 *
 * @param open finds the files of external data by their location, relative to the model
 * @throws PareError if the bytes are not a well-formed ONNX model (ONNX IR specification, onnx.proto)
 */
export function readOnnx(source: ByteSource, open: OpenExternal = noExternal(source.name)): Graph {
  if (source.size === 0) fail(source.name, "the file is empty");
  try {
    return readModel(source, open);
  } catch (error) {
    if (error instanceof PareError) throw error;
    return fail(
      source.name,
      `not a readable ONNX model (${messageOf(error)})`,
      "The file is damaged or not ONNX",
      error,
    );
  }
}

function noExternal(file: string): OpenExternal {
  return (location) =>
    fail(file, `external data '${location}' is needed and not at hand`, "Load the model from its folder");
}

interface Reader {
  readonly file: string;
  readonly open: OpenExternal;
  /** How many graphs stand around this one. */
  readonly depth: number;
}

/** The parts of a ModelProto that are kept as they are. */
export type ModelExtra = Partial<ModelProto>;

function readModel(source: ByteSource, open: OpenExternal): Graph {
  const { spans, rest } = extract(source, 0, source.size, graphField);
  const model = fromBinary(ModelProtoSchema, rest);
  const span = spans[0] ?? fail(source.name, "it holds no graph", "It is not an ONNX model");
  if (spans.length > 1) fail(source.name, "it holds more than one graph", "The file is damaged");
  const reader = { file: source.name, open, depth: 0 };
  const inner = extract(source, span.dataStart, span.end, initializerField);
  const body = readGraph(fromBinary(GraphProtoSchema, inner.rest), reader);
  const weights = new Map<string, Tensor>();
  for (const { dataStart, end } of inner.spans) {
    const { name, tensor } = readTensorAt(source, dataStart, end, open);
    addUnique(weights, name, tensor, reader);
  }
  const opsets = readOpsets(model.opsetImport, source.name);
  const metadata = readMetadata(model.metadataProps);
  return {
    ...body,
    weights,
    irVersion: safeInteger(model.irVersion, source.name, "bad IR version"),
    opsets,
    metadata,
    functions: model.functions.map((f) => readFunction(f, reader)),
    modelExtra: {
      ...beyond(model, ["irVersion", "opsetImport", "metadataProps", "functions", "graph"]),
      ...optional("opsetImport", exactList(model.opsetImport, opsets)),
      ...optional("metadataProps", exactList(model.metadataProps, metadata)),
    },
  };
}

function optional<T>(key: string, value: T | undefined): Readonly<Record<string, T>> {
  return value === undefined ? {} : { [key]: value };
}

function addUnique<T>(found: Map<string, T>, name: string, item: T, reader: Reader): void {
  if (found.has(name)) fail(reader.file, `two initializers are named '${name}'`, "Rename one of them");
  found.set(name, item);
}

function readGraph(proto: GraphProto, reader: Reader): Subgraph {
  if (reader.depth > maxDepth) fail(reader.file, `graphs are nested more than ${maxDepth} deep`, "The file is damaged");
  const weights = new Map<string, Tensor>();
  for (const t of proto.initializer) addUnique(weights, t.name, readTensor(t, reader.file, reader.open), reader);
  const sparse = new Map<string, SparseTensor>();
  for (const s of proto.sparseInitializer) addUnique(sparse, s.values?.name ?? "", readSparse(s, reader), reader);
  const { declared, repeated } = readDeclared(proto.valueInfo);
  const known = ["name", "node", "initializer", "sparseInitializer", "input", "output", "valueInfo"];
  const extra = { ...beyond(proto, known), ...repeated };
  return {
    name: proto.name,
    nodes: ordered(proto.node.map((node) => readNode(node, reader))),
    weights,
    sparse,
    inputs: proto.input.map(readValue),
    outputs: proto.output.map(readValue),
    declared,
    ...(Object.keys(extra).length > 0 && { extra }),
  };
}

/**
 * Nodes as they stand in the file where each follows what it reads; sorted otherwise. Left alone where two nodes make the
 * same value: no order is right then, and validation tells it.
 */
function ordered(nodes: readonly Node[]): readonly Node[] {
  const makers = new Map<string, number>();
  for (const [i, { outputs }] of nodes.entries()) {
    for (const name of outputs) {
      if (name === "") continue;
      if (makers.has(name)) return nodes;
      makers.set(name, i);
    }
  }
  const inOrder = nodes.every((node, i) => [...reads(node)].every((name) => (makers.get(name) ?? -1) < i));
  return inOrder ? nodes : topological(nodes);
}

/** Declared values by name, and apart from them the declarations that repeat a name. */
function readDeclared(protos: readonly ValueInfoProto[]) {
  const declared = new Map<string, Value>();
  const valueInfo: ValueInfoProto[] = [];
  for (const proto of protos) {
    if (declared.has(proto.name)) valueInfo.push(proto);
    else declared.set(proto.name, readValue(proto));
  }
  return { declared, repeated: valueInfo.length > 0 ? { valueInfo } : {} };
}

function readNode(proto: NodeProto, reader: Reader): Node {
  const extra = beyond(proto, ["opType", "domain", "name", "input", "output", "attribute", "overload"]);
  const who = `${reader.file}: node '${proto.name || `${proto.opType}(${proto.output[0] ?? ""})`}'`;
  return {
    op: proto.opType,
    domain: normalDomain(proto.domain),
    name: proto.name,
    inputs: proto.input,
    outputs: proto.output,
    attributes: readAttributes(proto.attribute, who, reader),
    ...(proto.overload && { overload: proto.overload }),
    ...(extra && { extra }),
  };
}

function readAttributes(protos: readonly AttributeProto[], who: string, reader: Reader): Record<string, Attribute> {
  const out = new Map<string, Attribute>();
  for (const proto of protos) {
    if (out.has(proto.name)) fail(who, `two attributes are named '${proto.name}'`, "The file is damaged");
    out.set(proto.name, readAttribute(proto, `${who}, attribute '${proto.name}'`, reader));
  }
  return Object.fromEntries(out);
}

function readAttribute(proto: AttributeProto, who: string, reader: Reader): Attribute {
  const type = proto.type || guessType(proto);
  const attribute: Attribute = proto.refAttrName
    ? { type: "ref", value: proto.refAttrName, of: AttributeType[proto.type] ?? "UNDEFINED" }
    : readValueOf(proto, type, who, reader);
  const value = proto.refAttrName ? "refAttrName" : valueFields[type];
  const extra = attribute.type === "other" ? undefined : beyond(proto, ["name", "type", value ?? ""]);
  if (extra) attributeExtras.set(attribute, extra);
  return attribute;
}

function readValueOf(proto: AttributeProto, type: AttributeType, who: string, reader: Reader): Attribute {
  const missing = (): never => fail(who, "its value is missing", "The file is damaged");
  const inner = { ...reader, depth: reader.depth + 1 };
  switch (type) {
    case AttributeType.FLOAT:
      return { type: "float", value: proto.f };
    case AttributeType.INT:
      return { type: "int", value: integer(proto.i) };
    case AttributeType.STRING:
      return { type: "string", value: decodeString(proto.s) };
    case AttributeType.TENSOR:
      return { type: "tensor", value: readTensor(proto.t ?? missing(), reader.file, reader.open) };
    case AttributeType.SPARSE_TENSOR:
      return { type: "sparse", value: readSparse(proto.sparseTensor ?? missing(), reader) };
    case AttributeType.GRAPH:
      return { type: "graph", value: readGraph(proto.g ?? missing(), inner) };
    case AttributeType.FLOATS:
      return { type: "floats", value: proto.floats };
    case AttributeType.INTS:
      return { type: "ints", value: proto.ints.map(integer) };
    case AttributeType.STRINGS:
      return { type: "strings", value: proto.strings.map(decodeString) };
    case AttributeType.TENSORS:
      return { type: "tensors", value: proto.tensors.map((t) => readTensor(t, reader.file, reader.open)) };
    case AttributeType.SPARSE_TENSORS:
      return { type: "sparses", value: proto.sparseTensors.map((s) => readSparse(s, reader)) };
    case AttributeType.GRAPHS:
      return { type: "graphs", value: proto.graphs.map((g) => readGraph(g, inner)) };
    default:
      return { type: "other", value: proto };
  }
}

/** The field that holds the value of an attribute of each type. */
const valueFields: Partial<Record<AttributeType, keyof AttributeProto>> = {
  [AttributeType.FLOAT]: "f",
  [AttributeType.INT]: "i",
  [AttributeType.STRING]: "s",
  [AttributeType.TENSOR]: "t",
  [AttributeType.GRAPH]: "g",
  [AttributeType.SPARSE_TENSOR]: "sparseTensor",
  [AttributeType.FLOATS]: "floats",
  [AttributeType.INTS]: "ints",
  [AttributeType.STRINGS]: "strings",
  [AttributeType.TENSORS]: "tensors",
  [AttributeType.GRAPHS]: "graphs",
  [AttributeType.SPARSE_TENSORS]: "sparseTensors",
};

/** Files of IR version 1 leave the attribute's type out: it is that of the field that is set. */
function guessType(proto: AttributeProto): AttributeType {
  const set = (field: keyof AttributeProto): boolean => {
    const value = proto[field];
    return Object.hasOwn(proto, field) && !(Array.isArray(value) && value.length === 0);
  };
  const found = Object.entries(valueFields).find(([, field]) => set(field));
  return found ? (Number(found[0]) as AttributeType) : AttributeType.UNDEFINED;
}

function integer(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function readSparse(proto: SparseTensorProto, reader: Reader): SparseTensor {
  const who = `${reader.file}: sparse tensor '${proto.values?.name ?? ""}'`;
  const shape = proto.dims.map(Number);
  sizeOf(shape, who);
  const part = (field: "values" | "indices"): Tensor =>
    readTensor(proto[field] ?? fail(who, `its ${field} are missing`), reader.file, reader.open);
  const extra = beyond(proto, ["dims", "values", "indices"]);
  return { values: part("values"), indices: part("indices"), shape, ...(extra && { extra }) };
}

function readFunction(proto: FunctionProto, reader: Reader): FunctionDef {
  const { name, domain, overload, input, output, attribute, attributeProto, node, opsetImport, valueInfo } = proto;
  const who = `${reader.file}: function '${name}'`;
  const opsets = readOpsets(opsetImport, who);
  const { declared, repeated } = readDeclared(valueInfo);
  const known = ["name", "domain", "overload", "input", "output", "attribute", "attributeProto", "node"];
  const extra = {
    ...beyond(proto, [...known, "opsetImport", "valueInfo"]),
    ...optional("opsetImport", exactList(opsetImport, opsets)),
    ...repeated,
  };
  return {
    name,
    domain: normalDomain(domain),
    overload,
    inputs: input,
    outputs: output,
    attributes: attribute,
    defaults: readAttributes(attributeProto, who, reader),
    nodes: ordered(node.map((n) => readNode(n, reader))),
    opsets,
    declared,
    ...(Object.keys(extra).length > 0 && { extra }),
  };
}
