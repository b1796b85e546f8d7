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
  type SparseTensorProto,
  SparseTensorProtoSchema,
  TensorProtoSchema,
} from "onnx-buf";
import { fail } from "../../errors.ts";
import type { Attribute, FunctionDef, Graph, Node, SparseTensor, Subgraph } from "../../graph/graph.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { metadataProtos, opsetProtos } from "./messages.ts";
import { attributeExtras, type ModelExtra } from "./read.ts";
import { type ExternalSlot, encodeString, tensorHeader, tensorProto } from "./tensors.ts";
import { valueProto } from "./values.ts";
import { varintBytes } from "./wire.ts";

/** Says where a weight is stored outside the model file; undefined keeps it inside. */
export type Placement = (name: string, weight: Tensor) => ExternalSlot | undefined;

const inside: Placement = () => undefined;

/** protobuf's limit on one message: larger models must keep their weights outside. */
export const maxModelBytes = 2 ** 31 - 1;

const chunkBytes = 1 << 24;
// protobuf tags: field number and wire type 2 (length-delimited)
const graphTag = Uint8Array.of((7 << 3) | 2);
const initializerTag = Uint8Array.of((5 << 3) | 2);
const rawDataTag = Uint8Array.of((9 << 3) | 2);

/**
 * An ONNX model as a sequence of byte chunks: weights are read, and handed out, one chunk at a time.
 *
 * @param placed where weights are stored, those of nested subgraphs included; all in the file by default
 * @param scratch memory to read weights into, a chunk at a time: a chunk is then good until the next one is asked for
 * @throws PareError if the file would pass protobuf's 2 GiB
 */
export function* writeOnnx(graph: Graph, placed: Placement = inside, scratch?: Uint8Array): Generator<Uint8Array> {
  const { size, chunks } = layout(graph, placed);
  checkSize(graph, size);
  yield* chunks(scratch);
}

function checkSize(graph: Graph, size: number): void {
  if (size <= maxModelBytes) return;
  const what = `${size} bytes pass the 2 GiB that one ONNX file can hold`;
  fail(graph.name || "model", what, "Store its weights as external data");
}

/** Bytes of the model as one file, weights included; no weight of the main graph is read. */
export function onnxSize(graph: Graph): number {
  return layout(graph, inside).size;
}

interface Layout {
  readonly size: number;
  chunks(scratch?: Uint8Array): Generator<Uint8Array>;
}

/** Layouts with all weights inside, for who asks for the size and then writes; without those that hold much memory. */
const layouts = new WeakMap<Graph, Layout>();
const keptBytes = 1 << 20;

function layout(graph: Graph, placed: Placement): Layout {
  const known = placed === inside ? layouts.get(graph) : undefined;
  if (known) return known;
  const model = modelRest(graph);
  const body = toBinary(GraphProtoSchema, graphProto({ ...graph, weights: new Map() }, placed));
  const initializers = [...graph.weights].map(([name, weight]) => initializer(name, weight, placed(name, weight)));
  const graphBytes = initializers.reduce(
    (sum, { prefix, data }) => sum + prefix.length + (data?.byteLength ?? 0),
    body.length,
  );
  const start = joined([model, graphTag, varintBytes(graphBytes)]);
  const made: Layout = {
    size: start.length + graphBytes,
    *chunks(scratch) {
      yield start;
      yield body;
      for (const { prefix, data } of initializers) {
        yield prefix;
        if (data) yield* chunksOf(data, scratch);
      }
    },
  };
  if (placed === inside && start.length + body.length <= keptBytes) layouts.set(graph, made);
  return made;
}

/** A tensor's packed bytes in chunks of at most 16 MiB; in chunks that fit `scratch`, and may lie there, where given. */
export function* chunksOf(t: Tensor, scratch?: Uint8Array): Generator<Uint8Array> {
  const most = scratch?.length ?? chunkBytes;
  for (let at = 0; at < t.byteLength; at += most) {
    const length = Math.min(most, t.byteLength - at);
    const chunk = t.bytes(at, length, scratch?.subarray(0, length));
    if (chunk.length !== length) throw new Error(`a tensor gave ${chunk.length} bytes where ${length} were asked for`);
    yield chunk;
  }
}

/**
 * A model's ONNX bytes in one buffer. For large models prefer {@link writeOnnx}, which streams.
 *
 * @throws PareError where {@link writeOnnx} does
 */
export function encodeOnnx(graph: Graph, placed: Placement = inside): Uint8Array<ArrayBuffer> {
  const { size, chunks } = layout(graph, placed);
  checkSize(graph, size);
  return joined(chunks(), size);
}

