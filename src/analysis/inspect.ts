import { requiredInputs, syntheticFeeds } from "../data/synthetic.ts";
import { messageOf, PareError } from "../errors.ts";
import { type Dim, type Graph, type Node, nodeLabel, opKey, type Type, type Value } from "../graph/graph.ts";
import { consumersOf } from "../graph/walk.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { type Random, random } from "../random.ts";
import { type BytesByType, costs, type Types } from "./cost.ts";
import { duplicateWeights, transposedWeights } from "./duplicates.ts";
import { inferTypes, knownTypes, withDims } from "./infer.ts";
import { type Layer, layersOf } from "./layers.ts";
import { type Timing, timeNodes } from "./timing.ts";

/** Number of the inspection's layout. */
export const inspectionVersion = 1;

/** A model input or output. */
export interface Port {
  readonly name: string;
  /** An element type, or the kind of a value that is no tensor. */
  readonly type: string;
  readonly shape?: readonly Dim[];
}

/** One node. */
export interface NodeInspection {
  /** {@link nodeLabel}: what include and exclude options call it. */
  readonly name: string;
  readonly op: string;
  readonly parameters: number;
  readonly bytes: number;
  readonly byType: BytesByType;
  /** Absent where unknown, with the reason. */
  readonly macs?: number;
  readonly flops?: number;
  readonly unknown?: string;
  /** Bytes of its outputs in one run; absent where a shape is unknown. */
  readonly activationBytes?: number;
  /** Shape of its first output; absent where unknown. */
  readonly shape?: readonly number[];
  /** Milliseconds of one run; absent where not measured, or where the runtime fused it into another node. */
  readonly ms?: number;
}

/** What one technique could do to the model. */
export interface Applicability {
  readonly technique: string;
  readonly summary: string;
  /** Labels of the nodes it could change. */
  readonly nodes: readonly string[];
  /** Nodes it leaves alone, by reason, most frequent first. */
  readonly left: readonly { readonly reason: string; readonly nodes: readonly string[] }[];
}

/** Everything {@link inspect} finds: plain JSON. */
export interface Inspection {
  readonly version: typeof inspectionVersion;
  readonly name: string;
  readonly opsets: Readonly<Record<string, number>>;
  readonly irVersion: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** How often each operator occurs, nested subgraphs not counted. */
  readonly operators: Readonly<Record<string, number>>;
  /** Where shapes come from: a run, the runtime's inference, or weights and inputs alone; and the inputs' sizes. */
  readonly shapes: {
    readonly source: "run" | "inference" | "none";
    readonly inputs: Readonly<Record<string, readonly Dim[]>>;
    /** Why not a better source. */
    readonly reason?: string;
  };
  readonly totals: {
    readonly nodes: number;
    readonly parameters: number;
    readonly bytes: number;
    readonly byType: BytesByType;
    /** Sum of the known; a lower bound where `unknownNodes` is above 0. */
    readonly macs: number;
    readonly flops: number;
    readonly unknownNodes: number;
    readonly activationBytes: number;
    /** Most bytes of activations alive at one time, and the node during which. */
    readonly peak: { readonly bytes: number; readonly node: string };
  };
  /** Absent where not measured, with the reason. */
  readonly timing?: {
    readonly runtime: string;
    readonly provider: string;
    readonly threads: number;
    readonly runs: number;
    /** Milliseconds of one run: all kernels together, and by the clock. */
    readonly kernels: number;
    readonly wall: number;
    /** Kernels of the runtime's own (changes of layout, say) by operator, milliseconds of one run. */
    readonly added: Readonly<Record<string, number>>;
  };
  readonly untimed?: string;
  readonly nodes: readonly NodeInspection[];
  readonly layers: readonly Layer[];
  /** Weights stored more than once with the same content: names, and the bytes that storing one would free. */
  readonly duplicates: readonly { readonly weights: readonly string[]; readonly bytes: number }[];
  /** Pairs of matrices, one the transpose of the other. */
  readonly transposed: readonly { readonly weights: readonly string[]; readonly bytes: number }[];
  /** Weights that several nodes read. */
  readonly shared: readonly { readonly weight: string; readonly nodes: readonly string[]; readonly bytes: number }[];
  /** What `simplify` would take away; absent where it was not tried, with the reason. */
  readonly removable?: { readonly nodes: number; readonly bytes: number };
  readonly unsimplified?: string;
  readonly techniques: readonly Applicability[];
}

