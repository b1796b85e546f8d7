import { type Command, InvalidArgumentError, Option } from "commander";
import type { z } from "zod";
import { expectation, type OptionField, optionFields, parseOptions, valueOfText } from "../options.ts";

/**
 * Adds a flag for every option of a schema: `--no-x` for truth values that are on by default, lists by repeating the
 * flag or with commas.
 */
export function addFlags(command: Command, schema: z.ZodObject): void {
  for (const field of optionFields(schema)) {
    for (const option of flagsOf(field)) command.addOption(option);
  }
}

/** What the user gave of a schema's options, checked and completed. */
export function readFlags<S extends z.ZodObject>(command: Command, schema: S): z.output<S> {
  const given = optionFields(schema)
    .filter(({ key }) => command.getOptionValueSource(key) === "cli")
    .map(({ key }) => [key, command.getOptionValue(key) as unknown]);
  return parseOptions(schema, Object.fromEntries(given), `pare ${command.name()}`, true);
}

function flagsOf(field: OptionField): Option[] {
  const { flag, description, types, choices } = field;
  if (types.includes("boolean") && types.length === 1 && choices.length === 0) {
    const on = new Option(`--${flag}`, description);
    const off = new Option(`--no-${flag}`, field.default === true ? `turn off: ${description}` : "");
    return field.default === true ? [off, on.hideHelp()] : [on, off.hideHelp()];
  }
  const option = new Option(`--${flag} <${valueName(field)}>`, help(field));
  const list = types.includes("array");
  option.argParser((text: string, previous: unknown) => {
    const value = valueOfText(field, text);
    return list && Array.isArray(previous) && Array.isArray(value) ? [...previous, ...value] : value;
  });
  return [option];
}

function valueName({ types, choices, items }: OptionField): string {
  if (types.includes("array")) return items?.types.includes("string") ? "patterns" : "list";
  if (choices.length > 0) return types.length > 0 ? "value" : "choice";
  return types.includes("number") || types.includes("integer") ? "number" : types.includes("object") ? "json" : "text";
}

/** A flag's help: its description, what it takes and its default. */
function help(field: OptionField): string {
  const notes: string[] = [];
  const wanted = expectation(field);
  if (field.types.length === 0) notes.push(field.choices.join(", "));
  else if (!field.types.includes("array") && !["text", "a number"].includes(wanted)) notes.push(wanted);
  const empty = field.default === undefined || (Array.isArray(field.default) && field.default.length === 0);
  if (!empty)
    notes.push(`default: ${typeof field.default === "string" ? field.default : JSON.stringify(field.default)}`);
  return [field.description, notes.length > 0 ? `(${notes.join("; ")})` : ""].filter(Boolean).join(" ");
}

/** Flags that many commands share. */
export interface CommonFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly threads?: number;
  readonly seed?: number;
  readonly device?: string;
}

const common = {
  json: () => new Option("--json", "print one JSON object on stdout, and nothing else there"),
  quiet: () => new Option("-q, --quiet", "no progress and no notes on stderr"),
  threads: () => new Option("--threads <number>", "threads inside an operator (default: all cores)").argParser(count),
  seed: () => new Option("--seed <number>", "seed of all randomness").argParser(wholeNumber).default(0),
  device: () =>
    new Option("--device <provider>", "execution provider: cpu, cuda, webgpu, coreml, dml, ...").default("cpu", "cpu"),
} as const;

/** Adds shared flags, in the given order. */
export function addCommon(command: Command, ...names: readonly (keyof typeof common)[]): Command {
  for (const name of names) command.addOption(common[name]());
  return command;
}

/** Parses a positive integer given to a flag. */
export function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("It takes an integer of at least 1.");
  return value;
}

/** Parses an integer from 0 given to a flag. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("It takes an integer of at least 0.");
  return value;
}

/** Parses a share given as "1%" or "0.01"; 1 alone could mean one per cent or all. */
export function share(text: string): number {
  const percent = text.endsWith("%");
  const digits = percent ? text.slice(0, -1) : text;
  const value = digits.trim() === "" ? Number.NaN : Number(digits) / (percent ? 100 : 1);
  if (!(value >= 0 && value <= 1) || (value === 1 && !percent))
    throw new InvalidArgumentError("It takes a share: 1% or 0.01.");
  return value;
}

/** Parses a time such as "90", "90s" or "2m", in seconds. */
export function seconds(text: string): number {
  const found = /^(\d+(?:\.\d+)?)(s|m|h)?$/.exec(text);
  if (!found) throw new InvalidArgumentError("It takes a time: 90s, 2m or 1h.");
  return Number(found[1]) * { s: 1, m: 60, h: 3600 }[(found[2] ?? "s") as "s" | "m" | "h"];
}