function joined(
  parts: Iterable<Uint8Array>,
  size = [...parts].reduce((sum, { length }) => sum + length, 0),
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** The record of one initializer inside the graph message: everything up to its raw data, and that data. */
function initializer(name: string, weight: Tensor, slot?: ExternalSlot): { prefix: Uint8Array; data?: Tensor } {
  if (slot || weight.strings) {
    const whole = toBinary(TensorProtoSchema, tensorProto(weight, name, slot));
    return { prefix: joined([initializerTag, varintBytes(whole.length), whole]) };
  }
  const proto = tensorHeader(weight, name);
  proto.externalData = [];
  const header = toBinary(TensorProtoSchema, proto);
  const raw = joined([rawDataTag, varintBytes(weight.byteLength)]);
  const length = header.length + raw.length + weight.byteLength;
  return { prefix: joined([initializerTag, varintBytes(length), header, raw]), data: weight };
}

/** Everything of a model but its graph. */
function modelRest(graph: Graph): Uint8Array {
  const extra = (graph.modelExtra ?? { producerName: "pare" }) as ModelExtra;
  const model = Object.assign(create(ModelProtoSchema), extra);
  model.irVersion = BigInt(graph.irVersion);
  model.opsetImport = opsetProtos(graph.opsets, extra.opsetImport);
  model.metadataProps = metadataProtos(graph.metadata, extra.metadataProps);
  model.functions = graph.functions.map(functionProto);
  return toBinary(ModelProtoSchema, model);
}

function graphProto(graph: Subgraph, placed: Placement): GraphProto {
  const { valueInfo = [], ...extra } = (graph.extra ?? {}) as Partial<GraphProto>;
  const proto = Object.assign(create(GraphProtoSchema), extra);
  proto.name = graph.name;
  proto.node = graph.nodes.map((node) => nodeProto(node, placed));
  proto.initializer = [...graph.weights].map(([name, weight]) => tensorProto(weight, name, placed(name, weight)));
  proto.sparseInitializer = [...graph.sparse].map(([name, sparse]) => sparseProto(sparse, name));
  proto.input = graph.inputs.map(valueProto);
  proto.output = graph.outputs.map(valueProto);
  proto.valueInfo = [...[...graph.declared.values()].map(valueProto), ...valueInfo];
  return proto;
}

function nodeProto(node: Node, placed: Placement): NodeProto {
  const proto = Object.assign(create(NodeProtoSchema), node.extra);
  proto.opType = node.op;
  if (node.domain) proto.domain = node.domain;
  if (node.name) proto.name = node.name;
  proto.input = [...node.inputs];
  proto.output = [...node.outputs];
  if (node.overload) proto.overload = node.overload;
  proto.attribute = Object.entries(node.attributes).map(([name, value]) => attributeProto(name, value, placed));
  return proto;
}

function attributeProto(name: string, attribute: Attribute, placed: Placement): AttributeProto {
  const proto = create(AttributeProtoSchema);
  if (attribute.type === "other") return Object.assign(proto, attribute.value, { name });
  Object.assign(proto, attributeExtras.get(attribute), { name });
  switch (attribute.type) {
    case "ref":
      return Object.assign(proto, { refAttrName: attribute.value, type: typeNamed(attribute.of) });
    case "float":
      return Object.assign(proto, { type: AttributeType.FLOAT, f: Math.fround(attribute.value) });
    case "int":
      return Object.assign(proto, { type: AttributeType.INT, i: BigInt(attribute.value) });
    case "string":
      return Object.assign(proto, { type: AttributeType.STRING, s: encodeString(attribute.value) });
    case "tensor":
      return Object.assign(proto, { type: AttributeType.TENSOR, t: tensorProto(attribute.value) });
    case "sparse":
      return Object.assign(proto, { type: AttributeType.SPARSE_TENSOR, sparseTensor: sparseProto(attribute.value) });
    case "graph":
      return Object.assign(proto, { type: AttributeType.GRAPH, g: graphProto(attribute.value, placed) });
    case "floats":
      return Object.assign(proto, { type: AttributeType.FLOATS, floats: attribute.value.map(Math.fround) });
    case "ints":
      return Object.assign(proto, { type: AttributeType.INTS, ints: attribute.value.map(BigInt) });
    case "strings":
      return Object.assign(proto, { type: AttributeType.STRINGS, strings: attribute.value.map(encodeString) });
    case "tensors":
      return Object.assign(proto, { type: AttributeType.TENSORS, tensors: attribute.value.map((t) => tensorProto(t)) });
    case "sparses": {
      const sparseTensors = attribute.value.map((sparse) => sparseProto(sparse));
      return Object.assign(proto, { type: AttributeType.SPARSE_TENSORS, sparseTensors });
    }
    case "graphs": {
      const graphs = attribute.value.map((graph) => graphProto(graph, placed));
      return Object.assign(proto, { type: AttributeType.GRAPHS, graphs });
    }
  }
}

function typeNamed(name: string): AttributeType {
  return AttributeType[name as keyof typeof AttributeType];
}

/** `name` is that of an initializer; sparse tensors in attributes keep the one their file gave them. */
function sparseProto(sparse: SparseTensor, name?: string): SparseTensorProto {
  const proto = Object.assign(create(SparseTensorProtoSchema), sparse.extra);
  proto.dims = sparse.shape.map(BigInt);
  proto.values = tensorProto(sparse.values, name);
  proto.indices = tensorProto(sparse.indices);
  return proto;
}

function functionProto(def: FunctionDef): FunctionProto {
  const { opsetImport, valueInfo = [], ...extra } = (def.extra ?? {}) as Partial<FunctionProto>;
  const proto = Object.assign(create(FunctionProtoSchema), extra);
  proto.name = def.name;
  proto.domain = def.domain;
  if (def.overload) proto.overload = def.overload;
  proto.input = [...def.inputs];
  proto.output = [...def.outputs];
  proto.attribute = [...def.attributes];
  proto.attributeProto = Object.entries(def.defaults).map(([name, value]) => attributeProto(name, value, inside));
  proto.node = def.nodes.map((node) => nodeProto(node, inside));
  proto.opsetImport = opsetProtos(def.opsets, opsetImport);
  proto.valueInfo = [...[...def.declared.values()].map(valueProto), ...valueInfo];
  return proto;
}