/** What {@link inspect} may use. */
export interface InspectOptions {
  /** Without a runtime shapes are unknown behind the inputs. */
  readonly runtime?: Runtime;
  /** One sample; made up where absent. */
  readonly feeds?: Tensors;
  /** Sizes of named free dimensions, for made-up samples; other free dimensions are 1. */
  readonly dims?: Readonly<Record<string, number>>;
  readonly random?: Random;
  /** Measure times, which needs a session with all weights; true by default. */
  readonly time?: boolean;
  /** Weights beyond this many bytes are not loaded: nothing is run and `simplify` is not tried; 1 GiB by default. */
  readonly limit?: number;
  /** Techniques to ask where they apply. */
  readonly techniques?: readonly {
    readonly name: string;
    readonly summary: string;
    readonly applies?: (node: Node, graph: Graph) => true | string;
  }[];
  /** Simplifies the graph, for what could be removed; not tried where absent. */
  readonly simplified?: (graph: Graph) => Promise<Graph>;
}

const smallestListed = 256;

/**
 * Where a model's bytes, parameters, arithmetic, time and memory are. Without `time` no weight is loaded whatever the
 * model's size: shapes come from the runtime's inference, and only samples of equally shaped weights are read to find
 * duplicates.
 */
export async function inspect(graph: Graph, options: InspectOptions = {}): Promise<Inspection> {
  const large = [...graph.weights.values()].reduce((sum, t) => sum + t.byteLength, 0) > (options.limit ?? 2 ** 30);
  const { types, timing, ...shapes } = await typesAndTiming(graph, options, large);
  const cost = costs(graph, types);
  const { weightBytes: byType, macs, flops, parameters, unknown, activationBytes, peak } = cost;
  const bytes = sum(byType);
  return {
    version: inspectionVersion,
    name: graph.name,
    opsets: graph.opsets,
    irVersion: graph.irVersion,
    metadata: graph.metadata,
    inputs: requiredInputs(graph).map(port),
    outputs: graph.outputs.map(port),
    operators: operators(graph),
    shapes: shapes.shapes,
    totals: {
      nodes: graph.nodes.length,
      parameters,
      bytes,
      byType,
      macs,
      flops,
      unknownNodes: unknown,
      activationBytes,
      peak,
    },
    ...(timing && options.runtime && { timing: timingOf(timing, options.runtime) }),
    ...(shapes.untimed !== undefined && { untimed: shapes.untimed }),
    nodes: cost.nodes.map((node) => nodeInspection(node, types, timing)),
    layers: layersOf(graph, cost.nodes, timing?.nodes),
    ...redundancy(graph),
    ...(await removable(graph, options, large, bytes)),
    techniques: (options.techniques ?? []).flatMap(({ name, summary, applies }) =>
      applies ? [applicability(graph, name, summary, applies)] : [],
    ),
  };
}

interface Found {
  readonly types: Types;
  readonly timing?: Timing;
  readonly shapes: Inspection["shapes"];
  readonly untimed?: string;
}

/** The best types there are: observed in a run, else inferred, else those of inputs and weights. */
async function typesAndTiming(graph: Graph, options: InspectOptions, large: boolean): Promise<Found> {
  const { runtime, feeds, dims = {}, time = true } = options;
  if (!runtime) {
    return { types: knownTypes(graph), shapes: { source: "none", inputs: {}, reason: "no runtime given" } };
  }
  let untimed = large ? "its weights are larger than the limit" : "not asked for";
  if (time && !large) {
    try {
      const sample = feeds ?? syntheticFeeds(graph, options.random ?? random(0), { dims });
      const types = await observeTypes(graph, runtime, sample);
      const timing = await timeNodes(graph, runtime, sample);
      return { types, timing, shapes: { source: "run", inputs: shapesOf(sample) } };
    } catch (error) {
      if (!(error instanceof PareError)) throw error;
      untimed = messageOf(error);
    }
  }
  const fixed = { ...graph, inputs: graph.inputs.map((input) => concreteInput(input, dims, feeds)) };
  const inputs = Object.fromEntries(
    requiredInputs(fixed).map(({ name, type }) => [name, (type?.kind === "tensor" && type.shape) || []]),
  );
  try {
    const types = await inferTypes(fixed, runtime);
    return { types, shapes: { source: "inference", inputs }, untimed };
  } catch (error) {
    if (!(error instanceof PareError)) throw error;
    return { types: knownTypes(fixed), shapes: { source: "none", inputs, reason: messageOf(error) }, untimed };
  }
}

/** An input with every free dimension given a size: that of the feed, of `dims`, or 1. */
function concreteInput(input: Value, dims: Readonly<Record<string, number>>, feeds?: Tensors): Value {
  const { name, type } = withDims(input, dims);
  if (type?.kind !== "tensor" || !type.shape) return input;
  const fed = feeds?.[name]?.shape;
  return { name, type: { ...type, shape: fed ?? type.shape.map((dim) => (typeof dim === "number" ? dim : 1)) } };
}

