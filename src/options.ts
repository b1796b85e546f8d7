import { z } from "zod";
import { didYouMean, fail } from "./errors.ts";

/** What a form, a flag or a page of help needs to know about one option of a schema. */
export interface OptionField {
  /** As in the schema, camelCase. */
  readonly key: string;
  /** As a command-line flag, kebab-case, without dashes. */
  readonly flag: string;
  readonly description: string;
  /** Types a value may have. */
  readonly types: readonly OptionType[];
  /** Values listed by the schema; with `types` empty there are no others. */
  readonly choices: readonly (string | number | boolean)[];
  readonly default: unknown;
  /** Bounds of a number, inclusive unless stated. */
  readonly minimum?: number;
  readonly maximum?: number;
  readonly above?: number;
  readonly below?: number;
  /** What a list or a mapping holds. */
  readonly items?: OptionField;
  readonly required: boolean;
}

/** JSON's types, integers apart. */
export type OptionType = "boolean" | "number" | "integer" | "string" | "array" | "object" | "null";

interface JsonSchema {
  readonly type?: OptionType | readonly OptionType[];
  readonly const?: string | number | boolean;
  readonly enum?: readonly (string | number | boolean)[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly items?: JsonSchema | boolean;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly prefixItems?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

/** The JSON Schema (2020-12) of what a user may give for a schema: defaulted options are not required. */
export function jsonSchema(schema: z.ZodType): Readonly<Record<string, unknown>> {
  return z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Record<string, unknown>;
}

/** The options of a schema, in its order. */
export function optionFields(schema: z.ZodObject): OptionField[] {
  const { properties = {}, required = [] } = jsonSchema(schema) as JsonSchema;
  return Object.entries(properties).map(([key, property]) => fieldOf(key, property, required.includes(key)));
}

/** camelCase as kebab-case: "perChannel" is "per-channel". */
export function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function fieldOf(key: string, schema: JsonSchema, required: boolean): OptionField {
  const parts = alternatives(schema);
  const listed = (part: JsonSchema): boolean => part.const !== undefined || part.enum !== undefined;
  const open = parts.filter((part) => !listed(part));
  const find = (name: "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum"): number | undefined =>
    open.map((part) => part[name]).find((bound) => bound !== undefined && Math.abs(bound) < Number.MAX_SAFE_INTEGER);
  const held = open.flatMap(({ items, additionalProperties, prefixItems }) => [
    items,
    additionalProperties,
    prefixItems?.[0],
  ]);
  const items = held.find((part) => typeof part === "object");
  const bounds = { minimum: find("minimum"), maximum: find("maximum") };
  const strict = { above: find("exclusiveMinimum"), below: find("exclusiveMaximum") };
  return {
    key,
    flag: kebabCase(key),
    description: schema.description ?? "",
    types: [...new Set(open.flatMap(({ type = [] }) => type))],
    choices: parts.flatMap((part) => (part.const !== undefined ? [part.const] : (part.enum ?? []))),
    default: schema.default,
    ...defined({ ...bounds, ...strict }),
    ...(items && { items: fieldOf(key, items, false) }),
    required,
  };
}

function alternatives(schema: JsonSchema): readonly JsonSchema[] {
  const nested = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  return nested ? nested.flatMap(alternatives) : [schema];
}

function defined<T extends object>(record: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}

/** What an option takes, in words: "a number between 0 and 1", "one of 'a', 'b' or an integer above 0". */
export function expectation(field: OptionField): string {
  const types = field.types.includes("integer") ? field.types.filter((type) => type !== "number") : field.types;
  const words = types.map((type) => {
    if (type === "number" || type === "integer")
      return `${type === "integer" ? "an integer" : "a number"}${range(field)}`;
    const each = field.items ? `, each ${expectation(field.items)}` : "";
    return {
      boolean: "true or false",
      string: "text",
      array: `a list${each}`,
      object: `a mapping${each}`,
      null: "null",
    }[type];
  });
  const { choices } = field;
  if (choices.length > 0) words.unshift(`${choices.length > 1 ? "one of " : ""}${choices.map(quote).join(", ")}`);
  return words.length > 0 ? words.join(" or ") : "any value";
}

function range({ minimum, maximum, above, below }: OptionField): string {
  if (minimum !== undefined && maximum !== undefined) return ` between ${minimum} and ${maximum}`;
  const parts = [
    ...(minimum === undefined ? [] : [`of at least ${minimum}`]),
    ...(maximum === undefined ? [] : [`of at most ${maximum}`]),
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(below === undefined ? [] : [`below ${below}`]),
  ];
  return parts.length > 0 ? ` ${parts.join(" and ")}` : "";
}

function quote(value: unknown): string {
  return typeof value === "string" ? `'${value}'` : (JSON.stringify(value) ?? String(value));
}

/**
 * Checks options against a schema and fills in defaults. Unknown keys are refused, with the nearest known ones named.
 *
 * @param who whose options these are, for messages: a technique, "step 2 (quantize-static)"
 * @param flags name options in messages as command-line flags
 * @throws PareError naming the first wrong option, what it takes and what it got
 */
export function parseOptions<S extends z.ZodObject>(
  schema: S,
  input: Readonly<Record<string, unknown>>,
  who: string,
  flags = false,
): z.output<S> {
  const fields = optionFields(schema);
  const named = (field: OptionField): string => (flags ? `--${field.flag}` : `'${field.key}'`);
  for (const key of Object.keys(input)) {
    if (fields.some((field) => field.key === key)) continue;
    const keys = fields.map((field) => field.key);
    fail(who, `unknown option '${key}'`, didYouMean(key, keys) || `Its options: ${keys.join(", ") || "none"}`);
  }
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = fields.find(({ key }) => key === issue.path[0]);
  if (!field) return fail(who, issue.message);
  if (issue.code === "custom") return fail(who, `option ${named(field)}: ${issue.message}`);
  const value = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], input);
  if (value === undefined) return fail(who, `option ${named(field)} is missing`, `It takes ${expectation(field)}`);
  const wanted = issue.path.length > 1 && field.items ? field.items : field;
  const near = typeof value === "string" ? didYouMean(value, wanted.choices.map(String)) : "";
  return fail(who, `option ${named(field)} must be ${expectation(wanted)}, got ${quote(value)}`, near);
}

