import type { Attribute } from "../graph/graph.ts";
import { microsoftOperators, nchwcOperators } from "./catalog-microsoft.ts";
import { onnxOperators, runtimeOperators } from "./catalog-onnx.ts";

/** An operator of ONNX's own domain. */
export type OnnxOperator = keyof typeof onnxOperators;
/** An operator of domain com.microsoft. */
export type MicrosoftOperator = keyof typeof microsoftOperators;

/** An input or output of an operator. */
export interface Formal {
  readonly name: string;
  /** "one" must be there; "optional" may be left out; "any" and "some" take all that follow, the latter at least one. */
  readonly count: "one" | "optional" | "any" | "some";
}

/** What an operator's schema says of an attribute. */
export interface AttributeSpec {
  /** As {@link Attribute} names it; "type" is a type message. */
  readonly type: Attribute["type"] | "type" | "types";
  readonly required: boolean;
  readonly default?: number | string | readonly number[] | readonly string[];
}

/** An operator as one or more versions of its operator set define it. */
export interface Signature {
  /** Versions of the operator set in which the operator was defined anew with this signature. */
  readonly versions: readonly number[];
  /** No longer part of the operator set from this version. */
  readonly removed: boolean;
  readonly inputs: readonly Formal[];
  readonly outputs: readonly Formal[];
  readonly attributes: ReadonlyMap<string, AttributeSpec>;
}

const domains: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>> = new Map([
  ["", new Map<string, readonly string[]>([...Object.entries(onnxOperators), ...Object.entries(runtimeOperators)])],
  ["com.microsoft", new Map<string, readonly string[]>(Object.entries(microsoftOperators))],
  ["com.microsoft.nchwc", new Map<string, readonly string[]>(Object.entries(nchwcOperators))],
]);

const parsed = new Map<readonly string[], readonly Signature[]>();

/** Every signature an operator ever had, oldest first; undefined for an operator or domain that pare has no row for. */
export function signaturesOf(domain: string, op: string): readonly Signature[] | undefined {
  const rows = domains.get(domain)?.get(op);
  if (!rows) return undefined;
  const known = parsed.get(rows);
  if (known) return known;
  const made = rows.map(parseRow);
  parsed.set(rows, made);
  return made;
}

/** An operator's signature in a version of its operator set; undefined where it has none yet, or pare has no row for it. */
export function signatureOf(domain: string, op: string, version: number): Signature | undefined {
  return signaturesOf(domain, op)?.findLast(({ versions }) => versions[0]! <= version);
}

/**
 * The version of the operator set in which an operator got the definition that holds at `version` (its "since version");
 * undefined where it has none yet, or pare has no row for it.
 */
export function sinceVersion(domain: string, op: string, version: number): number | undefined {
  return signatureOf(domain, op, version)?.versions.findLast((since) => since <= version);
}

/** Names of the operators that pare has rows for in a domain; undefined for other domains. */
export function operatorNames(domain: string): Iterable<string> | undefined {
  return domains.get(domain)?.keys();
}

function parseRow(row: string): Signature {
  const [versions, formals, attributes] = row.split(" | ");
  const removed = formals === "deprecated";
  const [inputs, outputs] = removed ? [] : formals!.split("->");
  return {
    versions: versions!.split(" ").map(Number),
    removed,
    inputs: parseFormals(inputs),
    outputs: parseFormals(outputs),
    attributes: new Map(attributes?.split(" ").map(parseAttribute)),
  };
}

function parseFormals(text = ""): Formal[] {
  const counts = { "?": "optional", "*": "any", "+": "some" } as const;
  const words = text.split(" ").filter((word) => word !== "");
  return words.map((word) => {
    const count = counts[word.at(-1) as keyof typeof counts];
    return count ? { name: word.slice(0, -1), count } : { name: word, count: "one" };
  });
}

function parseAttribute(text: string): [string, AttributeSpec] {
  const [, name, type, rest] = /^(\w+):(\w+)(!|=.*)?$/.exec(text)!;
  const spec = { type: type as AttributeSpec["type"], required: rest === "!" };
  if (!rest?.startsWith("=")) return [name!, spec];
  return [name!, { ...spec, default: parseDefault(type!, rest.slice(1)) }];
}

function parseDefault(type: string, text: string): NonNullable<AttributeSpec["default"]> {
  if (type === "int" || type === "float") return Number(text);
  if (type === "string") return text;
  const items = text
    .slice(1, -1)
    .split(",")
    .filter((item) => item !== "");
  return type === "strings" ? items : items.map(Number);
}
