import { z } from "zod";
import { mapBodies, typesOf } from "../../analysis/bodies.ts";
import { withDims } from "../../analysis/infer.ts";
import type { Graph } from "../../graph/graph.ts";
import { nodeLabel } from "../../graph/graph.ts";
import { selectionOptions, selector } from "../selection.ts";
import { type Context, technique } from "../technique.ts";
import { constantNodes, foldConstants } from "./constants.ts";
import { constantBranches } from "./control.ts";
import { cancellingPairs, identities } from "./identities.ts";
import { foldFollowing, foldPreceding } from "./linear.ts";
import { foldPadding } from "./padding.ts";
import type { Facts, Pass } from "./pass.ts";
import { foldShapes } from "./shapes.ts";
import { commonSubexpressions, deadCode, defaultInputs, duplicates } from "./tidy.ts";

/** The passes, in the order they run; over and over until none finds anything. */
export const passes: readonly Pass[] = [
  defaultInputs,
  constantNodes,
  constantBranches,
  deadCode,
  identities,
  cancellingPairs,
  foldShapes,
  foldConstants,
  commonSubexpressions,
  foldPreceding,
  foldFollowing,
  foldPadding,
];

/** Passes that run once all others are done, since sharing weights stands in the way of changing them. */
const lastPasses: readonly Pass[] = [duplicates, commonSubexpressions, deadCode];

const names = [...new Set([...passes, ...lastPasses].map(({ name }) => name))] as [string, ...string[]];
const mostRounds = 50;

/**
 * Rewrites that change no result beyond float rounding, repeated until nothing is left to do: `passes` lists them.
 * Kept nodes keep their names, and every value keeps its name and meaning; inputs and outputs stay, but for inputs that
 * have a default weight.
 */
export const simplify = technique({
  name: "simplify",
  summary: "Fold, merge and remove what changes no result: constants, batch normalization, dead code, duplicates.",
  options: z.object({
    ...selectionOptions,
    off: z
      .array(z.enum(names))
      .default([])
      .describe(`passes to leave out: ${names.join(", ")}`),
    dims: z
      .record(z.string(), z.number().int().positive())
      .default({})
      .describe("sizes to fix for named free dimensions of the inputs, so that more folds"),
    maxGrowth: z
      .number()
      .int()
      .min(0)
      .default(65536)
      .describe("bytes by which the file may grow for a node that is computed ahead"),
  }),
  data: "unused",
  identity: { off: names },
  async apply(graph, options, context) {
    const inputs = graph.inputs.map((input) => withDims(input, options.dims));
    const fixed = inputs.every((input, i) => input === graph.inputs[i]) ? graph : { ...graph, inputs };
    const on = (pass: Pass): boolean => !options.off.includes(pass.name);
    const selected = selector(options);
    const reasons = new Set<string>();
    const skip: Facts["skip"] = (node, reason) => {
      const label = nodeLabel(node);
      if (!reasons.has(`${label}: ${reason}`)) context.skip(label, reason);
      reasons.add(`${label}: ${reason}`);
    };
    const settings: Settings = { context, selected, skip, maxGrowth: options.maxGrowth, on };
    return simplified(fixed, new Set(), settings);
  },
});

interface Settings extends Pick<Facts, "selected" | "skip" | "maxGrowth"> {
  readonly context: Context;
  on(pass: Pass): boolean;
}

async function simplified(graph: Graph, foreign: ReadonlySet<string>, settings: Settings): Promise<Graph> {
  const { context, selected, on } = settings;
  if (!names.some((name) => [...passes, ...lastPasses].some((pass) => pass.name === name && on(pass)))) return graph;
  let current = await untilStable(graph, foreign, settings);
  if (current.nodes.some(({ attributes }) => Object.values(attributes).some(({ type }) => type === "graph"))) {
    const types = await typesOf(current, context.runtime, context.log);
    const inside = await mapBodies(current, types, selected, (body, outer) => simplified(body, outer, settings));
    if (inside !== current) current = await untilStable(inside, foreign, settings);
  }
  return runOnce(current, lastPasses.filter(on), foreign, settings);
}

async function untilStable(graph: Graph, foreign: ReadonlySet<string>, settings: Settings): Promise<Graph> {
  const enabled = passes.filter(settings.on);
  let current = graph;
  for (let round = 0; round < mostRounds; round++) {
    const next = await runOnce(current, enabled, foreign, settings);
    if (next === current) break;
    current = next;
  }
  return current;
}

async function runOnce(
  graph: Graph,
  enabled: readonly Pass[],
  foreign: ReadonlySet<string>,
  { context, selected, skip, maxGrowth }: Settings,
): Promise<Graph> {
  const { runtime, log, signal } = context;
  const facts: Facts = { types: await typesOf(graph, runtime, log), runtime, selected, skip, maxGrowth, foreign };
  let current = graph;
  for (const pass of enabled) {
    signal.throwIfAborted();
    current = await pass.run(current, facts);
  }
  return current;
}
