import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  type FunctionProto,
  FunctionProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type OperatorSetIdProto,
  OperatorSetIdProtoSchema,
  type SparseTensorProto,
  SparseTensorProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
  type TypeProto,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import { fail } from "../../errors.ts";
import type { Attribute, FunctionDef, Graph, Node, SparseTensor, Subgraph, Type, Value } from "../../graph/graph.ts";
import { dtypes } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { attributeExtras, type ModelExtra } from "./read.ts";
import { encodeString, tensorHeader, tensorProto } from "./tensors.ts";
import { varintBytes } from "./wire.ts";

/** Where a weight's bytes go when not into the model file itself. */
export interface ExternalSlot {
  readonly location: string;
  readonly offset: number;
}

/** protobuf's limit on one message: larger models must keep their weights outside. */
export const maxModelBytes = 2 ** 31 - 1;

const chunkBytes = 1 << 24;

/**
 * An ONNX model as a sequence of byte chunks: weights are read, and handed out, one chunk at a time.
 *
 * @param placed where to point for a weight that is stored outside; undefined keeps it in the file
 * @throws PareError if the file would pass protobuf's 2 GiB
 */
export function* writeOnnx(
  graph: Graph,
  placed: (name: string, weight: Tensor) => ExternalSlot | undefined = () => undefined,
): Generator<Uint8Array> {
  const { model, body, initializers, graphBytes } = layout(graph, placed);
  if (graphBytes + model.length > maxModelBytes) {
    fail(
      graph.name || "model",
      `${graphBytes} bytes pass the 2 GiB that one ONNX file can hold`,
      "Store its weights as external data",
    );
  }
  yield model;
  yield joined([Uint8Array.of(0x3a), varintBytes(graphBytes), body]);
  for (const { prefix, data } of initializers) {
    yield prefix;
    if (data) yield* chunksOf(data);
  }
}

/** Bytes of the model as one file, weights included; no weight is read. */
export function onnxSize(graph: Graph): number {
  const { model, graphBytes } = layout(graph, () => undefined);
  return model.length + 1 + varintBytes(graphBytes).length + graphBytes;
}

function layout(graph: Graph, placed: (name: string, weight: Tensor) => ExternalSlot | undefined) {
  const model = modelRest(graph);
  const body = toBinary(GraphProtoSchema, graphProto({ ...graph, weights: new Map() }));
  const initializers = [...graph.weights].map(([name, weight]) => initializer(name, weight, placed(name, weight)));
  const graphBytes = initializers.reduce(
    (sum, { prefix, data }) => sum + prefix.length + (data?.byteLength ?? 0),
    body.length,
  );
  return { model, body, initializers, graphBytes };
}

/** A tensor's packed bytes in chunks of at most 16 MiB. */
export function* chunksOf(t: Tensor): Generator<Uint8Array> {
  for (let at = 0; at < t.byteLength; at += chunkBytes) yield t.bytes(at, Math.min(chunkBytes, t.byteLength - at));
}

/** A model's ONNX bytes in one buffer. For large models prefer {@link writeOnnx}, which streams. */
export function encodeOnnx(
  graph: Graph,
  placed?: (name: string, weight: Tensor) => ExternalSlot | undefined,
): Uint8Array<ArrayBuffer> {
  return joined([...writeOnnx(graph, placed)]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** The record of one initializer inside the graph message: everything up to its raw data, and that data. */
function initializer(name: string, weight: Tensor, slot?: ExternalSlot): { prefix: Uint8Array; data?: Tensor } {
  const proto = tensorHeader(weight, name);
  if (slot) {
    proto.dataLocation = TensorProto_DataLocation.EXTERNAL;
    const entries = { location: slot.location, offset: `${slot.offset}`, length: `${weight.byteLength}` };
    const said = Object.entries(entries).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
    proto.externalData = [...said, ...proto.externalData];
  } else {
    proto.externalData = [];
  }
  const header = toBinary(TensorProtoSchema, proto);
  if (slot || weight.strings) return { prefix: joined([Uint8Array.of(0x2a), varintBytes(header.length), header]) };
  const raw = joined([Uint8Array.of(0x4a), varintBytes(weight.byteLength)]);
  const length = header.length + raw.length + weight.byteLength;
  return { prefix: joined([Uint8Array.of(0x2a), varintBytes(length), header, raw]), data: weight };
}

function modelRest(graph: Graph): Uint8Array {
  const { $unknown, ...extra } = (graph.modelExtra ?? { producerName: "pare" }) as ModelExtra;
  const model = create(ModelProtoSchema);
  Object.assign(model, extra);
  model.irVersion = BigInt(graph.irVersion);
  model.opsetImport = opsetProtos(graph.opsets);
  model.metadataProps = Object.entries(graph.metadata).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value }),
  );
  model.functions = graph.functions.map(functionProto);
  if ($unknown) model.$unknown = $unknown;
  return toBinary(ModelProtoSchema, model);
}

function opsetProtos(opsets: Readonly<Record<string, number>>): OperatorSetIdProto[] {
  return Object.entries(opsets).map(([domain, version]) =>
    create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) }),
  );
}

function graphProto(graph: Subgraph): GraphProto {
  const proto = create(GraphProtoSchema);
  Object.assign(proto, graph.extra);
  proto.name = graph.name;
  proto.node = graph.nodes.map(nodeProto);
  proto.initializer = [...graph.weights].map(([name, weight]) => tensorProto(weight, name));
  proto.sparseInitializer = [...graph.sparse].map(([name, sparse]) => sparseProto(sparse, name));
  proto.input = graph.inputs.map(valueProto);
  proto.output = graph.outputs.map(valueProto);
  proto.valueInfo = [...graph.declared.values()].map(valueProto);
  return proto;
}

