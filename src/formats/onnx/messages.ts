import { create, type Message } from "@bufbuild/protobuf";
import {
  type OperatorSetIdProto,
  OperatorSetIdProtoSchema,
  type StringStringEntryProto,
  StringStringEntryProtoSchema,
} from "onnx-buf";
import { fail } from "../../errors.ts";

/**
 * Everything a message says beyond the fields that pare has a place for, unknown fields included, as properties to
 * assign to the message when it is written; undefined where that is nothing.
 */
export function beyond(proto: Message, known: readonly string[]): Readonly<Record<string, unknown>> | undefined {
  // own properties are the fields that the file set; those at their default stand on the prototype
  const said = Object.entries(proto).filter(
    ([field, value]) =>
      field !== "$typeName" && !known.includes(field) && value !== "" && !(Array.isArray(value) && value.length === 0),
  );
  return said.length > 0 ? Object.fromEntries(said) : undefined;
}

/** ONNX's own domain is spelled both ways in files. */
export function normalDomain(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

/** A number that pare computes with. */
export function safeInteger(value: bigint, who: string, what: string): number {
  const number = Number(value);
  return Number.isSafeInteger(number) && number >= 0 ? number : fail(who, `${what} ${value}`, "The file is damaged");
}

/** Operator sets by domain. Of two imports of a domain the first counts, as in ONNX Runtime. */
export function readOpsets(imports: readonly OperatorSetIdProto[], who: string): Record<string, number> {
  const entries = imports.map(({ domain, version }): [string, number] => [
    normalDomain(domain),
    safeInteger(version, who, `bad version of operator set '${domain}':`),
  ]);
  return Object.fromEntries(entries.filter(([domain], i) => entries.findIndex(([d]) => d === domain) === i));
}

/** Metadata by key. Of two entries with a key the last counts, as in ONNX Runtime. */
export function readMetadata(entries: readonly StringStringEntryProto[]): Record<string, string> {
  return Object.fromEntries(entries.map(({ key, value }) => [key, value]));
}

/** The list itself where a record can't say all of it: repeated keys, unknown fields. */
export function exactList<P extends Message>(list: readonly P[], record: Readonly<Record<string, unknown>>) {
  const plain = list.length === Object.keys(record).length && list.every((entry) => !entry.$unknown);
  return plain ? undefined : list;
}

/** The inverse of {@link readOpsets}: `exact` is what the file said, kept as far as it still holds. */
export function opsetProtos(
  opsets: Readonly<Record<string, number>>,
  exact: readonly OperatorSetIdProto[] = [],
): OperatorSetIdProto[] {
  const before = readOpsets(exact, "opset");
  const domainOf = (proto: OperatorSetIdProto): string => normalDomain(proto.domain);
  const kept = stillTrue(exact, domainOf, before, opsets);
  const added = changed(before, opsets).map(([domain, version]) =>
    create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) }),
  );
  return [...kept, ...added];
}

/** The inverse of {@link readMetadata}: `exact` is what the file said, kept as far as it still holds. */
export function metadataProtos(
  metadata: Readonly<Record<string, string>>,
  exact: readonly StringStringEntryProto[] = [],
): StringStringEntryProto[] {
  const before = readMetadata(exact);
  const kept = stillTrue(exact, ({ key }) => key, before, metadata);
  return [...kept, ...changed(before, metadata).map(([key, value]) => stringEntry(key, value))];
}

/** A StringStringEntryProto. */
export function stringEntry(key: string, value: string): StringStringEntryProto {
  return create(StringStringEntryProtoSchema, { key, value });
}

function stillTrue<P, V>(
  exact: readonly P[],
  keyOf: (entry: P) => string,
  before: Readonly<Record<string, V>>,
  now: Readonly<Record<string, V>>,
): P[] {
  return exact.filter((entry) => Object.hasOwn(now, keyOf(entry)) && now[keyOf(entry)] === before[keyOf(entry)]);
}

function changed<V>(before: Readonly<Record<string, V>>, now: Readonly<Record<string, V>>): [string, V][] {
  return Object.entries(now).filter(([key, value]) => !Object.hasOwn(before, key) || before[key] !== value);
}