function shapesOf(feeds: Tensors): Record<string, readonly number[]> {
  return Object.fromEntries(Object.entries(feeds).map(([name, { shape }]) => [name, shape]));
}

function nodeInspection(
  cost: ReturnType<typeof costs>["nodes"][number],
  types: Types,
  timing: Timing | undefined,
): NodeInspection {
  const { node, parameters, weightBytes, macs, flops, outputBytes, unknown } = cost;
  const shape = types.get(node.outputs[0] ?? "")?.shape;
  const ms = timing?.nodes.get(node);
  return {
    name: nodeLabel(node),
    op: opKey(node),
    parameters,
    bytes: sum(weightBytes),
    byType: weightBytes,
    ...(macs !== undefined && { macs }),
    ...(flops !== undefined && { flops }),
    ...(unknown !== undefined && { unknown }),
    ...(outputBytes !== undefined && { activationBytes: outputBytes }),
    ...(shape?.every((dim) => typeof dim === "number") && { shape: shape as readonly number[] }),
    ...(ms !== undefined && { ms }),
  };
}

function timingOf(
  { added, total, wall, runs }: Timing,
  { name, provider, threads }: Runtime,
): NonNullable<Inspection["timing"]> {
  return { runtime: name, provider, threads, runs, kernels: total, wall, added: Object.fromEntries(added) };
}

function redundancy(graph: Graph): Pick<Inspection, "duplicates" | "transposed" | "shared"> {
  const bytesOf = (name: string): number => graph.weights.get(name)!.byteLength;
  const listed = new Map([...graph.weights].filter(([name]) => bytesOf(name) >= smallestListed));
  const groups = duplicateWeights(listed);
  const again = new Set(groups.flatMap((names) => names.slice(1)));
  const distinct = new Map([...listed].filter(([name]) => !again.has(name)));
  return {
    duplicates: groups.map((weights) => ({ weights, bytes: (weights.length - 1) * bytesOf(weights[0]!) })),
    transposed: transposedWeights(distinct).map((weights) => ({ weights, bytes: bytesOf(weights[0]) })),
    shared: [...listed.keys()].flatMap((weight) => {
      const readers = consumersOf(graph, weight);
      return readers.length > 1 ? [{ weight, nodes: readers.map(nodeLabel), bytes: bytesOf(weight) }] : [];
    }),
  };
}

async function removable(
  graph: Graph,
  { simplified }: InspectOptions,
  large: boolean,
  bytes: number,
): Promise<Pick<Inspection, "removable" | "unsimplified">> {
  if (!simplified) return {};
  if (large) return { unsimplified: "its weights are larger than the limit" };
  try {
    const small = await simplified(graph);
    const left = [...small.weights.values()].reduce((total, t) => total + t.byteLength, 0);
    return { removable: { nodes: graph.nodes.length - small.nodes.length, bytes: bytes - left } };
  } catch (error) {
    if (!(error instanceof PareError)) throw error;
    return { unsimplified: messageOf(error) };
  }
}

function applicability(
  graph: Graph,
  technique: string,
  summary: string,
  applies: (node: Node, graph: Graph) => true | string,
): Applicability {
  const nodes: string[] = [];
  const left = new Map<string, string[]>();
  for (const node of graph.nodes) {
    const answer = applies(node, graph);
    if (answer === true) nodes.push(nodeLabel(node));
    else left.set(answer, [...(left.get(answer) ?? []), nodeLabel(node)]);
  }
  const reasons = [...left].map(([reason, labels]) => ({ reason, nodes: labels }));
  return { technique, summary, nodes, left: reasons.toSorted((a, b) => b.nodes.length - a.nodes.length) };
}

function operators(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const node of graph.nodes) counts[opKey(node)] = (counts[opKey(node)] ?? 0) + 1;
  return counts;
}

function port({ name, type }: Value): Port {
  return { name, type: typeName(type), ...(type?.kind === "tensor" && type.shape && { shape: type.shape }) };
}

function typeName(type: Type | undefined): string {
  if (!type) return "unknown";
  switch (type.kind) {
    case "tensor":
      return type.dtype;
    case "sparse":
      return `sparse ${type.dtype}`;
    case "sequence":
    case "optional":
      return `${type.kind} of ${typeName(type.element)}`;
    case "map":
      return `map of ${type.key} to ${typeName(type.value)}`;
    default:
      return "other";
  }
}

function sum(bytes: BytesByType): number {
  return Object.values(bytes).reduce((a, b) => a + b, 0);
}
