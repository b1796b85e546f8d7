import { parse } from "yaml";
import { z } from "zod";
import { didYouMean, fail, messageOf } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { jsonSchema, parseOptions } from "../options.ts";
import { techniques } from "../techniques/index.ts";
import type { Context, Step, Technique } from "../techniques/technique.ts";

/** A user's own step, as a JavaScript recipe may hold one. */
export type StepFunction = (graph: Graph, context: Context) => Graph | Promise<Graph>;

/** Steps in order, with what a report should call them. */
export interface Recipe {
  readonly name?: string;
  readonly description?: string;
  /** Seed of all randomness; the command line's `--seed` goes before it. */
  readonly seed?: number;
  readonly steps: readonly Step[];
}

/** A recipe as written: a step is a technique's name, `{ name: options }`, or in JavaScript a step or a function. */
const recipeSchema = z.strictObject({
  name: z.string().optional().describe("what the report calls it"),
  description: z.string().optional().describe("a sentence for the reader"),
  seed: z.int().min(0).optional().describe("seed of all randomness"),
  steps: z.array(z.unknown()).min(1).describe("techniques in order"),
});

type Table = Readonly<Record<string, Technique>>;

/**
 * Reads a recipe written in YAML or JSON.
 *
 * @param who the file, for messages
 * @throws PareError naming the line that is not YAML, or the step and key that are wrong
 */
export function readRecipe(text: string, who: string, table: Table = techniques): Recipe {
  let value: unknown;
  try {
    value = parse(text, { prettyErrors: true });
  } catch (error) {
    fail(who, `not YAML: ${messageOf(error).trim()}`, "Check indentation and colons", error);
  }
  return parseRecipe(value, who, table);
}

/**
 * A recipe from plain data: a mapping with `steps`, or the list of steps alone.
 *
 * @param who the file, for messages
 * @throws PareError naming the step and key that are wrong, with the nearest known names
 */
export function parseRecipe(value: unknown, who: string, table: Table = techniques): Recipe {
  const whole = Array.isArray(value) ? { steps: value } : value;
  if (typeof whole !== "object" || whole === null) {
    return fail(who, "a recipe is a mapping with a list 'steps'", "See `pare schema`");
  }
  const { steps, name, description, seed } = parseOptions(recipeSchema, whole as Record<string, unknown>, who);
  return {
    ...(name !== undefined && { name }),
    ...(description !== undefined && { description }),
    ...(seed !== undefined && { seed }),
    steps: steps.map((step, index) => stepOf(step, `${who}, step ${index + 1}`, table)),
  };
}

function stepOf(value: unknown, who: string, table: Table): Step {
  if (typeof value === "function") return functionStep(value);
  if (typeof value === "string") return bound(value, {}, who, table);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return fail(who, `a technique's name or 'name: options' is needed, got ${JSON.stringify(value)}`);
  }
  if ("apply" in value && typeof value.apply === "function") return value as Step;
  const entries = Object.entries(value as Record<string, unknown>);
  const [name, options] = entries[0] ?? [];
  if (name === undefined || entries.length > 1) {
    return fail(
      who,
      `one technique a step, got keys ${entries.map(([key]) => `'${key}'`).join(", ") || "of nothing"}`,
      "Indent a technique's options below its name",
    );
  }
  if (options !== null && (typeof options !== "object" || Array.isArray(options))) {
    return fail(`${who} (${name})`, `options are a mapping, got ${JSON.stringify(options)}`);
  }
  return bound(name, (options ?? {}) as Record<string, unknown>, who, table);
}

function bound(name: string, options: Readonly<Record<string, unknown>>, who: string, table: Table): Step {
  const known = Object.hasOwn(table, name) ? table[name] : undefined;
  if (!known) {
    const names = Object.keys(table);
    return fail(who, `unknown technique '${name}'`, didYouMean(name, names) || `There are: ${names.join(", ")}`);
  }
  return known(parseOptions(known.options, options, `${who} (${name})`));
}

/** A function as a step; its source text stands for its options, so that a changed function is another step. */
function functionStep(apply: unknown): Step {
  const call = apply as StepFunction;
  return {
    name: call.name || "function",
    options: { source: String(call) },
    apply: async (graph, context) => call(graph, context),
  };
}

/** The JSON Schema of recipe files, for editors: every technique with its options. */
export function recipeJsonSchema(table: Table = techniques): Readonly<Record<string, unknown>> {
  const steps = Object.values(table).map(({ name, summary, options }) => ({
    type: "object",
    description: summary,
    properties: { [name]: { ...nested(options), additionalProperties: false } },
    required: [name],
    additionalProperties: false,
  }));
  const names = { type: "string", enum: Object.keys(table), description: "a technique with its defaults" };
  const { properties, ...rest } = jsonSchema(recipeSchema) as { properties: { steps: object } };
  return {
    title: "pare recipe",
    ...rest,
    properties: { ...properties, steps: { ...properties.steps, items: { anyOf: [names, ...steps] } } },
  };
}

function nested(options: z.ZodObject): Record<string, unknown> {
  const { $schema: _, ...schema } = jsonSchema(options);
  return schema;
}
