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
  /** How activations are rounded to 8 bits: to a range fixed beforehand, or to one of their own; not at all if absent. */
  readonly activations?: "fixed" | "own";
  /** The graph with each of the layers alone in this format, one after the other; undefined where that changes nothing. */
  alone(graph: Graph, layers: readonly Layer[], context: Context): AsyncIterable<Graph | undefined>;
}

/** What formats are chosen for: integers that save no time may still save bytes. */
export type Purpose = "latency" | "size";

/** Formats that one step brings layers into. */
interface Family {
  readonly formats: readonly Format[];
  /**
   * @param nodes those of the layers that are to be in a format
   * @param others those of the layers that are to be in none of the family
   */
  step(nodes: (format: string) => readonly string[], others: readonly string[], purpose: Purpose): PlanStep;
}

const fewBits = 4;

/** 8-bit activations. Nodes between the layers are to go with them, so the choice is made by what stays. */
const integers: Family = {
  formats: [
    staticFormat("int8", 8, {}),
    staticFormat("w4a8", fewBits, { weightBits: fewBits, keepEnds: false, packed: true }),
  ],
  step(nodes, others, target) {
    const few = nodes("w4a8");
    const own = few.length > 0 && { packed: true, layerBits: Object.fromEntries(few.map((name) => [name, fewBits])) };
    return ["quantize-static", { protect: false, target, ...own, ...(others.length > 0 && { exclude: others }) }];
  },
};

function staticFormat(name: string, bits: number, settings: Readonly<Record<string, unknown>>): Format {
  return {
    name,
    bits,
    activations: "fixed",
    alone(graph, layers, context) {
      const choices = layers.map(({ nodes }) => new Set(nodes));
      return quantizedAlone(graph, { target: "size", ...settings }, choices, context);
    },
  };
}

/** Without data: techniques that look at some would do so anew for every layer. */
function single(facts: Omit<Format, "alone">, step: (include: readonly string[]) => PlanStep): Family {
  const alone: Format["alone"] = (graph, layers, { data: _, ...context }) => oneByOne(graph, layers, step, context);
  return { formats: [{ ...facts, alone }], step: (nodes) => step(nodes(facts.name)) };
}

/** Weights alone in few bits. */
function weights(bits: number, more: Readonly<Record<string, unknown>> = {}): Family {
  return single({ name: `weights${bits}`, bits }, (include) => ["quantize-weights", { bits, ...more, include }]);
}

/** Numbers that a weight must have to be quantized, unless a technique is told otherwise. */
const usualMinElements = 1024;

/** In the order in which they are applied: what calibrates sees the others still in float. */
function familiesOf(minElements: number): readonly Family[] {
  const own = minElements === usualMinElements ? {} : { minElements };
  return [
    integers,
    single({ name: "dynamic8", bits: 8, activations: "own" }, (include) => ["quantize-dynamic", { ...own, include }]),
    weights(8, { granularity: "channel", ...own }),
    weights(4, own),
    weights(3, own),
    weights(2, own),
  ];
}

/** Names of all formats. */
export const formatNames: readonly string[] = familiesOf(usualMinElements).flatMap(({ formats }) =>
  formats.map(({ name }) => name),
);

/**
 * The formats of some names, in the order in which they are applied.
 *
 * @param minElements numbers that a weight must have
 * @throws PareError for an unknown name
 */
export function formatsOf(names: readonly string[], minElements = usualMinElements): readonly Format[] {
  const unknown = names.find((name) => !formatNames.includes(name));
  if (unknown !== undefined) {
    const hint = didYouMean(unknown, formatNames) || `There are ${formatNames.join(", ")}`;
    fail("formats", `unknown format '${unknown}'`, hint);
  }
  return familiesOf(minElements).flatMap(({ formats }) => formats.filter(({ name }) => names.includes(name)));
}

/**
 * The steps that bring every layer into its format, one for all that a single step can do; "float" is none.
 *
 * @param minElements numbers that a weight must have
 */
export function stepsFor(
  layers: readonly Layer[],
  formats: readonly string[],
  purpose: Purpose,
  minElements = usualMinElements,
): PlanStep[] {
  const nodesOf = (wanted: (format: string) => boolean): string[] =>
    layers.flatMap(({ nodes }, i) => (wanted(formats[i]!) ? nodes : []));
  return familiesOf(minElements).flatMap(({ formats: own, step }) => {
    const isOwn = (format: string): boolean => own.some(({ name }) => name === format);
    if (!formats.some(isOwn)) return [];
    return [
      step(
        (name) => nodesOf((format) => format === name),
        nodesOf((format) => !isOwn(format)),
        purpose,
      ),
    ];
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
