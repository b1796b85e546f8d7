import type { z } from "zod";
import type { Dataset } from "../data/dataset.ts";
import type { Graph, Node } from "../graph/graph.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { Random } from "../random.ts";
import type { CheckpointStore } from "../training/checkpoint.ts";
import type { TrainRecord } from "../training/progress.ts";
import type { Exhibit } from "./exhibit.ts";

/** The only door from a technique to the world. */
export interface Context {
  readonly runtime: Runtime;
  /** Samples to calibrate and score with; absent when the user gave none. */
  readonly data?: Dataset;
  readonly random: Random;
  /** One line for the person watching. */
  log(message: string): void;
  /** How far a long step is, with what it counts ("batches", "layers"), and how it goes. */
  progress(done: number, total: number, what: string, detail?: string): void;
  /** Records that a node (its label) was left as it is, and why; the report shows it. */
  skip(node: string, reason: string): void;
  /** Hands over what was found out, for the report to show. */
  show(exhibit: Exhibit): void;
  /** For steps that train. */
  readonly training?: TrainingContext;
  /** Aborted on Ctrl-C: long work checks it between units and throws its reason. */
  readonly signal: AbortSignal;
}

/** What a step that trains takes beside the rest. */
export interface TrainingContext {
  /** Samples to learn from; those of the context if absent. */
  readonly data?: Dataset;
  /** The model to learn from; the one before the step if absent. */
  readonly teacher?: Graph;
  /** Where checkpoints are kept: a step that was killed continues from its last one. */
  readonly store?: CheckpointStore;
  /** A line of the metrics log. */
  record?(entry: TrainRecord): void;
}

/** One transformation of a graph: a technique with its options bound, or a user's own. */
export interface Step {
  readonly name: string;
  /** The options in full, defaults filled in; recorded in the report and the cache key. */
  readonly options: Readonly<Record<string, unknown>>;
  apply(graph: Graph, context: Context): Promise<Graph>;
}

/** How a technique is declared. Its command, flags, recipe schema, help and law tests are derived from this. */
export interface TechniqueSpec<Options extends z.ZodObject> {
  /** Kebab-case of the export. */
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** Every option with a default and `.describe(...)`. */
  readonly options: Options;
  /** Whether `context.data` is required, used when present, or never looked at. */
  readonly data: "required" | "optional" | "unused";
  /** Options under which the technique must change nothing (for the laws); absent where there are none. */
  readonly identity?: z.input<Options>;
  /**
   * Whether the technique with default options could change a node: true, or why it leaves the node alone. Looks at the
   * node and its weights' types and shapes, never at their content: `inspect` asks for every node of a large model.
   */
  readonly applies?: (node: Node, graph: Graph) => true | string;
  apply(graph: Graph, options: z.output<Options>, context: Context): Graph | Promise<Graph>;
}

/** A technique: call it with options to get a {@link Step}. */
export interface Technique<Options extends z.ZodObject = z.ZodObject> extends TechniqueSpec<Options> {
  (options?: z.input<Options>): Step;
}

/**
 * Declares a technique.
 *
 * @throws ZodError when the returned function is called with options that do not fit the schema
 */
export function technique<Options extends z.ZodObject>(spec: TechniqueSpec<Options>): Technique<Options> {
  const bind = (input?: z.input<Options>): Step => {
    const options = spec.options.parse(input ?? {}) as z.output<Options>;
    return { name: spec.name, options, apply: async (graph, context) => spec.apply(graph, options, context) };
  };
  const { name, ...rest } = spec;
  return Object.defineProperty(Object.assign(bind, rest), "name", { value: name }) as unknown as Technique<Options>;
}
