import { create, type DescField, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  type GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  OperatorSetIdProtoSchema,
  type StringStringEntryProto,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
  ValueInfoProtoSchema,
} from "onnx-buf";
import { describe, expect, test } from "vitest";
import { dataFields, meaning } from "../../../test/onnx-meaning.ts";
import { edit } from "../../graph/edit.ts";
import type { Graph } from "../../graph/graph.ts";
import { type DType, dtypes, packedBytes } from "../../tensor/dtype.ts";
import { memorySource } from "../source.ts";
import { readOnnx } from "./read.ts";
import { encodeOnnx } from "./write.ts";

type Fields = Record<string, unknown>;

const attributeFields = {
  [AttributeType.FLOAT]: "f",
  [AttributeType.INT]: "i",
  [AttributeType.STRING]: "s",
  [AttributeType.TENSOR]: "t",
  [AttributeType.SPARSE_TENSOR]: "sparseTensor",
  [AttributeType.TYPE_PROTO]: "tp",
  [AttributeType.FLOATS]: "floats",
  [AttributeType.INTS]: "ints",
  [AttributeType.STRINGS]: "strings",
  [AttributeType.TENSORS]: "tensors",
  [AttributeType.SPARSE_TENSORS]: "sparseTensors",
  [AttributeType.TYPE_PROTOS]: "typeProtos",
  [AttributeType.GRAPH]: "g",
  [AttributeType.GRAPHS]: "graphs",
} as const;
const allTypes = Object.keys(attributeFields).map(Number);
const leafTypes = allTypes.filter((type) => type !== AttributeType.GRAPH && type !== AttributeType.GRAPHS);
const names = Object.keys(dtypes) as DType[];

/**
 * A message with every field set, found by reflection, so that a field of a newer ONNX is covered as soon as the schema
 * has it. Only what must agree (data with its type, an attribute's value with its type) is made by hand. Every message
 * carries an unknown field too.
 */
function filler() {
  let n = 0;
  const scalar = (field: DescField): unknown => {
    n += 1;
    if (field.localName === "elemType" || field.localName === "keyType") return (n % 26) + 1;
    const kind = field.scalar!;
    if (kind === 9) return `s${n}`;
    if (kind === 12) return n % 2 ? Uint8Array.of(0xff, n & 255) : new TextEncoder().encode(`b${n}`);
    if (kind === 1 || kind === 2) return n + 0.5;
    return kind === 5 ? n : BigInt(n);
  };
  const value = (field: DescField, graphs: number, depth: number): unknown =>
    field.message ? fill(field.message, graphs, depth + 1) : scalar(field);
  const list = (field: DescField, graphs: number, depth: number): unknown[] => {
    if (field.message?.typeName === "onnx.AttributeProto") {
      const types = graphs < 2 ? allTypes : leafTypes;
      return [...types.map((type) => attribute(type, graphs, depth)), attribute(0, graphs, depth)];
    }
    return [value(field, graphs, depth), value(field, graphs, depth)];
  };
  const general = (schema: DescMessage, skip: readonly string[], graphs: number, depth: number): Message => {
    const message = create(schema) as Message & Fields;
    for (const member of schema.members) {
      if (member.kind === "oneof") {
        const chosen = member.fields[depth > 8 ? 0 : n++ % member.fields.length]!;
        message[member.localName] = { case: chosen.localName, value: value(chosen, graphs, depth) };
      } else if (!skip.includes(member.localName)) {
        message[member.localName] =
          member.fieldKind === "list" ? list(member, graphs, depth) : value(member, graphs, depth);
      }
    }
    message.$unknown = [{ no: 1000 + (n++ % 9), wireType: 0, data: Uint8Array.of(n & 127) }];
    return message;
  };
  const attribute = (type: number, graphs: number, depth: number): Message => {
    const fields = AttributeProtoSchema.fields.map(({ localName }) => localName);
    const said = type === 0 ? "refAttrName" : attributeFields[type as keyof typeof attributeFields];
    const skip = fields.filter((field) => ![said, "name", "docString"].includes(field));
    const made = general(AttributeProtoSchema, skip, graphs, depth) as AttributeProto;
    made.type = type === 0 ? AttributeType.FLOATS : type;
    return made;
  };
  const fill = (schema: DescMessage, graphs = 0, depth = 0): Message => {
    if (schema.typeName === "onnx.GraphProto") return general(schema, [], graphs + 1, depth);
    if (schema.typeName !== "onnx.TensorProto") return general(schema, [], graphs, depth);
    const skip = ["dims", "dataType", "dataLocation", "externalData", ...dataFields];
    const proto = general(schema, skip, graphs, depth) as TensorProto;
    return withData(proto, names[n % names.length]!, n % 2 === 0);
  };
  return fill;
}

