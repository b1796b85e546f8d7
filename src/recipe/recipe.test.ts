import { expect, test } from "vitest";
import { z } from "zod";
import { type Technique, technique } from "../techniques/technique.ts";
import { parseRecipe, readRecipe, recipeJsonSchema } from "./recipe.ts";

const shrink = technique({
  name: "shrink",
  summary: "Make it smaller.",
  options: z.object({
    ratio: z.number().min(0).max(1).default(0.5).describe("share removed"),
    mode: z.enum(["fast", "best"]).default("fast").describe("how hard to try"),
  }),
  data: "unused",
  apply: (graph) => graph,
});
const table = { shrink } as unknown as Readonly<Record<string, Technique>>;

test("steps are names, or names with options", () => {
  const recipe = readRecipe("name: two\nseed: 7\nsteps:\n  - shrink\n  - shrink: { ratio: 0.25 }\n", "r.yaml", table);
  expect(recipe).toMatchObject({ name: "two", seed: 7 });
  expect(recipe.steps.map(({ name, options }) => [name, options])).toEqual([
    ["shrink", { ratio: 0.5, mode: "fast" }],
    ["shrink", { ratio: 0.25, mode: "fast" }],
  ]);
});

test("a list of steps is a recipe, JSON is YAML", () => {
  expect(readRecipe('[{"shrink": {"mode": "best"}}]', "r.json", table).steps[0]!.options).toMatchObject({
    mode: "best",
  });
});

test("JavaScript recipes may hold steps and functions", async () => {
  const halve = (graph: unknown): unknown => graph;
  const { steps } = parseRecipe({ steps: [shrink({ ratio: 0.1 }), halve] }, "r.js", table);
  expect(steps.map(({ name }) => name)).toEqual(["shrink", "halve"]);
  expect(steps[1]!.options).toEqual({ source: String(halve) });
});

test.each([
  ["steps: [shrnk]", "r.yaml, step 1: unknown technique 'shrnk'. Did you mean 'shrink'?"],
  ["steps: [{shrink: {ration: 1}}]", "r.yaml, step 1 (shrink): unknown option 'ration'. Did you mean 'ratio'?"],
  [
    "steps: [shrink, {shrink: {ratio: 3}}]",
    "r.yaml, step 2 (shrink): option 'ratio' must be a number between 0 and 1, got 3.",
  ],
  ["steps: [{shrink: {mode: bst}}]", "must be one of 'fast', 'best', got 'bst'. Did you mean 'best'"],
  ["steps: [{shrink: 4}]", "r.yaml, step 1 (shrink): options are a mapping, got 4."],
  ["steps: [{shrink: {}, other: {}}]", "r.yaml, step 1: one technique a step, got keys 'shrink', 'other'."],
  ["steps: [7]", "r.yaml, step 1: a technique's name or 'name: options' is needed, got 7."],
  ["steps: []", "r.yaml: option 'steps' must be"],
  ["stepps: [shrink]", "r.yaml: unknown option 'stepps'. Did you mean 'steps'?"],
  ["hello", "r.yaml: a recipe is a mapping with a list 'steps'."],
  ["steps: [", "r.yaml: not YAML: "],
])("%s is refused", (text, message) => {
  expect(() => readRecipe(text, "r.yaml", table)).toThrow(message);
});

test("the JSON Schema knows every technique and its options", () => {
  const schema = recipeJsonSchema(table) as { properties: { steps: { items: { anyOf: unknown[] } } } };
  expect(schema.properties.steps.items.anyOf).toMatchObject([
    { enum: ["shrink"] },
    { properties: { shrink: { properties: { ratio: { maximum: 1 } }, additionalProperties: false } } },
  ]);
});
