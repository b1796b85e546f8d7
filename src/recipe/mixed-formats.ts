import { didYouMean, fail, PareError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { techniques } from "../techniques/index.ts";
import { quantizedAlone } from "../techniques/quantize-static/alone.ts";
import type { Context } from "../techniques/technique.ts";
import type { Layer } from "./mixed-layers.ts";
import type { PlanStep } from "./plans.ts";

/** What a layer may be in, beside float. */
export interface Format {
  readonly name: string;
  /** Bits of a weight. */
  readonly bits: number;
  /** Calibration samples are needed. */
  readonly data: boolean;
  /** What brings the layers of these nodes into this format; all others stay as they are. */
  step(nodes: readonly string[], others: readonly string[]): PlanStep;
  /** The graph with each of the layers alone in this format, one after the other; undefined where that changes nothing. */
  alone(graph: Graph, layers: readonly Layer[], context: Context): AsyncIterable<Graph | undefined>;
}

/** Weights alone in few bits; without data, since every layer would have to be looked at anew. */
function weights(bits: number, more: Readonly<Record<string, unknown>> = {}): Format {
  const step = (include: readonly string[]): PlanStep => ["quantize-weights", { bits, ...more, include }];
  return {
    name: `weights${bits}`,
    bits,
    data: false,
    step,
    alone: (graph, layers, { data: _, ...context }) => oneByOne(graph, layers, step, context),
  };
}

const dynamicStep = (include: readonly string[]): PlanStep => ["quantize-dynamic", { include }];

/** In the order in which they are applied: what calibrates sees the others still in float. */
const rows: readonly Format[] = [
  {
    name: "int8",
    bits: 8,
    data: true,
    // nodes between the layers are to go with them, so the choice is made by what stays
    step: (_, others) => ["quantize-static", { protect: false, ...(others.length > 0 && { exclude: others }) }],
    alone: (graph, layers, context) =>
      quantizedAlone(
        graph,
        { target: "size" },
        layers.map(({ nodes }) => new Set(nodes)),
        context,
      ),
  },
  {
    name: "dynamic8",
    bits: 8,
    data: false,
    step: dynamicStep,
    alone: (graph, layers, context) => oneByOne(graph, layers, dynamicStep, context),
  },
  weights(8, { granularity: "channel" }),
  weights(4),
  weights(3),
  weights(2),
];

/** Names of all formats. */
export const formatNames: readonly string[] = rows.map(({ name }) => name);

/**
 * The formats of some names, in the order in which they are applied.
 *
 * @throws PareError for an unknown name
 */
export function formatsOf(names: readonly string[]): readonly Format[] {
  const unknown = names.find((name) => !formatNames.includes(name));
  if (unknown !== undefined) {
    const hint = didYouMean(unknown, formatNames) || `There are ${formatNames.join(", ")}`;
    fail("formats", `unknown format '${unknown}'`, hint);
  }
  return rows.filter(({ name }) => names.includes(name));
}

/** The steps that bring every layer into its format; "float" is none. */
export function stepsFor(layers: readonly Layer[], formats: readonly string[]): PlanStep[] {
  return rows.flatMap((format) => {
    const within = (wanted: boolean): string[] =>
      layers.flatMap(({ nodes }, i) => ((formats[i] === format.name) === wanted ? nodes : []));
    const nodes = within(true);
    return nodes.length === 0 ? [] : [format.step(nodes, within(false))];
  });
}

async function* oneByOne(
  graph: Graph,
  layers: readonly Layer[],
  step: (nodes: readonly string[]) => PlanStep,
  context: Context,
): AsyncGenerator<Graph | undefined> {
  for (const { nodes } of layers) {
    const [name, options] = step(nodes);
    const made = await applied(graph, name, options, context);
    yield made === graph ? undefined : made;
  }
}

/** What a technique makes of the graph, said to nobody; the graph itself where it refuses. */
async function applied(
  graph: Graph,
  name: string,
  options: Readonly<Record<string, unknown>>,
  context: Context,
): Promise<Graph> {
  try {
    return await techniques[name]!(options).apply(graph, { ...context, log() {}, progress() {}, skip() {}, show() {} });
  } catch (error) {
    if (context.signal.aborted || !(error instanceof PareError)) throw error;
    return graph;
  }
}