const count = 5;

/** Bytes 1, 2, 3 ... as the data of five elements of a type, raw or in the field that ONNX prescribes for it. */
function withData(proto: TensorProto, dtype: DType, raw: boolean): TensorProto {
  proto.dims = [BigInt(count)];
  proto.dataType = dtypes[dtype].code;
  if (dtype === "string") {
    proto.stringData = Array.from({ length: count }, (_, i) => Uint8Array.of(i === 3 ? 0xfe : 65 + i));
    return proto;
  }
  const bytes = Uint8Array.from({ length: packedBytes(dtype, count) }, (_, i) =>
    dtype === "bool" ? i & 1 : i * 37 + 1,
  );
  if (raw) proto.rawData = bytes;
  else {
    const { field, entries } = typedEntries(bytes, dtype);
    Object.assign(proto, { [field]: entries });
  }
  return proto;
}

function typedEntries(bytes: Uint8Array, dtype: DType): { field: string; entries: unknown[] } {
  const view = new DataView(bytes.buffer);
  const each = <T>(width: number, read: (at: number) => T): T[] =>
    Array.from({ length: bytes.length / width }, (_, i) => read(i * width));
  if (dtype === "float32" || dtype === "complex64") {
    return { field: "floatData", entries: each(4, (at) => view.getFloat32(at, true)) };
  }
  if (dtype === "float64" || dtype === "complex128") {
    return { field: "doubleData", entries: each(8, (at) => view.getFloat64(at, true)) };
  }
  if (dtype === "int64") return { field: "int64Data", entries: each(8, (at) => view.getBigInt64(at, true)) };
  if (dtype === "uint64") return { field: "uint64Data", entries: each(8, (at) => view.getBigUint64(at, true)) };
  if (dtype === "uint32") return { field: "uint64Data", entries: each(4, (at) => BigInt(view.getUint32(at, true))) };
  const field = "int32Data";
  if (dtype === "int32") return { field, entries: each(4, (at) => view.getInt32(at, true)) };
  if (dtype === "int16") return { field, entries: each(2, (at) => view.getInt16(at, true)) };
  if (dtypes[dtype].bits === 16) return { field, entries: each(2, (at) => view.getUint16(at, true)) };
  if (dtype === "int8") return { field, entries: each(1, (at) => view.getInt8(at)) };
  return { field, entries: each(1, (at) => view.getUint8(at)) };
}

const read = (model: ModelProto): Graph => readOnnx(memorySource(toBinary(ModelProtoSchema, model)));
const written = (graph: Graph): ModelProto => fromBinary(ModelProtoSchema, encodeOnnx(graph));

/** A model around a graph, the least that ONNX asks for. */
function modelOf(
  graph: Parameters<typeof create<typeof GraphProtoSchema>>[1],
  more: Partial<ModelProto> = {},
): ModelProto {
  return Object.assign(create(ModelProtoSchema, { irVersion: 8n, graph: graph ?? {} }), more);
}

describe("a model with every field of ONNX set", () => {
  const model = filler()(ModelProtoSchema) as ModelProto;

  test("comes back with every field, known and unknown", () => {
    expect(meaning(written(read(model)))).toEqual(meaning(model));
  });

  test("is written to the same bytes after being read again", () => {
    const bytes = encodeOnnx(read(model));
    expect(Buffer.compare(encodeOnnx(readOnnx(memorySource(bytes))), bytes)).toBe(0);
  });

  test("keeps all of it through an edit that changes nothing", () => {
    const same = edit(read(model), () => {});
    expect(meaning(written(same))).toEqual(meaning(model));
  });
});

