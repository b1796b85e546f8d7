import { fromBinary, type Message } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  type FunctionProto,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type OperatorSetIdProto,
  type SparseTensorProto,
  type TypeProto,
  type ValueInfoProto,
} from "onnx-buf";
import { fail, messageOf, PareError } from "../../errors.ts";
import type {
  Attribute,
  Dim,
  FunctionDef,
  Graph,
  Node,
  SparseTensor,
  Subgraph,
  Type,
  Value,
} from "../../graph/graph.ts";
import { dtypeOfCode } from "../../tensor/dtype.ts";
import { sizeOf, type Tensor } from "../../tensor/tensor.ts";
import type { ByteSource } from "../source.ts";
import { decodeString, type OpenExternal, readTensor, readTensorAt } from "./tensors.ts";
import { extract } from "./wire.ts";

const graphField = 7;
const initializerField = 5;

/** What a file said of an attribute beyond type, name and value. */
export const attributeExtras = new WeakMap<Attribute, Partial<AttributeProto>>();

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

function readModel(source: ByteSource, open: OpenExternal): Graph {
  const { spans, rest } = extract(source, 0, source.size, graphField);
  const model = fromBinary(ModelProtoSchema, rest);
  const span = spans[0] ?? fail(source.name, "it holds no graph", "It is not an ONNX model");
  if (spans.length > 1) fail(source.name, "it holds more than one graph", "The file is damaged");
  const reader = { file: source.name, open };
  const inner = extract(source, span.dataStart, span.end, initializerField);
  const body = readGraph(fromBinary(GraphProtoSchema, inner.rest), reader);
  const weights = new Map<string, Tensor>();
  for (const { dataStart, end } of inner.spans) {
    const { name, tensor } = readTensorAt(source, dataStart, end, open);
    if (weights.has(name)) fail(source.name, `two initializers are named '${name}'`);
    weights.set(name, tensor);
  }
  const { irVersion, opsetImport, metadataProps, functions, graph: _, $typeName, ...others } = model;
  return {
    ...body,
    weights,
    irVersion: Number(irVersion),
    opsets: readOpsets(opsetImport),
    metadata: Object.fromEntries(metadataProps.map(({ key, value }) => [key, value])),
    functions: functions.map((f) => readFunction(f, reader)),
    modelExtra: others,
  };
}

interface Reader {
  readonly file: string;
  readonly open: OpenExternal;
}

function readOpsets(imports: readonly OperatorSetIdProto[]): Record<string, number> {
  return Object.fromEntries(imports.map(({ domain, version }) => [normalDomain(domain), Number(version)]));
}

