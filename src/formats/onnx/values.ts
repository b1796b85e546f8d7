import { create, type Message } from "@bufbuild/protobuf";
import { type TypeProto, TypeProtoSchema, type ValueInfoProto, ValueInfoProtoSchema } from "onnx-buf";
import type { Dim, Type, Value } from "../../graph/graph.ts";
import { dtypes, knownDtype } from "../../tensor/dtype.ts";
import { beyond } from "./messages.ts";

/** What a file said of a value beyond name and type. */
interface ValueExtra {
  readonly fields?: Readonly<Record<string, unknown>>;
  /** The file's own type message where {@link Type} can't say all of it, and the type it was read as. */
  readonly exact?: { readonly proto: TypeProto; readonly type: Type };
}

/** A ValueInfoProto as a Value. */
export function readValue(proto: ValueInfoProto): Value {
  const fields = beyond(proto, ["name", "type"]);
  if (!proto.type) return { name: proto.name, ...(fields && { extra: { fields } satisfies ValueExtra }) };
  const type = readType(proto.type);
  const exact = saysMore(proto.type) ? { proto: proto.type, type } : undefined;
  const extra: ValueExtra | undefined =
    fields || exact ? { ...(fields && { fields }), ...(exact && { exact }) } : undefined;
  return { name: proto.name, type, ...(extra && { extra }) };
}

/** The inverse of {@link readValue}. A type changed since is written as it is now. */
export function valueProto(value: Value): ValueInfoProto {
  const { fields, exact } = (value.extra ?? {}) as ValueExtra;
  const proto = Object.assign(create(ValueInfoProtoSchema), fields, { name: value.name });
  if (exact && exact.type === value.type) proto.type = exact.proto;
  else if (value.type) proto.type = typeProto(value.type);
  return proto;
}

/** Whether a TypeProto says something that our own Type can't. */
function saysMore(proto: TypeProto): boolean {
  const inner: Message | undefined = proto.value.value;
  if (proto.denotation || proto.$unknown || !inner || inner.$unknown) return true;
  switch (proto.value.case) {
    case "tensorType":
    case "sparseTensorType": {
      const { elemType, shape } = proto.value.value;
      if (!knownDtype(elemType) || shape?.$unknown) return true;
      return shape?.dim.some((dim) => dim.denotation || dim.$unknown || oddSize(dim.value)) ?? false;
    }
    case "sequenceType":
    case "optionalType":
      return !proto.value.value.elemType || saysMore(proto.value.value.elemType);
    case "mapType": {
      const { keyType, valueType } = proto.value.value;
      return !knownDtype(keyType) || !valueType || saysMore(valueType);
    }
    default:
      return true;
  }
}

/** Sizes below 0 or beyond 2^53, which no tensor has. */
function oddSize(dim: { case: string | undefined; value?: unknown }): boolean {
  return dim.case === "dimValue" && (Number(dim.value) < 0 || !Number.isSafeInteger(Number(dim.value)));
}

function readType(proto: TypeProto): Type {
  const { value } = proto;
  switch (value.case) {
    case "tensorType":
    case "sparseTensorType": {
      const dtype = knownDtype(value.value.elemType);
      if (!dtype) return { kind: "other" };
      const shape = value.value.shape?.dim.map(({ value: dim }): Dim => {
        if (dim.case === "dimValue") return oddSize(dim) ? null : Number(dim.value);
        return dim.case === "dimParam" && dim.value !== "" ? dim.value : null;
      });
      return { kind: value.case === "tensorType" ? "tensor" : "sparse", dtype, ...(shape && { shape }) };
    }
    case "sequenceType":
    case "optionalType": {
      if (!value.value.elemType) return { kind: "other" };
      return { kind: value.case === "sequenceType" ? "sequence" : "optional", element: readType(value.value.elemType) };
    }
    case "mapType": {
      const key = knownDtype(value.value.keyType);
      return key && value.value.valueType
        ? { kind: "map", key, value: readType(value.value.valueType) }
        : { kind: "other" };
    }
    default:
      return { kind: "other" };
  }
}

function typeProto(type: Type): TypeProto {
  switch (type.kind) {
    case "tensor":
    case "sparse": {
      const shape = type.shape && { dim: type.shape.map((dim) => ({ value: dimProto(dim) })) };
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

function dimProto(dim: Dim) {
  if (typeof dim === "number") return { case: "dimValue" as const, value: BigInt(dim) };
  if (typeof dim === "string") return { case: "dimParam" as const, value: dim };
  return { case: undefined };
}