function nodeProto(node: Node): NodeProto {
  const proto = create(NodeProtoSchema);
  Object.assign(proto, node.extra);
  proto.opType = node.op;
  proto.domain = node.domain;
  proto.name = node.name;
  proto.input = [...node.inputs];
  proto.output = [...node.outputs];
  proto.overload = node.overload ?? "";
  proto.attribute = attributeProtos(node.attributes);
  return proto;
}

function attributeProtos(attributes: Readonly<Record<string, Attribute>>): AttributeProto[] {
  return Object.entries(attributes).map(([name, attribute]) => attributeProto(name, attribute));
}

function attributeProto(name: string, attribute: Attribute): AttributeProto {
  if (attribute.type === "other") return attribute.value as AttributeProto;
  const proto = create(AttributeProtoSchema);
  Object.assign(proto, attributeExtras.get(attribute));
  proto.name = name;
  switch (attribute.type) {
    case "ref":
      proto.refAttrName = attribute.value;
      proto.type = AttributeType[attribute.of as keyof typeof AttributeType];
      break;
    case "float":
      proto.type = AttributeType.FLOAT;
      proto.f = attribute.value;
      break;
    case "int":
      proto.type = AttributeType.INT;
      proto.i = BigInt(attribute.value);
      break;
    case "string":
      proto.type = AttributeType.STRING;
      proto.s = encodeString(attribute.value);
      break;
    case "tensor":
      proto.type = AttributeType.TENSOR;
      proto.t = tensorProto(attribute.value);
      break;
    case "sparse":
      proto.type = AttributeType.SPARSE_TENSOR;
      proto.sparseTensor = sparseProto(attribute.value);
      break;
    case "graph":
      proto.type = AttributeType.GRAPH;
      proto.g = graphProto(attribute.value);
      break;
    case "floats":
      proto.type = AttributeType.FLOATS;
      proto.floats = [...attribute.value];
      break;
    case "ints":
      proto.type = AttributeType.INTS;
      proto.ints = attribute.value.map(BigInt);
      break;
    case "strings":
      proto.type = AttributeType.STRINGS;
      proto.strings = attribute.value.map(encodeString);
      break;
    case "tensors":
      proto.type = AttributeType.TENSORS;
      proto.tensors = attribute.value.map((t) => tensorProto(t));
      break;
    case "sparses":
      proto.type = AttributeType.SPARSE_TENSORS;
      proto.sparseTensors = attribute.value.map((s) => sparseProto(s));
      break;
    case "graphs":
      proto.type = AttributeType.GRAPHS;
      proto.graphs = attribute.value.map(graphProto);
      break;
  }
  return proto;
}

function sparseProto(sparse: SparseTensor, name = ""): SparseTensorProto {
  const { indicesName = "", $unknown } = (sparse.extra ?? {}) as {
    indicesName?: string;
    $unknown?: SparseTensorProto["$unknown"];
  };
  const proto = create(SparseTensorProtoSchema);
  proto.dims = sparse.shape.map(BigInt);
  proto.values = tensorProto(sparse.values, name);
  proto.indices = tensorProto(sparse.indices, indicesName);
  if ($unknown) proto.$unknown = $unknown;
  return proto;
}

function valueProto(value: Value): ValueInfoProto {
  const proto = create(ValueInfoProtoSchema);
  const { type: exact, ...extra } = (value.extra ?? {}) as Partial<ValueInfoProto>;
  Object.assign(proto, extra);
  proto.name = value.name;
  if (exact) proto.type = exact;
  else if (value.type) proto.type = typeProto(value.type);
  return proto;
}

function typeProto(type: Type): TypeProto {
  switch (type.kind) {
    case "tensor":
    case "sparse": {
      const shape = type.shape && {
        dim: type.shape.map((dim) => ({
          value:
            typeof dim === "number"
              ? { case: "dimValue" as const, value: BigInt(dim) }
              : typeof dim === "string"
                ? { case: "dimParam" as const, value: dim }
                : { case: undefined },
        })),
      };
      const value = { elemType: dtypes[type.dtype].code, ...(shape && { shape }) };
      const kind = type.kind === "tensor" ? ("tensorType" as const) : ("sparseTensorType" as const);
      return create(TypeProtoSchema, { value: { case: kind, value } });
    }
    case "sequence":
      return create(TypeProtoSchema, { value: { case: "sequenceType", value: { elemType: typeProto(type.element) } } });
    case "optional":
      return create(TypeProtoSchema, { value: { case: "optionalType", value: { elemType: typeProto(type.element) } } });
    case "map": {
      const value = { keyType: dtypes[type.key].code, valueType: typeProto(type.value) };
      return create(TypeProtoSchema, { value: { case: "mapType", value } });
    }
    default:
      return create(TypeProtoSchema);
  }
}

function functionProto(def: FunctionDef): FunctionProto {
  const proto = create(FunctionProtoSchema);
  Object.assign(proto, def.extra);
  proto.name = def.name;
  proto.domain = def.domain;
  proto.overload = def.overload;
  proto.input = [...def.inputs];
  proto.output = [...def.outputs];
  proto.attribute = [...def.attributes];
  proto.attributeProto = attributeProtos(def.defaults);
  proto.node = def.nodes.map(nodeProto);
  proto.opsetImport = opsetProtos(def.opsets);
  proto.valueInfo = [...def.declared.values()].map(valueProto);
  return proto;
}