/**
 * A flag's text as the value an option takes: numbers and truth values where the option has those types, lists split at
 * commas (a regular expression between slashes is kept whole), mappings as JSON or as `name=value,name=value`. Text that fits nothing stays text, for
 * {@link parseOptions} to refuse.
 */
export function valueOfText(field: OptionField, text: string): unknown {
  const scalar = field.types.length > 1 && !text.includes(",");
  if (field.types.includes("array") && !scalar) {
    const parts = text.startsWith("/") ? [text] : text.split(",").map((part) => part.trim());
    return parts.filter((part) => part !== "").map((part) => (field.items ? valueOfText(field.items, part) : part));
  }
  if (field.choices.includes(text)) return text;
  const choice = field.choices.find((known) => String(known) === text);
  if (choice !== undefined) return choice;
  const numeric = field.types.includes("number") || field.types.includes("integer");
  if (numeric && text.trim() !== "" && !Number.isNaN(Number(text))) return Number(text);
  if (field.types.includes("boolean") && (text === "true" || text === "false")) return text === "true";
  if (field.types.includes("null") && text === "null") return null;
  return field.types.includes("object") ? parseMapping(text) : text;
}

function parseMapping(text: string): unknown {
  const pairs = text.split(",").map((pair) => /^\s*([^={]+)=(.+)$/.exec(pair));
  if (pairs.every((pair) => pair !== null)) {
    return Object.fromEntries(
      pairs.map(([, name, value]) => [name, Number.isNaN(Number(value)) ? value : Number(value)]),
    );
  }
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