function normalDomain(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

function readGraph(proto: GraphProto, reader: Reader): Subgraph {
  const weights = new Map<string, Tensor>();
  for (const tensor of proto.initializer) {
    if (weights.has(tensor.name)) fail(reader.file, `two initializers are named '${tensor.name}'`);
    weights.set(tensor.name, readTensor(tensor, reader.file, reader.open));
  }
  const { docString, quantizationAnnotation, metadataProps, $unknown } = proto;
  const said = docString || quantizationAnnotation.length > 0 || metadataProps.length > 0 || $unknown;
  return {
    name: proto.name,
    nodes: proto.node.map((node) => readNode(node, reader)),
    weights,
    sparse: new Map(proto.sparseInitializer.map((s) => [s.values?.name ?? "", readSparse(s, reader)])),
    inputs: proto.input.map(readValue),
    outputs: proto.output.map(readValue),
    declared: new Map(proto.valueInfo.map((value) => [value.name, readValue(value)])),
    ...(said && { extra: { docString, quantizationAnnotation, metadataProps, ...($unknown && { $unknown }) } }),
  };
}

function readNode(proto: NodeProto, reader: Reader): Node {
  const { docString, metadataProps, deviceConfigurations, $unknown } = proto;
  const said = docString || metadataProps.length > 0 || deviceConfigurations.length > 0 || $unknown;
  return {
    op: proto.opType,
    domain: normalDomain(proto.domain),
    name: proto.name,
    inputs: proto.input,
    outputs: proto.output,
    attributes: readAttributes(proto.attribute, reader),
    ...(proto.overload && { overload: proto.overload }),
    ...(said && { extra: { docString, metadataProps, deviceConfigurations, ...($unknown && { $unknown }) } }),
  };
}

function readAttributes(protos: readonly AttributeProto[], reader: Reader): Record<string, Attribute> {
  const out: Record<string, Attribute> = {};
  for (const proto of protos) {
    const attribute = readAttribute(proto, reader);
    if (proto.docString || proto.$unknown) {
      attributeExtras.set(attribute, {
        docString: proto.docString,
        ...(proto.$unknown && { $unknown: proto.$unknown }),
      });
    }
    Object.defineProperty(out, proto.name, { value: attribute, enumerable: true, configurable: true, writable: true });
  }
  return out;
}

function readAttribute(proto: AttributeProto, reader: Reader): Attribute {
  const who = `${reader.file}: attribute '${proto.name}'`;
  if (proto.refAttrName) return { type: "ref", value: proto.refAttrName, of: AttributeType[proto.type] ?? "UNDEFINED" };
  const missing = (): never => fail(who, "its value is missing");
  switch (proto.type === AttributeType.UNDEFINED ? guessType(proto) : proto.type) {
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
      return { type: "graph", value: readGraph(proto.g ?? missing(), reader) };
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
      return { type: "graphs", value: proto.graphs.map((g) => readGraph(g, reader)) };
    default:
      return { type: "other", value: proto };
  }
}

/** Files of IR version 1 leave the attribute's type out: it is that of the field that is set. */
function guessType(proto: AttributeProto): AttributeType {
  if (proto.ints.length > 0) return AttributeType.INTS;
  if (proto.floats.length > 0) return AttributeType.FLOATS;
  if (proto.strings.length > 0) return AttributeType.STRINGS;
  if (proto.s.length > 0) return AttributeType.STRING;
  if (proto.t) return AttributeType.TENSOR;
  if (proto.g) return AttributeType.GRAPH;
  if (proto.f !== 0) return AttributeType.FLOAT;
  return proto.i !== 0n ? AttributeType.INT : AttributeType.UNDEFINED;
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
  const extra = { indicesName: proto.indices?.name ?? "", ...(proto.$unknown && { $unknown: proto.$unknown }) };
  return { values: part("values"), indices: part("indices"), shape, extra };
}

function readValue(proto: ValueInfoProto): Value {
  const { docString, metadataProps, $unknown } = proto;
  const type = proto.type && readType(proto.type);
  const plain = !proto.type || isPlain(proto.type);
  const said = docString || metadataProps.length > 0 || $unknown || !plain;
  const extra = { docString, metadataProps, ...($unknown && { $unknown }), ...(!plain && { type: proto.type }) };
  return { name: proto.name, ...(type && { type }), ...(said && { extra }) };
}

/** Whether our own Type says all that a TypeProto says. */
function isPlain(proto: TypeProto): boolean {
  if (proto.denotation || proto.$unknown) return false;
  const inner = proto.value.value as (Message & { $unknown?: unknown }) | undefined;
  if (inner?.$unknown || !inner) return false;
  switch (proto.value.case) {
    case "tensorType":
    case "sparseTensorType":
      return (
        !proto.value.value.shape?.$unknown &&
        (proto.value.value.shape?.dim.every((d) => !d.denotation && !d.$unknown) ?? true)
      );
    case "sequenceType":
    case "optionalType":
      return proto.value.value.elemType !== undefined && isPlain(proto.value.value.elemType);
    case "mapType":
      return proto.value.value.valueType !== undefined && isPlain(proto.value.value.valueType);
    default:
      return false;
  }
}

function readType(proto: TypeProto): Type {
  const { value } = proto;
  switch (value.case) {
    case "tensorType":
    case "sparseTensorType": {
      if (value.value.elemType === 0) return { kind: "other" };
      const shape = value.value.shape?.dim.map(({ value: dim }): Dim => {
        if (dim.case === "dimValue") return Number(dim.value);
        return dim.case === "dimParam" && dim.value !== "" ? dim.value : null;
      });
      const dtype = dtypeOfCode(value.value.elemType);
      return { kind: value.case === "tensorType" ? "tensor" : "sparse", dtype, ...(shape && { shape }) };
    }
    case "sequenceType":
    case "optionalType": {
      if (!value.value.elemType) return { kind: "other" };
      return { kind: value.case === "sequenceType" ? "sequence" : "optional", element: readType(value.value.elemType) };
    }
    case "mapType": {
      const { keyType, valueType } = value.value;
      if (!valueType || keyType === 0) return { kind: "other" };
      return { kind: "map", key: dtypeOfCode(keyType), value: readType(valueType) };
    }
    default:
      return { kind: "other" };
  }
}

function readFunction(proto: FunctionProto, reader: Reader): FunctionDef {
  const { docString, metadataProps, $unknown } = proto;
  return {
    name: proto.name,
    domain: normalDomain(proto.domain),
    overload: proto.overload,
    inputs: proto.input,
    outputs: proto.output,
    attributes: proto.attribute,
    defaults: readAttributes(proto.attributeProto, reader),
    nodes: proto.node.map((node) => readNode(node, reader)),
    opsets: readOpsets(proto.opsetImport),
    declared: new Map(proto.valueInfo.map((value) => [value.name, readValue(value)])),
    extra: { docString, metadataProps, ...($unknown && { $unknown }) },
  };
}

/** The parts of a ModelProto that are kept as they are. */
export type ModelExtra = Omit<
  Partial<ModelProto>,
  "$typeName" | "graph" | "irVersion" | "opsetImport" | "metadataProps" | "functions"
>;