describe("tensors", () => {
  test.each(
    names.flatMap(
      (dtype) =>
        [
          [dtype, true],
          [dtype, false],
        ] as const,
    ),
  )("%s survives (raw: %s)", (dtype, raw) => {
    const proto = withData(create(TensorProtoSchema, { name: "w" }), dtype, raw);
    const model = modelOf({ initializer: [proto] });
    const graph = read(model);
    expect([graph.weights.get("w")!.dtype, graph.weights.get("w")!.size]).toEqual([dtype, count]);
    expect(meaning(written(graph))).toEqual(meaning(model));
  });

  test("large raw data stays in the file, and all else that the message says survives", () => {
    const rawData = Uint8Array.from({ length: 40_000 }, (_, i) => i & 255);
    const proto = create(TensorProtoSchema, {
      name: "w",
      dims: [100n, 100n],
      dataType: 1,
      rawData,
      docString: "weights",
    });
    proto.$unknown = [{ no: 77, wireType: 2, data: Uint8Array.of(2, 8, 9) }];
    const model = modelOf({ initializer: [proto] });
    const source = memorySource(toBinary(ModelProtoSchema, model));
    let most = 0;
    const counted = (at: number, length: number): Uint8Array => {
      most = Math.max(most, length);
      return source.read(at, length);
    };
    const graph = readOnnx({ ...source, read: counted });
    expect(most).toBeLessThan(5_000);
    expect(meaning(written(graph))).toEqual(meaning(model));
  });

  test("custom keys of external data survive, its place is new", () => {
    const entry = (key: string, value: string): StringStringEntryProto =>
      create(StringStringEntryProtoSchema, { key, value });
    const externalData = [
      entry("location", "a.bin"),
      entry("offset", "4"),
      entry("length", "8"),
      entry("basepath", "x"),
    ];
    const dataLocation = TensorProto_DataLocation.EXTERNAL;
    const model = modelOf({ initializer: [{ name: "w", dims: [2n], dataType: 1, dataLocation, externalData }] });
    const bytes = toBinary(ModelProtoSchema, model);
    const graph = readOnnx(memorySource(bytes), () => memorySource(Uint8Array.from({ length: 12 }, (_, i) => i)));
    expect(graph.weights.get("w")!.bytes()).toEqual(Uint8Array.of(4, 5, 6, 7, 8, 9, 10, 11));
    const out = fromBinary(
      ModelProtoSchema,
      encodeOnnx(graph, () => ({ location: "b.bin", offset: 64 })),
    );
    const said = out.graph!.initializer[0]!.externalData.map(({ key, value }) => `${key}=${value}`);
    expect(said.sort()).toEqual(["basepath=x", "length=8", "location=b.bin", "offset=64"]);
    expect(written(graph).graph!.initializer[0]!.externalData).toEqual([]);
  });
});

describe("what old or odd files say", () => {
  test("attributes without a type (IR version 1) get that of the field that is set, zero or not", () => {
    const values = [{ f: 0 }, { i: 0n }, { i: 3n }, { s: new Uint8Array(0) }, { ints: [1n] }, { floats: [0.5] }, {}];
    const attribute = values.map((value, i) => ({ name: `a${i}`, ...value }));
    const graph = read(modelOf({ node: [{ opType: "X", attribute }] }));
    const types = Object.values(graph.nodes[0]!.attributes).map(({ type }) => type);
    expect(types).toEqual(["float", "int", "int", "string", "ints", "floats", "other"]);
    expect(written(graph).graph!.node[0]!.attribute.map(({ name }) => name)).toEqual(attribute.map(({ name }) => name));
  });

  test("the first of two imports of ONNX's own operator set counts, and both survive until one is changed", () => {
    const imports = [
      ["ai.onnx", 12n],
      ["", 9n],
      ["com.microsoft", 1n],
    ] as const;
    const opsetImport = imports.map(([domain, version]) => create(OperatorSetIdProtoSchema, { domain, version }));
    const graph = read(modelOf({}, { opsetImport }));
    expect(graph.opsets).toEqual({ "": 12, "com.microsoft": 1 });
    const said = (g: Graph) => written(g).opsetImport.map(({ domain, version }) => [domain, version]);
    expect(said(graph)).toEqual(imports);
    expect(said({ ...graph, opsets: { "": 13, "com.microsoft": 1 } })).toEqual([
      ["com.microsoft", 1n],
      ["", 13n],
    ]);
  });

  test("repeated metadata keys survive until they are changed; the last counts", () => {
    const metadataProps = [
      ["a", "1"],
      ["b", "2"],
      ["a", "3"],
    ].map(([key, value]) => create(StringStringEntryProtoSchema, { key: key!, value: value! }));
    const graph = read(modelOf({}, { metadataProps }));
    expect(graph.metadata).toEqual({ a: "3", b: "2" });
    const said = (g: Graph) => written(g).metadataProps.map(({ key, value }) => key + value);
    expect(said(graph)).toEqual(["a1", "b2", "a3"]);
    expect(said({ ...graph, metadata: { a: "4", c: "5" } })).toEqual(["a4", "c5"]);
  });

  test("a type changed since it was read is written as it is now, denotations or not", () => {
    const tensorType = {
      elemType: 1,
      shape: { dim: [{ value: { case: "dimValue" as const, value: 3n }, denotation: "DATA_BATCH" }] },
    };
    const input = [
      create(ValueInfoProtoSchema, { name: "x", type: { value: { case: "tensorType", value: tensorType } } }),
    ];
    const graph = read(modelOf({ input }));
    expect(meaning(written(graph).graph!.input)).toEqual(meaning(input));
    const type = { kind: "tensor", dtype: "float16", shape: [4] } as const;
    const changed = written({ ...graph, inputs: [{ ...graph.inputs[0]!, type }] }).graph!.input[0]!.type!.value;
    expect(changed).toMatchObject({ case: "tensorType", value: { elemType: 10 } });
  });

  test("sizes no tensor has, and element types newer than pare, are kept for writing", () => {
    const dims = [-1n, 2n ** 60n, 5n].map((value) => ({ value: { case: "dimValue" as const, value } }));
    const of = (elemType: number, name: string) => ({
      name,
      type: { value: { case: "tensorType" as const, value: { elemType, shape: { dim: dims } } } },
    });
    const model = modelOf({ input: [of(1, "x"), of(99, "y")] });
    const graph = read(model);
    expect(graph.inputs.map(({ type }) => type)).toEqual([
      { kind: "tensor", dtype: "float32", shape: [null, null, 5] },
      { kind: "other" },
    ]);
    expect(meaning(written(graph))).toEqual(meaning(model));
  });

  test("refuses what has no single meaning, and says where", () => {
    const twice = { opType: "X", name: "n", attribute: [{ name: "a" }, { name: "a" }] };
    expect(() => read(modelOf({ node: [twice] }))).toThrow("buffer: node 'n': two attributes are named 'a'.");
    const w = withData(create(TensorProtoSchema, { name: "w" }), "int8", true);
    expect(() => read(modelOf({ initializer: [w, w] }))).toThrow("two initializers are named 'w'");
    expect(() => read(modelOf({}, { irVersion: -3n }))).toThrow("bad IR version -3");
    const short = create(TensorProtoSchema, { name: "w", dims: [9n], dataType: 1, rawData: new Uint8Array(8) });
    expect(() => read(modelOf({ initializer: [short] }))).toThrow(
      "float32 of shape [9] takes 36 bytes, the file holds 8",
    );
    expect(() => readOnnx(memorySource(new TextEncoder().encode("hello, world")))).toThrow("buffer: ");
    expect(() => readOnnx(memorySource(new Uint8Array(0)))).toThrow("the file is empty");
  });
});
